"""Sentences: the English side of the Anki pairs of manythings.org, or any text file with one sentence per line.

The pairs are sorted by length, shortest first, and an English sentence occurs once for each of its translations. Their
content changes over time, so its hash is recorded but not required.
"""

import functools
import hashlib
import io
import os
import re
import unicodedata
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tinyqae.data import cache
from tinyqae.data.pictures import one_line
from tinyqae.errors import DataError

PAIRS_URL = "https://www.manythings.org/anki/{language}-eng.zip"
# A frozen edition, kept for the book "Dive into Deep Learning", of one language only.
FROZEN_LANGUAGE = "fra"
FROZEN_URL = "http://d2l-data.s3-accelerate.amazonaws.com/fra-eng.zip"
FROZEN_SHA1 = "94646ad1522d915e7b0f9296181140edcf86a4f5"

MOST_ARCHIVE_BYTES, MOST_TEXT_BYTES = 1 << 26, 1 << 28
NOT_IN_ALPHABET = re.compile("[^a-z0-9 ]")


@dataclass(frozen=True, repr=False)
class TextData:
    """Sentences in the alphabet a to z, 0 to 9 and the space, in the order of their source; none is empty or blank.

    Attributes:
        name: the name of the data for display.
        source: a description of where it came from.
        sha256: hash of the text before cleaning; for synthetic sentences, of the sentences with a line feed after each.
    """

    sentences: tuple[str, ...]
    name: str
    sha256: str
    source: str

    def __repr__(self) -> str:
        return f"<{self.name}: {len(self.sentences):,} sentences>"


def clean_sentence(text: str) -> str:
    """`text` in lower case, reduced to a to z, 0 to 9 and the space: "It's 7:30." becomes "its 730"."""
    return NOT_IN_ALPHABET.sub("", text.lower())


def clean_text(text: str) -> tuple[str, int]:
    r"""A user's own text in the same alphabet, and the number of characters lost.

    Unlike `clean_sentence`, the published cleaning for Anki, this first strips accents from letters and turns whitespace
    into spaces: "Où est le café?\tici" becomes "ou est le cafe ici" and loses 1.
    """
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(" " if char.isspace() else char for char in decomposed if not unicodedata.combining(char))
    cleaned = NOT_IN_ALPHABET.sub("", letters)
    return cleaned, len(letters) - len(cleaned)


def load_anki(
    data_dir: str | os.PathLike | None = None,
    *,
    language: str = "fra",
    lines: int = 50_000,
    download: bool = True,
    progress: bool = True,
) -> TextData:
    """The English sentences in the first `lines` lines of the pairs of `language` and English, cleaned.

    `language` is the site's three-letter code, such as "fra" or "deu". Sentences that occur in several lines are kept
    as often; a line that is empty after cleaning is dropped; a shorter file gives fewer. The hash in the result is that
    of the whole file of pairs.

    The file is fra-eng/fra.txt (or the like) in the data directory (see `tinyqae.data`). If missing, it is downloaded
    from manythings.org or, for "fra", from a frozen copy. ValueError for a malformed language or fewer than 1 line.
    """
    if not re.fullmatch("[a-z]{3}", language):
        raise ValueError(f"language must be a three-letter code such as fra or deu, got {language!r}")
    if lines < 1:
        raise ValueError(f"lines must be at least 1, got {lines}")
    paths = _paths(cache.data_directory(data_dir), language)
    [(name, [path])] = paths.items()
    sources = [
        (url, functools.partial(_from_archive, url, known_hash, path.parent, progress))
        for url, known_hash in ((PAIRS_URL.format(language=language), None), (FROZEN_URL, f"sha1:{FROZEN_SHA1}"))
    ]
    [(content, sentences)], source = cache.load(
        "Anki pairs",
        paths,
        lambda _, content: (content, english_sentences(content, lines)),
        sources if language == FROZEN_LANGUAGE else sources[:1],
        f"{name} in the data directory",
        "use your own text file, one sentence per line (--text FILE), or synthetic sentences (--dataset synthetic)",
        download,
        progress,
    )
    return TextData(sentences, f"Anki {language}-eng", hashlib.sha256(content).hexdigest(), source)


def missing(data_dir: Path) -> list[str]:
    """The name of the French file of pairs if it is not in the data directory."""
    return cache.missing(_paths(data_dir, FROZEN_LANGUAGE))


def _paths(root: Path, language: str) -> cache.Paths:
    return {f"{language}.txt": [root / f"{language}-eng" / f"{language}.txt"]}


def _from_archive(url: str, known_hash: str | None, directory: Path, progress: bool, names: list[str]) -> cache.Brought:
    """The file of pairs in the archive at `url`, whose paths are only compared, never used as paths."""
    [name] = names
    archive = io.BytesIO(cache.download(url, directory, known_hash, progress, MOST_ARCHIVE_BYTES))
    with zipfile.ZipFile(archive) as members:
        found = [info for info in members.infolist() if PurePosixPath(info.filename).name == name]
        if len(found) != 1 or found[0].file_size > MOST_TEXT_BYTES:
            raise DataError(f"{len(found)} files named {name} in its archive, expected 1 of at most {MOST_TEXT_BYTES} bytes")
        content = members.read(found[0])
    english_sentences(content, content.count(b"\n") + 1)
    yield name, content


def load_text(path: str | os.PathLike) -> TextData:
    """The lines of a UTF-8 text file as sentences, cleaned by `clean_text`; those that are then empty are dropped.

    A UserWarning says how many characters were lost. Raises DataError for a file that is missing, unreadable or not UTF-8,
    or without any letter or digit of the alphabet.
    """
    path = Path(os.path.expanduser(path))
    try:
        content = path.read_bytes()
        cleaned = [clean_text(line) for line in re.split("\r?\n", _decoded(content).removeprefix("\ufeff"))]
        sentences = _not_blank(sentence for sentence, _ in cleaned)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    name = one_line(path.name)
    if lost := sum(lost for _, lost in cleaned):
        warnings.warn(f"{name}: dropped {lost:,} characters other than a to z, 0 to 9 and the space", stacklevel=2)
    return TextData(sentences, name, hashlib.sha256(content).hexdigest(), f"the text file {name}")


def english_sentences(content: bytes, lines: int) -> tuple[str, ...]:
    """The cleaned first column of the first `lines` lines of a file of pairs.

    The file is UTF-8; a line is an English sentence, a tab, its translation and, in newer editions, another tab and an
    attribution. Blank lines are skipped. Raises DataError for anything else and for a file without a sentence.
    """
    rows = [line.split("\t") for line in _decoded(content).split("\n")[:lines]]
    for number, columns in enumerate(rows, 1):
        if len(columns) not in (2, 3) and "".join(columns).strip():
            raise DataError(f"line {number} has {len(columns)} columns separated by tabs, expected 2 or 3")
    return _not_blank(clean_sentence(columns[0]) for columns in rows)


def _not_blank(texts: Iterable[str]) -> tuple[str, ...]:
    sentences = tuple(sentence for sentence in texts if sentence.strip())
    if not sentences:
        raise DataError("no sentence contains a letter from a to z or a digit")
    return sentences


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error.reason} at byte {error.start}") from error
