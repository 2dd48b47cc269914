"""The data directory, downloads from a server on this machine, one mirror after the other, writes to a full disk."""

import contextlib
import errno
import hashlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import platformdirs
import pytest

from tinyqae import checkpoint
from tinyqae.data import anki, cache, cifar10, mnist
from tinyqae.errors import DataError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`, with `server.cut` only so many bytes of it, or says `server.status`."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        content = self.server.files.get(self.path)
        if content is None or self.path in self.server.status:
            self.send_error(self.server.status.get(self.path, 404))
            return
        if self.path == "/headers":
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
            self.send_drops()
            return
        start = 0
        asked = self.headers.get("Range")
        if asked and self.server.continues:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.cut])
        if self.path == "/slow":
            self.send_drops()

    def send_drops(self):
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"d")
                time.sleep(0.02)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(cache, "CHUNK_BYTES", 1000)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests, server.cut, server.continues, server.status = {"/file": CONTENT}, [], None, True, {}
        server.base = f"http://127.0.0.1:{server.server_port}"
        server.url = f"{server.base}/file"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def silent(monkeypatch):
    """The address of a server that accepts connections and never answers."""
    monkeypatch.setattr(cache, "SECONDS_WITHOUT_DATA", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/file"


def fetch(server, directory: Path) -> bytes:
    return cache.download(server.url, directory, SHA256, progress=False, most_bytes=1 << 20)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_data_directory_argument_before_variable_before_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYQAE_DATA", str(tmp_path / "variable"))
    assert cache.data_directory(tmp_path / "argument") == tmp_path / "argument"
    assert cache.data_directory() == tmp_path / "variable"
    monkeypatch.setenv("TINYQAE_DATA", "")
    assert cache.data_directory() == platformdirs.user_cache_path("tinyqae")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache.data_directory("~/digits") == tmp_path / "digits"


def test_every_known_hash_has_as_many_digits_as_its_kind():
    """One digit too many in a constant makes every right file a wrong one."""
    sha256 = [cifar10.ARCHIVE_SHA256, mnist.PACKAGE_MEMBER_SHA256]
    sha256 += [known for file in mnist.FILES for known in (file.content_sha256, file.packed_sha256)]
    assert all(re.fullmatch("[0-9a-f]{64}", known) for known in sha256)
    sha1 = [anki.FROZEN_SHA1, *(file.sha1 for file in cifar10.FILES)]
    assert all(re.fullmatch("[0-9a-f]{40}", known) for known in sha1)
    assert re.fullmatch("[0-9a-f]{32}", cifar10.PYTHON_ARCHIVE_MD5)


# One download


def test_download_whole_file(server, tmp_path):
    assert fetch(server, tmp_path) == CONTENT
    assert names(tmp_path) == []
    assert server.requests == [("/file", None)]


def test_interrupted_download_resumes(server, tmp_path):
    server.cut = 200_000
    with pytest.raises(DataError, match="closed after 200000 bytes of file"):
        fetch(server, tmp_path)
    assert names(tmp_path) == ["file.part"]
    server.cut = None
    assert fetch(server, tmp_path) == CONTENT
    assert names(tmp_path) == []
    assert server.requests == [("/file", None), ("/file", "bytes=200000-")]


def test_interrupted_download_restarts_where_the_server_cannot_continue(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    server.continues = False
    assert fetch(server, tmp_path) == CONTENT
    assert server.requests == [("/file", "bytes=1000-")]
    assert names(tmp_path) == []


def test_a_server_that_never_ends_fills_no_disk(server, tmp_path):
    server.files["/file"] = CONTENT * 3
    with pytest.raises(DataError, match=f"^file is larger than {1 << 20:,} bytes$"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_is_too_slow_is_left_and_what_it_sent_is_kept(server, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SECONDS_WITHOUT_DATA", 0.3)
    server.files["/slow"], server.cut = CONTENT, 0
    started = time.perf_counter()
    with pytest.raises(DataError, match=r"^too slow: \d+ bytes of slow in \d+ s$"):
        cache.download(f"{server.base}/slow", tmp_path, SHA256, progress=False, most_bytes=1 << 20)
    assert time.perf_counter() - started < 5
    assert names(tmp_path) == ["slow.part"]


def test_a_server_that_sends_its_headers_slowly_is_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SECONDS_TO_ANSWER", 0.3)
    server.files["/headers"] = CONTENT
    started = time.perf_counter()
    with pytest.raises(DataError, match="^timed out$"):
        cache.download(f"{server.base}/headers", tmp_path, SHA256, progress=False, most_bytes=1 << 20)
    assert time.perf_counter() - started < 5
    assert names(tmp_path) == []


def test_damaged_beginning_restarts_from_zero(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"damaged")
    assert fetch(server, tmp_path) == CONTENT
    assert server.requests == [("/file", "bytes=7-"), ("/file", None)]


def test_complete_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path) == CONTENT
    assert server.requests == [("/file", f"bytes={len(CONTENT)}-")]


def test_without_a_known_hash_nothing_is_resumed(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"yesterday")
    assert cache.download(server.url, tmp_path, None, progress=False, most_bytes=1 << 20) == CONTENT
    assert server.requests == [("/file", None)]


@pytest.mark.parametrize("old_part", [None, CONTENT[:1000], CONTENT + b"too long"])
def test_wrong_content_is_not_kept(server, tmp_path, old_part):
    server.files["/file"] = CONTENT[:-1] + b"!"
    if old_part is not None:
        (tmp_path / "file.part").write_bytes(old_part)
    found = hashlib.sha256(server.files["/file"]).hexdigest()
    with pytest.raises(DataError, match=f"file.* does not match .*: expected {SHA256} but got {found}$"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("part", [None, b"beginning"])
def test_no_server(server, tmp_path, part):
    if part:
        (tmp_path / "file.part").write_bytes(part)
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"^no connection \(.*refused\)$"):
        fetch(server, tmp_path)


def test_a_proxy_from_the_environment_is_used(server, monkeypatch, tmp_path):
    """A proxy gets the whole address as the path."""
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", server.base)
    server.files["http://nowhere.invalid/file"] = CONTENT
    assert cache.download("http://nowhere.invalid/file", tmp_path, SHA256, progress=False, most_bytes=1 << 20) == CONTENT
    assert server.requests == [("http://nowhere.invalid/file", None)]


def test_download_on_full_disk_is_one_clear_error(server, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache, "open", full, raising=False)
    with pytest.raises(DataError, match=rf"^cannot write {tmp_path}: .*Free some space"):
        load(tmp_path, [(server.url, bring(server.url, tmp_path))] * 2)
    assert len(server.requests) == 1
    assert names(tmp_path) == []


def test_progress_bar_on_a_terminal_only(server, tmp_path, monkeypatch, capsys):
    cache.download(server.url, tmp_path, SHA256, progress=True, most_bytes=1 << 20)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    cache.download(server.url, tmp_path, SHA256, progress=True, most_bytes=1 << 20)
    assert "file: 100%" in capsys.readouterr().err


# One mirror after the other


def bring(url: str, directory: Path):
    """What brings "file" from the last part of an address."""

    def brought(missing):
        return [(name, cache.download(url, directory, SHA256, progress=False, most_bytes=1 << 20)) for name in missing]

    return brought


def load(directory: Path, sources, download=True, progress=False, check=lambda path, content: content):
    return cache.load(
        "Data",
        {"file": [directory / "file", directory / "elsewhere"]},
        check,
        sources,
        "the directory",
        "get them elsewhere",
        download,
        progress,
    )


def test_mirrors_that_fail_in_every_way_and_one_that_works(server, silent, tmp_path, capsys):
    server.files |= {"/forbidden": b"", "/busy": b"", "/page": b"<html>please log in</html>", "/good": CONTENT}
    server.status = {"/forbidden": 403, "/busy": 503}
    mirrors = [*(f"{server.base}/{name}" for name in ("forbidden", "busy", "page")), silent, f"{server.base}/good"]
    sources = [(url, bring(url, tmp_path)) for url in mirrors]
    hosts = [url.split("/")[2] for url in mirrors]
    started = time.perf_counter()
    assert load(tmp_path, sources, progress=True) == ([CONTENT], hosts[0])
    assert time.perf_counter() - started < 5
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert capsys.readouterr().err.count("Data: fetching 1 file from 127.0.0.1") == 5
    (tmp_path / "file").unlink()
    del server.files["/good"]
    with pytest.raises(DataError) as caught:
        load(tmp_path, sources)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"Data: missing file. Put them into {tmp_path}, or get them elsewhere"
    causes = ("HTTP status 403", "HTTP status 503", "does not match the known hash", "timed out", "HTTP status 404")
    for line, host, cause in zip(lines[1:], hosts, causes, strict=True):
        assert line.startswith(f"  {host}: ") and cause in line
    assert names(tmp_path) == []


def test_nothing_is_tried_or_created_without_leave(tmp_path):
    sources = [("somewhere", lambda names: pytest.fail("tried"))]
    with pytest.raises(DataError, match=r"^Data: missing file\. Put them .* elsewhere \(downloading is disabled\)$"):
        load(tmp_path / "new", sources, download=False)
    assert names(tmp_path) == []


@pytest.mark.parametrize("place", ["file", "elsewhere"])
def test_a_file_that_is_there_is_checked_and_nothing_is_tried(tmp_path, place):
    (tmp_path / place).write_bytes(b"content")
    sources = [("somewhere", lambda names: pytest.fail("tried"))]
    assert load(tmp_path, sources, check=lambda path, content: (path.name, content)) == (
        [(place, b"content")],
        "the directory",
    )

    def refuse(path, content):
        raise DataError("it is bad")

    with pytest.raises(DataError, match=rf"{place}: it is bad\. Delete it"):
        load(tmp_path, sources, check=refuse)


# The disk


def test_directory_below_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write .*file.*TINYQAE_DATA"):
        with cache.one_process_at_a_time(tmp_path / "file" / "below"):
            pass


def test_full_disk_leaves_nothing(monkeypatch, tmp_path):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write .*file: .*Free some space"):
        load(tmp_path, [("somewhere", lambda names: [("file", b"new")])])
    assert names(tmp_path) == []


@pytest.mark.skipif(checkpoint.fcntl is None, reason="no file locks on this system")
def test_one_process_at_a_time(tmp_path):
    order = []

    def second():
        with cache.one_process_at_a_time(tmp_path):
            order.append("second")

    with cache.one_process_at_a_time(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert names(tmp_path) == []


# Packages


def fake_pip(monkeypatch, returncode=0, stderr="", members=()):
    commands = []

    def run(command, **options):
        commands.append(command)
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "some-1.0-py3-none-any.whl", "w") as wheel:
            for name in members:
                wheel.writestr(name, name)
        finished = subprocess.CompletedProcess(command, returncode, "", stderr)
        if options["check"]:
            finished.check_returncode()
        return finished

    monkeypatch.setattr(cache.subprocess, "run", run)
    return commands


def test_package_comes_as_a_wheel_without_dependencies(monkeypatch):
    commands = fake_pip(monkeypatch, members=("some/a.txt", "some/b.txt"))
    assert cache.read_package("some==1.0", "some/b.txt") == b"some/b.txt"
    assert commands[0][:3] == [sys.executable, "-m", "pip"]
    assert {"--no-deps", "--only-binary=:all:", "some==1.0"} <= set(commands[0])


@pytest.mark.parametrize(
    ("stderr", "message"),
    [("WARNING: x\nERROR: No matching distribution", "^pip: No matching distribution$"), ("", "no wheel was downloaded")],
)
def test_package_that_pip_cannot_find(monkeypatch, stderr, message):
    fake_pip(monkeypatch, returncode=1, stderr=stderr)
    with pytest.raises(DataError, match=message):
        cache.read_package("some==1.0", "some/a.txt")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (subprocess.TimeoutExpired("pip", 300), "pip failed: timed out after 300 s"),
        (FileNotFoundError(2, "No such file"), "pip failed: No such file"),
    ],
)
def test_pip_that_hangs_or_is_absent(monkeypatch, error, message):
    def run(command, **_):
        raise error

    monkeypatch.setattr(cache.subprocess, "run", run)
    with pytest.raises(DataError, match=message):
        cache.read_package("some==1.0", "some/a.txt")
