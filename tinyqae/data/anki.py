"""Sentences: the English side of the Anki pairs of manythings.org, or any text file with one sentence a line.

The pairs are sorted by length, shortest first, and an English sentence stands once for each of its translations. Their
content changes with time, so that its hash is recorded and not demanded.
"""

import hashlib
import os
import re
import sys
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tinyqae.data.cache import (
    SourceFailed,
    data_directory,
    make_writable,
    one_process_at_a_time,
    write_atomically,
)
from tinyqae.data.cache import download as download_file
from tinyqae.errors import DataError

PAIRS_URL = "https://www.manythings.org/anki/{language}-eng.zip"
# The site refuses programs that it does not know.
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
# An edition that stays the same, kept for the book "Dive into Deep Learning", of one language only.
FROZEN_LANGUAGE = "fra"
FROZEN_URL = "http://d2l-data.s3-accelerate.amazonaws.com/fra-eng.zip"
FROZEN_SHA1 = "94646ad1522d915e7b0f9296181140edcf86a4f5"

MOST_TEXT_BYTES = 1 << 28
NOT_IN_ALPHABET = re.compile("[^a-z0-9 ]")


@dataclass(frozen=True)
class TextData:
    """Sentences in the alphabet a to z, 0 to 9 and the space, in the order of their source; none is empty or blank.

    name: what to call the data in front of people.
    sha256: hash of the text before it was cleaned; of drawn sentences, of the sentences with a line feed after each.
    source: where the data came from, in words.
    """

    sentences: tuple[str, ...]
    name: str
    sha256: str
    source: str


def clean_sentence(text: str) -> str:
    """`text` in lower case without everything but a to z, 0 to 9 and the space: "It's 7:30." becomes "its 730"."""
    return NOT_IN_ALPHABET.sub("", text.lower())


def load_anki(
    data_dir: str | os.PathLike | None = None,
    *,
    language: str = "fra",
    lines: int = 50_000,
    download: bool = True,
    progress: bool = True,
) -> TextData:
    """The English sentences in the first `lines` lines of the pairs of `language` and English, cleaned.

    `language` is the site's code of three letters, such as "fra" or "deu". Sentences that occur in several lines are
    kept as often; a line of which cleaning leaves nothing is left out; a shorter file gives fewer. The hash in the
    result is that of the whole file of pairs.

    The file fra-eng/fra.txt (or the like) is looked for in the data directory: `data_dir`, or else what the environment
    variable TINYQAE_DATA says, or else the user's cache directory. With `download`, a missing one is fetched from
    manythings.org or, for "fra", from a frozen copy, and stored there; with `progress`, the standard error stream shows
    from where and how far. An existing file is never changed. Raises DataError for a file that is no list of pairs or
    is missing and cannot be fetched or stored, ValueError for a language of another form or less than 1 line.
    """
    if not re.fullmatch("[a-z]{3}", language):
        raise ValueError(f"language must be a code of three letters like fra or deu, got {language!r}")
    if lines < 1:
        raise ValueError(f"lines must be at least 1, got {lines}")
    path = data_directory(data_dir) / f"{language}-eng" / f"{language}.txt"
    source = f"{path.name} in the data directory"
    if not os.path.isfile(path):
        if not download:
            raise DataError(f"{_where_the_file_belongs(path)}\nDownloading was not allowed")
        source = _fetch(path, language, progress)
    content = _read(path)
    try:
        sentences = english_sentences(content, lines)
    except DataError as error:
        raise DataError(f"{path}: {error}. Delete it, and it is downloaded at the next start") from error
    return TextData(sentences, f"Anki {language}-eng", hashlib.sha256(content).hexdigest(), source)


def load_text(path: str | os.PathLike) -> TextData:
    """The lines of a UTF-8 text file as sentences, cleaned; those of which nothing remains are left out.

    Raises DataError for a file that is absent, unreadable or not UTF-8, or without any letter or digit of the alphabet.
    """
    path = Path(path).expanduser()
    content = _read(path)
    try:
        sentences = _cleaned(_decoded(content).split("\n"))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return TextData(sentences, path.name, hashlib.sha256(content).hexdigest(), f"the text file {path.name}")


