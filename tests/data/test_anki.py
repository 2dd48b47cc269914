"""Sentences: cleaning, files of pairs, their sources and hostile archives, text files, and the grammar."""

import hashlib
import http.server
import io
import os
import re
import threading
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyqae.data import anki, clean_sentence, clean_text, load_anki, load_text, synthetic_sentences
from tinyqae.data.anki import english_sentences
from tinyqae.errors import DataError

# A busy machine is no mistake of the code.
no_deadline = settings(deadline=None)

PAIRS = "Go.\tVa !\nI'm Tom's.\tJe suis à Tom.\nGo.\tBouge !\nIt's 7:30.\tIl est 7 h 30.\n".encode()
ATTRIBUTED = b"Go.\tVa !\tCC-BY 2.0 (France) #1\nRun!\tCours !\tCC-BY 2.0 (France) #2\n"
ALPHABET = set("abcdefghijklmnopqrstuvwxyz0123456789 ")

real_directory = os.environ.get("TINYQAE_DATA")
needs_anki = pytest.mark.skipif(
    not real_directory or not (Path(real_directory) / "fra-eng" / "fra.txt").is_file(),
    reason="TINYQAE_DATA does not name a directory with fra-eng/fra.txt",
)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", compression) as members:
        for name, content in files.items():
            members.writestr(zipfile.ZipInfo(name), content, compression)
    return archive.getvalue()


def store(directory: Path, content: bytes, language: str = "fra") -> Path:
    path = directory / f"{language}-eng" / f"{language}.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; like the real site, /anki/ is for browsers only."""

    def do_GET(self):
        self.server.sent.append((self.path, self.headers.get("Range")))
        content = self.server.files.get(self.path)
        if self.path.startswith("/anki/") and not self.headers.get("User-Agent", "").startswith("Mozilla/5.0"):
            self.send_error(406)
        elif content is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: self.server.cut.get(self.path)])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """The site with fra-eng.zip and deu-eng.zip, and the frozen copy with other sentences."""
    monkeypatch.setenv("no_proxy", "*")
    frozen = zipped({"fra-eng/fra.txt": b"Frozen.\tFroid.\n", "fra-eng/_about.txt": b"about"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.sent, server.cut = [], {}
        server.files = {
            "/anki/fra-eng.zip": zipped({"_about.txt": b"about", "fra.txt": ATTRIBUTED}),
            "/anki/deu-eng.zip": zipped({"_about.txt": b"about", "deu.txt": b"Hi.\tHallo!\tCC-BY\n"}),
            "/frozen/fra-eng.zip": frozen,
        }
        base = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(anki, "PAIRS_URL", base + "/anki/{language}-eng.zip")
        monkeypatch.setattr(anki, "FROZEN_URL", f"{base}/frozen/fra-eng.zip")
        monkeypatch.setattr(anki, "FROZEN_SHA1", hashlib.sha1(frozen).hexdigest())
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


# Cleaning


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("It's 7:30.", "its 730"),
        ("Where is YOUR daughter?", "where is your daughter"),
        ("He is well-liked.", "he is wellliked"),
        ("Mary's fiancé", "marys fianc"),
        ("I like R & B.", "i like r  b"),
        ("line\r\n", "line"),
        ("Ça !", "a "),
        ("", ""),
    ],
)
def test_clean_sentence(text, cleaned):
    assert clean_sentence(text) == cleaned


@no_deadline
@given(st.text())
def test_cleaned_text_stays_in_the_alphabet_and_cleaning_again_changes_nothing(text):
    cleaned = clean_sentence(text)
    assert set(cleaned) <= ALPHABET
    assert clean_sentence(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "cleaned", "lost"),
    [
        ("Où est le café?\tici", "ou est le cafe ici", 1),
        ("Ça va, NAÏVE Ångström", "ca va naive angstrom", 1),
        ("cafe\u0301 \u00a0x\u2003y", "cafe  x y", 0),
        ("Straße, ﬁn", "strasse fin", 1),
        ("日本 ok", " ok", 2),
        ("don't", "dont", 1),
        ("", "", 0),
    ],
)
def test_clean_text_keeps_letters_and_word_borders(text, cleaned, lost):
    assert clean_text(text) == (cleaned, lost)


