"""The data directory and what fills it: downloads that resume, packages from a Python index, writes in one step.

A file appears under its final name only when it is whole and its hash is right. Until then it has the ending ".part"
(a download, kept to be resumed) or is a hidden temporary file (anything else, removed when it fails).
"""

import contextlib
import errno
import hashlib
import http.client
import os
import queue
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import platformdirs
from tqdm import tqdm

from tinyqae import checkpoint
from tinyqae.errors import DataError

try:
    import fcntl
except ImportError:  # Windows, which itself refuses to replace a file that another process holds open
    fcntl = None

ENVIRONMENT_VARIABLE = "TINYQAE_DATA"
SECONDS_TO_ANSWER = 8
SECONDS_WITHOUT_DATA = 20
SECONDS_FOR_PACKAGE = 300
CHUNK_BYTES = 1 << 16


class SourceFailed(DataError):
    """One source could not deliver; another one still may."""


def data_directory(chosen: str | os.PathLike | None = None) -> Path:
    """The folder that holds one sub-folder per data set; it need not exist.

    It is `chosen`, or else what the environment variable TINYQAE_DATA says, or else the user's cache directory.
    """
    if chosen is None:
        chosen = os.environ.get(ENVIRONMENT_VARIABLE) or platformdirs.user_cache_path("tinyqae", appauthor=False)
    return Path(chosen).expanduser()


def make_writable(directory: Path) -> None:
    """Create `directory` if need be and try a write there; DataError if either fails."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot create the directory {directory}: {error.strerror}. {_advice(error)}") from error
    trial = directory / ".tinyqae-write-test"
    write_atomically(trial, b"")
    trial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that `path` is at every moment absent, as before, or complete.

    Raises DataError when it cannot be written (full disk, no permission) and leaves nothing behind.
    """
    with _write_errors(path):
        checkpoint.write_atomically(path, lambda file: file.write(content))


def download(
    url: str, destination: Path, expected_hash: str | None, *, progress: bool, user_agent: str = "tinyqae"
) -> None:
    """Download `url` to `destination`, whose bytes must have the hash `expected_hash`.

    The hash is a SHA-256 (64 hexadecimal digits) or, where nothing better is published, a SHA-1 (40). A download that
    breaks off leaves `destination`.part, and the next one, from this address or from another one of the same file,
    goes on from there. With None, for a file that changes with time, every download starts anew, because nothing could
    tell whether an old beginning belongs to the new end; the caller has to check the content. Raises SourceFailed when
    the address does not deliver the right bytes and DataError when they cannot be stored.
    """
    part = destination.with_name(destination.name + ".part")
    if expected_hash is None:
        with _write_errors(destination):
            part.unlink(missing_ok=True)
    resumed = part.exists()
    _receive(url, part, progress, user_agent)
    if expected_hash is not None:
        algorithm = {40: "SHA-1", 64: "SHA-256"}[len(expected_hash)]
        if resumed and file_hash(part, algorithm) != expected_hash:
            # The old beginning may have been damaged or of another file, which is no fault of this address.
            part.unlink()
            _receive(url, part, progress, user_agent)
        found = file_hash(part, algorithm)
        if found != expected_hash:
            part.unlink()
            raise SourceFailed(f"{destination.name} has the {algorithm} {found}, expected {expected_hash}")
    with _write_errors(destination):
        os.replace(part, destination)


def file_hash(path: Path, algorithm: str) -> str:
    """The hash of a file's content in hexadecimal digits; `algorithm` is "SHA-1" or "SHA-256"."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm.replace("-", "").lower()).hexdigest()


def download_package(requirement: str, into: Path) -> Path:
    """Let pip fetch the wheel of `requirement` ("name==version"), without what it depends on; return its path.

    Only a wheel will do, because pip would run the build script of a source package. Raises SourceFailed.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    command += ["--timeout", "15", "--retries", "1", "--no-deps", "--only-binary=:all:", "--dest", str(into)]
    try:
        finished = subprocess.run(
            [*command, requirement],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS_FOR_PACKAGE,
        )
    except subprocess.TimeoutExpired as error:
        raise SourceFailed(f"pip did not finish within {SECONDS_FOR_PACKAGE} s") from error
    except OSError as error:
        raise SourceFailed(f"pip could not be started: {error}") from error
    wheels = sorted(into.glob("*.whl"))
    if finished.returncode or not wheels:
        last_line = (finished.stderr.strip() or "no wheel came").splitlines()[-1]
        raise SourceFailed(f"pip: {last_line.removeprefix('ERROR: ')}")
    return wheels[0]


@contextlib.contextmanager
def one_process_at_a_time(directory: Path) -> Iterator[None]:
    """Wait while another process is inside this block for the same `directory`.

    Two processes that appended to one .part file would spoil it. A file system without locks does not wait; there
    the hashes still keep bad data out.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _receive(url: str, part: Path, progress: bool, user_agent: str) -> None:
    """Append to `part` what it still lacks of `url`, or write it anew where the server does not continue files."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = _open(urllib.request.Request(url, headers=headers))
    except urllib.error.HTTPError as error:
        if have and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is left to come: the hash will tell whether `part` is the file
        raise SourceFailed(f"HTTP status {error.code} for {part.stem}") from error
    except urllib.error.URLError as error:
        raise SourceFailed(f"no connection ({error.reason})") from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceFailed(f"no connection ({_reason(error)})") from error
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        _store(response, part, have, progress)


def _store(response: http.client.HTTPResponse, part: Path, have: int, progress: bool) -> None:
    """Write the body of `response` to `part` behind its first `have` bytes."""
    total = None if response.length is None else have + response.length
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=not progress)
    with bar, _write_errors(part, remove=True), open(part, "ab" if have else "wb") as file:
        while chunk := _next_chunk(response):
            file.write(chunk)
            bar.update(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise SourceFailed(f"the connection closed after {part.stat().st_size} of {total} bytes of {part.stem}")


def _next_chunk(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise SourceFailed(f"the connection broke off ({_reason(error)})") from error


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Open `request`, or raise TimeoutError after SECONDS_TO_ANSWER.

    urlopen's own time-out counts anew for each of a host's addresses and not at all for the look-up of its name, so
    that a machine behind a silent firewall would wait for minutes. Hence the thread.
    """
    outcome = queue.SimpleQueue()

    def open_it():
        try:
            outcome.put(urllib.request.urlopen(request, timeout=SECONDS_WITHOUT_DATA))
        except (OSError, http.client.HTTPException) as error:
            outcome.put(error)

    threading.Thread(target=open_it, daemon=True).start()
    try:
        result = outcome.get(timeout=SECONDS_TO_ANSWER)
    except queue.Empty:
        raise TimeoutError(f"no answer within {SECONDS_TO_ANSWER} s") from None
    if isinstance(result, Exception):
        raise result
    return result


@contextlib.contextmanager
def _write_errors(path: Path, *, remove: bool = False) -> Iterator[None]:
    """Turn an OSError inside the block into a DataError about `path`; with `remove`, delete `path` then as well."""
    try:
        yield
    except OSError as error:
        if remove:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise DataError(f"cannot write {path}: {error.strerror}. {_advice(error)}") from error


def _advice(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space, or choose a data directory on another disk"
    return f"Choose another data directory with the argument data_dir or the variable {ENVIRONMENT_VARIABLE}"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