def english_sentences(content: bytes, lines: int) -> tuple[str, ...]:
    """The cleaned first column of the first `lines` lines of a file of pairs.

    The file is UTF-8; a line is an English sentence, a tab, its translation and, in newer editions, another tab and an
    attribution. Blank lines are passed over. Raises DataError for anything else and for a file without a sentence.
    """
    english = []
    for number, line in enumerate(_decoded(content).split("\n")[:lines], 1):
        columns = line.split("\t")
        if len(columns) in (2, 3):
            english.append(columns[0])
        elif line.strip():
            raise DataError(f"line {number} has {len(columns)} columns separated by tabs, expected 2 or 3")
    return _cleaned(english)


def _cleaned(texts: list[str]) -> tuple[str, ...]:
    sentences = tuple(sentence for sentence in map(clean_sentence, texts) if sentence.strip())
    if not sentences:
        raise DataError("no sentence with a letter from a to z or a digit in it")
    return sentences


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: {error.reason} at byte {error.start}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


def _fetch(path: Path, language: str, progress: bool) -> str:
    """Bring the file of pairs to `path`, source after source; return the source used, in words."""
    addresses = [(PAIRS_URL.format(language=language), None)]
    if language == FROZEN_LANGUAGE:
        addresses.append((FROZEN_URL, FROZEN_SHA1))
    failures = []
    make_writable(path.parent)
    with one_process_at_a_time(path.parent):
        if os.path.isfile(path):
            return f"{path.name} that another process fetched"
        for url, sha1 in addresses:
            host = urlsplit(url).netloc
            if progress:
                print(f"Anki: fetching {language}-eng.zip from {host}", file=sys.stderr)
            try:
                _fetch_from(url, sha1, path, progress)
            except SourceFailed as error:
                failures.append(f"  {host}: {error}")
            else:
                return host
    tried = "\n".join(failures)
    raise DataError(
        f"{_where_the_file_belongs(path)}\nTried in vain:\n{tried}\n"
        "To go on without it, use a text file of your own, one sentence a line: --text FILE; or drawn sentences: "
        "--dataset synthetic"
    )


def _where_the_file_belongs(path: Path) -> str:
    return f"The Anki pairs are missing. Put {path.name}, out of {path.parent.name}.zip, into {path.parent}"


def _fetch_from(url: str, sha1: str | None, path: Path, progress: bool) -> None:
    """Download the archive at `url` and write the file of pairs in it to `path`; the archive is not kept."""
    archive = path.with_name(f"{path.parent.name}.zip")
    download_file(url, archive, sha1, progress=progress, user_agent=USER_AGENT)
    try:
        content = _member(archive, path.name)
    finally:
        archive.unlink()
    try:
        english_sentences(content, content.count(b"\n") + 1)
    except DataError as error:
        raise SourceFailed(f"{path.name}: {error}") from error
    write_atomically(path, content)


def _member(archive: Path, name: str) -> bytes:
    """The content of the one file called `name` in the archive, in whatever folder.

    Its path is compared and never used as a path. SourceFailed for a damaged archive, an encrypted or oversized file.
    """
    try:
        with zipfile.ZipFile(archive) as members:
            found = [info for info in members.infolist() if PurePosixPath(info.filename).name == name]
            if len(found) != 1:
                raise SourceFailed(f"{archive.name} holds {len(found)} files called {name}, expected 1")
            info = found[0]
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise SourceFailed(f"{name} in {archive.name} is encrypted or packed in an unusual way")
            if info.file_size > MOST_TEXT_BYTES:
                raise SourceFailed(f"{name} in {archive.name} has {info.file_size} bytes, more than {MOST_TEXT_BYTES}")
            return members.read(info)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceFailed(f"{archive.name} cannot be unpacked ({error})") from error