@no_deadline
@given(st.text())
def test_cleaned_text_stays_in_the_alphabet(text):
    cleaned, lost = clean_text(text)
    assert set(cleaned) <= ALPHABET and lost >= 0
    assert clean_text(cleaned) == (cleaned, 0)


# Files of pairs


def test_two_and_three_columns():
    assert english_sentences(PAIRS, 9) == ("go", "im toms", "go", "its 730")
    assert english_sentences(ATTRIBUTED, 9) == ("go", "run")
    assert english_sentences(ATTRIBUTED.replace(b"\n", b"\r\n"), 9) == ("go", "run")


def test_only_the_first_lines_count():
    assert english_sentences(PAIRS, 2) == ("go", "im toms")
    assert english_sentences(PAIRS + b"no tab", 4) == ("go", "im toms", "go", "its 730")


def test_lines_of_which_nothing_remains_are_left_out():
    assert english_sentences(b"?!\tx\nA.\tb\n\n   \n - \tc\n", 9) == ("a",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Go.\tVa !\nno tab here\n", "line 2 has 1 columns"),
        (b"a\tb\tc\td\n", "line 1 has 4 columns"),
        (b"Go.\tVa \xff!\n", "not UTF-8 text: invalid start byte at byte 7"),
        (b"", "no sentence"),
        (b"?\t!\n", "no sentence"),
        (b"<html>please log in</html>", "line 1 has 1 columns"),
    ],
)
def test_no_file_of_pairs_is_a_data_error(content, message):
    with pytest.raises(DataError, match=message):
        english_sentences(content, 9)


@no_deadline
@given(st.one_of(st.binary(), st.text(alphabet="aZ9é\t\n\r \u2028?").map(str.encode)))
def test_any_bytes_are_sentences_or_a_data_error(content):
    try:
        sentences = english_sentences(content, 5)
    except DataError:
        return
    assert 1 <= len(sentences) <= 5
    assert all(sentence.strip() and set(sentence) <= ALPHABET for sentence in sentences)


@no_deadline
@given(st.lists(st.from_regex("[a-z0-9]{1,9}( [a-z0-9]{1,9}){0,2}", fullmatch=True), min_size=1), st.booleans())
def test_sentences_come_back_in_order(sentences, attributed):
    end = "\tCC-BY\n" if attributed else "\n"
    content = "".join(f"{sentence.title()}!\tx{end}" for sentence in sentences).encode()
    assert english_sentences(content, len(sentences)) == tuple(sentences)


# load_anki


def test_stored_file(server, tmp_path):
    path = store(tmp_path, PAIRS)
    data = load_anki(tmp_path)
    assert data.sentences == ("go", "im toms", "go", "its 730")
    assert data.name == "Anki fra-eng"
    assert data.sha256 == hashlib.sha256(PAIRS).hexdigest()
    assert data.source == "fra.txt in the data directory"
    assert server.sent == []
    assert path.read_bytes() == PAIRS


def test_number_of_lines_and_language(tmp_path):
    store(tmp_path, PAIRS, "deu")
    data = load_anki(tmp_path, language="deu", lines=2, download=False)
    assert data.sentences == ("go", "im toms")
    assert data.name == "Anki deu-eng"


def test_directory_from_environment(tmp_path, monkeypatch):
    store(tmp_path, PAIRS)
    monkeypatch.setenv("TINYQAE_DATA", str(tmp_path))
    assert len(load_anki(download=False).sentences) == 4


def test_bad_stored_file_is_named_and_kept(tmp_path):
    path = store(tmp_path, b"no tab")
    with pytest.raises(DataError, match=r"fra\.txt: line 1 has 1 columns .* Delete it"):
        load_anki(tmp_path)
    assert path.read_bytes() == b"no tab"


def test_from_the_site(server, tmp_path, capsys):
    data = load_anki(tmp_path / "new")
    assert data.sentences == ("go", "run")
    assert data.sha256 == hashlib.sha256(ATTRIBUTED).hexdigest()
    assert data.source.startswith("127.0.0.1:")
    assert names(tmp_path / "new" / "fra-eng") == ["fra.txt"]
    assert "Anki pairs: fetching 1 file from 127.0.0.1" in capsys.readouterr().err
    assert load_anki(tmp_path / "new").source == "fra.txt in the data directory"
    assert [path for path, _ in server.sent] == ["/anki/fra-eng.zip"]


