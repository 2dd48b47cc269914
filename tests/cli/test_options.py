"""Every option of every command and example, with a table of bad values of its type: one line, and exit code 2."""

from option_table import try_all_options


def test_every_option_refuses_what_is_not_of_its_type(monkeypatch):
    tried, wrong = try_all_options(monkeypatch)
    assert not wrong, "\n".join(ascii(case)[:200] for case in wrong)
    assert tried > 900
