"""The data directory, downloads from a server on this machine, writes to a full disk."""

import errno
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from pathlib import Path

import platformdirs
import pytest

from tinyqae.data import cache
from tinyqae.errors import DataError

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; with `server.cut`, breaks off every answer after so many bytes."""

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get("Range")))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
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

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests, server.cut, server.continues = {"/file": CONTENT}, [], None, True
        server.url = f"http://127.0.0.1:{server.server_port}/file"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server, directory: Path) -> bytes:
    cache.download(server.url, directory / "file", SHA256, progress=False)
    return (directory / "file").read_bytes()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def full_disk(monkeypatch, *, after: int):
    """Let every file that the module writes take `after` bytes and then fail."""

    class FileOnFullDisk(io.FileIO):
        def write(self, content):
            if self.tell() + len(content) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    monkeypatch.setattr(cache, "open", FileOnFullDisk, raising=False)


def test_data_directory_argument_before_variable_before_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYQAE_DATA", str(tmp_path / "variable"))
    assert cache.data_directory(tmp_path / "argument") == tmp_path / "argument"
    assert cache.data_directory() == tmp_path / "variable"
    monkeypatch.setenv("TINYQAE_DATA", "")
    assert cache.data_directory() == platformdirs.user_cache_path("tinyqae", appauthor=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache.data_directory("~/digits") == tmp_path / "digits"


def test_make_writable_creates_and_leaves_nothing(tmp_path):
    cache.make_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []


def test_directory_below_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot create the directory .*file.*TINYQAE_DATA"):
        cache.make_writable(tmp_path / "file" / "below")


def test_directory_without_permission_is_one_clear_error(monkeypatch, tmp_path):
    def refuse(dir, prefix):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(DataError, match=r"cannot write .*TINYQAE_DATA"):
        cache.make_writable(tmp_path)


def test_write_atomically_replaces(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    cache.write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_full_disk_keeps_the_old_file_and_leaves_nothing(monkeypatch, tmp_path):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot write .*file.*Free some space"):
        cache.write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_download_whole_file(server, tmp_path):
    assert fetch(server, tmp_path) == CONTENT
    assert names(tmp_path) == ["file"]
    assert server.requests == [("/file", None)]


def test_interrupted_download_resumes(server, tmp_path):
    server.cut = 200_000
    with pytest.raises(cache.SourceFailed, match="closed after 200000 of 512000 bytes of file"):
        fetch(server, tmp_path)
    assert names(tmp_path) == ["file.part"]
    server.cut = None
    assert fetch(server, tmp_path) == CONTENT
    assert names(tmp_path) == ["file"]
    assert server.requests == [("/file", None), ("/file", "bytes=200000-")]


def test_interrupted_download_restarts_where_the_server_cannot_continue(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    server.continues = False
    assert fetch(server, tmp_path) == CONTENT
    assert server.requests == [("/file", "bytes=1000-")]
    assert names(tmp_path) == ["file"]


def test_damaged_beginning_restarts_from_zero(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"damaged")
    assert fetch(server, tmp_path) == CONTENT
    assert server.requests == [("/file", "bytes=7-"), ("/file", None)]


def test_complete_part_needs_no_more_bytes(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path) == CONTENT
    assert server.requests == [("/file", f"bytes={len(CONTENT)}-")]


@pytest.mark.parametrize("old_part", [None, CONTENT[:1000], CONTENT + b"too long"])
def test_wrong_content_is_not_kept(server, tmp_path, old_part):
    server.files["/file"] = CONTENT[:-1] + b"!"
    if old_part is not None:
        (tmp_path / "file.part").write_bytes(old_part)
    found = hashlib.sha256(server.files["/file"]).hexdigest()
    with pytest.raises(cache.SourceFailed, match=f"file has the SHA-256 {found}, expected {SHA256}"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


def test_missing_page(server, tmp_path):
    server.files.clear()
    with pytest.raises(cache.SourceFailed, match="HTTP status 404 for file"):
        fetch(server, tmp_path)
    assert names(tmp_path) == []


def test_no_server(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(cache.SourceFailed, match="no connection"):
        fetch(server, tmp_path)


def test_silent_network_fails_soon(monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "SECONDS_TO_ANSWER", 0.05)
    done = threading.Event()

    def hang(request, timeout):
        done.wait(10)
        raise urllib.error.URLError("too late")

    monkeypatch.setattr(cache.urllib.request, "urlopen", hang)
    start = time.perf_counter()
    with pytest.raises(cache.SourceFailed, match=r"no answer within 0\.05 s"):
        cache.download("http://localhost/file", tmp_path / "file", SHA256, progress=False)
    assert time.perf_counter() - start < 5
    done.set()


def test_download_on_full_disk_leaves_nothing(server, monkeypatch, tmp_path):
    full_disk(monkeypatch, after=200_000)
    with pytest.raises(DataError, match="Free some space") as caught:
        fetch(server, tmp_path)
    assert not isinstance(caught.value, cache.SourceFailed)
    assert names(tmp_path) == []


def test_progress_bar_only_when_wanted(server, tmp_path, capsys):
    fetch(server, tmp_path)
    assert capsys.readouterr().err == ""
    (tmp_path / "file").unlink()
    cache.download(server.url, tmp_path / "file", SHA256, progress=True)
    assert "file: 100%" in capsys.readouterr().err


@pytest.mark.skipif(cache.fcntl is None, reason="no file locks on this system")
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


def fake_pip(monkeypatch, returncode=0, stderr="", wheel=None):
    commands = []

    def run(command, **_):
        commands.append(command)
        if wheel:
            (Path(command[command.index("--dest") + 1]) / wheel).write_bytes(b"")
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(cache.subprocess, "run", run)
    return commands


def test_package_comes_as_a_wheel_without_dependencies(monkeypatch, tmp_path):
    commands = fake_pip(monkeypatch, wheel="some-1.0-py3-none-any.whl")
    assert cache.download_package("some==1.0", tmp_path) == tmp_path / "some-1.0-py3-none-any.whl"
    assert commands[0][:3] == [sys.executable, "-m", "pip"]
    assert {"--no-deps", "--only-binary=:all:", "some==1.0"} <= set(commands[0])


@pytest.mark.parametrize(
    ("stderr", "message"),
    [("WARNING: x\nERROR: No matching distribution", "^pip: No matching distribution$"), ("", "no wheel came")],
)
def test_package_that_pip_cannot_find(monkeypatch, tmp_path, stderr, message):
    fake_pip(monkeypatch, returncode=1, stderr=stderr)
    with pytest.raises(cache.SourceFailed, match=message):
        cache.download_package("some==1.0", tmp_path)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (subprocess.TimeoutExpired("pip", 300), "did not finish within 300 s"),
        (FileNotFoundError("x"), "not be started"),
    ],
)
def test_pip_that_hangs_or_is_absent(monkeypatch, tmp_path, error, message):
    def run(command, **_):
        raise error

    monkeypatch.setattr(cache.subprocess, "run", run)
    with pytest.raises(cache.SourceFailed, match=message):
        cache.download_package("some==1.0", tmp_path)