def test_other_language_from_the_site(server, tmp_path):
    assert load_anki(tmp_path, language="deu", progress=False).sentences == ("hi",)
    assert names(tmp_path / "deu-eng") == ["deu.txt"]


def test_quiet_without_progress(server, tmp_path, capsys):
    load_anki(tmp_path, progress=False)
    captured = capsys.readouterr()
    assert captured.err + captured.out == ""


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"<html>please log in</html>",
        zipped({"_about.txt": b"about"}),
        zipped({"fra.txt": PAIRS, "more/fra.txt": PAIRS}),
        zipped({"fra.txt": b"no tab"}),
        zipped({"fra.txt": b"../../secret"}),
        zipped({"fra.txt": PAIRS})[:-30],
        zipped({"fra.txt": PAIRS}, zipfile.ZIP_STORED).replace(b"Va !", b"Vu !"),
    ],
)
def test_frozen_copy_where_the_site_has_nothing_good(server, tmp_path, answer):
    server.files["/anki/fra-eng.zip"] = answer
    assert load_anki(tmp_path, progress=False).sentences == ("frozen",)
    assert names(tmp_path / "fra-eng") == ["fra.txt"]


def test_file_that_unpacks_to_too_much_is_refused(server, tmp_path, monkeypatch):
    monkeypatch.setattr(anki, "MOST_TEXT_BYTES", 50)
    assert load_anki(tmp_path, progress=False).sentences == ("frozen",)


def test_download_without_a_known_hash_never_goes_on_where_another_ended(server, tmp_path):
    """Half of yesterday's edition and half of today's would make a broken archive."""
    (tmp_path / "fra-eng").mkdir()
    (tmp_path / "fra-eng" / "fra-eng.zip.part").write_bytes(b"yesterday")
    assert load_anki(tmp_path, progress=False).sentences == ("go", "run")
    assert server.sent == [("/anki/fra-eng.zip", None)]


def test_broken_off_download_does_not_spoil_the_frozen_copy(server, tmp_path):
    server.cut["/anki/fra-eng.zip"] = 20
    assert load_anki(tmp_path, progress=False).sentences == ("frozen",)
    assert names(tmp_path / "fra-eng") == ["fra.txt"]


def test_altered_frozen_copy_is_refused(server, tmp_path):
    del server.files["/anki/fra-eng.zip"]
    altered = zipped({"fra-eng/fra.txt": b"Altered.\tx\n"})
    server.files["/frozen/fra-eng.zip"] = altered
    with pytest.raises(DataError, match=f"expected sha1:{anki.FROZEN_SHA1} but got {hashlib.sha1(altered).hexdigest()}"):
        load_anki(tmp_path, progress=False)
    assert names(tmp_path / "fra-eng") == []


@pytest.mark.parametrize("name", ["/fra.txt", "../../fra.txt", "a/../../../fra.txt", "/absolute/fra.txt"])
def test_paths_in_the_archive_lead_nowhere(server, tmp_path, name):
    server.files["/anki/fra-eng.zip"] = zipped({"../../evil.txt": b"x", "/evil.txt": b"x", name: PAIRS})
    assert load_anki(tmp_path / "a" / "b", progress=False).sentences[0] == "go"
    stored = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert stored == ["a/b/fra-eng/fra.txt"]


def test_nothing_within_reach_is_one_clear_error(server, tmp_path):
    server.files.clear()
    with pytest.raises(DataError) as caught:
        load_anki(tmp_path, progress=False)
    message = str(caught.value)
    assert message.count("HTTP status 404") == 2
    for part in ("fra.txt", str(tmp_path / "fra-eng"), "--text FILE", "--dataset synthetic"):
        assert part in message


def test_only_french_has_a_frozen_copy(server, tmp_path):
    with pytest.raises(DataError, match="spa.txt"):
        load_anki(tmp_path, language="spa", progress=False)
    assert [path for path, _ in server.sent] == ["/anki/spa-eng.zip"]


