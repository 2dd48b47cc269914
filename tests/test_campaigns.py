"""The quick part of every campaign of tests/tools/campaigns.py: no attempt may end in a fault."""

import importlib.util
import sys
from pathlib import Path

import pytest

if sys.platform == "win32":
    pytest.skip("the campaigns need signals, forks and limits of POSIX", allow_module_level=True)

pytestmark = pytest.mark.slow  # Half a minute of processes that are started, killed and resumed.
PATH = Path(__file__).parent / "tools" / "campaigns.py"
QUICK = {
    "containers": 300,
    "model-files": 150,
    "pictures": 1000,
    "arrays": 1000,
    "texts": 30,
    "signals": 2,
    "kills": 1,
    "server": 12,
    "full-disk": 1,
    "two-runs": 1,
    "forks-and-threads": 2,
}


@pytest.fixture(scope="module")
def campaigns():
    spec = importlib.util.spec_from_file_location("campaigns", PATH)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


@pytest.mark.parametrize(("name", "attempts"), QUICK.items(), ids=QUICK)
def test_no_attempt_ends_in_a_fault(name, attempts, campaigns, monkeypatch):
    monkeypatch.setattr(campaigns.cache, "SECONDS_WITHOUT_DATA", 0.3)  # Which the campaign of the server sets.
    monkeypatch.setattr(campaigns, "EPOCHS_WITH_KILLS", 4)
    monkeypatch.setenv("no_proxy", "*")
    found = campaigns.attack(name, attempts, seconds=60, seed=1)
    assert found.total() > 0
    assert not [kind for kind in found if kind.startswith("fault")]


def test_every_campaign_has_a_quick_part(campaigns):
    # The option table is tests/cli/test_options.py, every single write takes minutes, and the fuzzers need atheris.
    left_out = {name for name in campaigns.CAMPAIGNS if name in ("options", "every-write") or name.startswith("fuzzer")}
    assert QUICK.keys() == campaigns.CAMPAIGNS.keys() - left_out