def test_missing_file_without_download(tmp_path):
    with pytest.raises(DataError, match=r"^Anki pairs: missing fra\.txt\. Put .* into .*--text FILE.*disabled\)$"):
        load_anki(tmp_path / "new", download=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("language", ["", "FRA", "fr", "french", "../", "fra\n"])
def test_bad_language(tmp_path, language):
    with pytest.raises(ValueError, match="three-letter code"):
        load_anki(tmp_path, language=language)


def test_bad_number_of_lines(tmp_path):
    with pytest.raises(ValueError, match="lines must be at least 1, got 0"):
        load_anki(tmp_path, lines=0)


# load_text


def test_text_file(tmp_path):
    content = "\ufeffHello, World!\r\n\n¿?\nSecond one\tand more".encode()
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.warns(UserWarning, match="^mine.txt: dropped 4 characters other than a to z, 0 to 9 and the space$"):
        data = load_text(tmp_path / "mine.txt")
    assert data.sentences == ("hello world", "second one and more")
    assert (data.name, data.source) == ("mine.txt", "the text file mine.txt")
    assert data.sha256 == hashlib.sha256(content).hexdigest()


def test_text_file_with_accents_loses_none_of_its_letters(tmp_path):
    (tmp_path / "mine.txt").write_text("Où est le café\tici\nnaïve", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_text(tmp_path / "mine.txt").sentences == ("ou est le cafe ici", "naive")


@pytest.mark.parametrize(("content", "message"), [(b"\xff\xfe", "not UTF-8"), (b"", "no sentence"), (b"?\n", "no sent")])
def test_bad_text_file(tmp_path, content, message):
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"mine\.txt: {message}"):
        load_text(tmp_path / "mine.txt")


@pytest.mark.parametrize("name", ["absent.txt", "."])
def test_text_file_that_cannot_be_read(tmp_path, name):
    with pytest.raises(DataError, match="cannot read"):
        load_text(tmp_path / name)


# The grammar


def test_grammar_gives_different_short_sentences():
    data = synthetic_sentences(5000, 3)
    assert len(data.sentences) == len(set(data.sentences)) == 5000
    assert all(clean_sentence(sentence) == sentence for sentence in data.sentences)
    assert max(map(len, data.sentences)) <= 24
    assert [len(sentence) for sentence in data.sentences] == sorted(map(len, data.sentences))
    assert data.name == "SYNTHETIC, NOT ANKI"
    assert "seed 3" in data.source
    assert data.sha256 == hashlib.sha256("".join(f"{sentence}\n" for sentence in data.sentences).encode()).hexdigest()


def test_grammar_is_the_same_for_the_same_seed_only():
    assert synthetic_sentences(100, 3) == synthetic_sentences(100, 3)
    assert synthetic_sentences(100, 3).sentences != synthetic_sentences(100, 4).sentences


def test_grammar_has_many_words_and_no_gaps():
    sentences = synthetic_sentences(20_000, 0).sentences
    words = {word for sentence in sentences for word in sentence.split()}
    assert len(words) > 150
    assert not any(re.search("[{}_]|  ", sentence) for sentence in sentences)


@pytest.mark.parametrize(("n", "seed"), [(0, 0), (10**7, 0), (5, -1)])
def test_grammar_refuses_bad_values(n, seed):
    with pytest.raises(ValueError, match="must be"):
        synthetic_sentences(n, seed)


def test_grammar_refuses_a_number_that_is_not_whole():
    with pytest.raises(TypeError):
        synthetic_sentences(1.5)


# The real data


@needs_anki
def test_real_pairs():
    data = load_anki(real_directory, lines=50_000, download=False)
    assert len(data.sentences) == 50_000
    # Editions differ; in all of them the shortest come first and most English sentences have several translations.
    assert data.sentences[0] == "go"
    assert 20 <= max(map(len, data.sentences)) <= 30
    assert 15_000 < len(set(data.sentences)) < 45_000
    if data.sha256 == "ab1d28db65ab062e06d7fc3b399872d431becfb8af152268dc4b6cdf50260530":
        assert max(map(len, data.sentences)) == 24
        assert len(set(data.sentences)) == 31_570
