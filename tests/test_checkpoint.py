"""tinyqae.checkpoint: files are written whole or not at all, and what a file is besides its content stays."""

import concurrent.futures
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tinyqae
from tinyqae import checkpoint
from tinyqae.checkpoint import SECONDS_UNTIL_STALE, locked, write_atomically
from tinyqae.cli.program import require_writable

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")


@POSIX
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_a_new_file_has_the_usual_permissions(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "new", lambda file: file.write(b"x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~mask


def test_the_umask_is_never_set():
    """It is the whole process's: another thread's new files would have wrong permissions meanwhile."""
    modules = Path(tinyqae.__file__).parent.rglob("*.py")
    assert [path.name for path in modules if "umask" in path.read_text(encoding="utf-8")] == []


@POSIX
def test_a_private_file_is_never_readable_by_others_while_it_is_replaced(tmp_path):
    path, modes = tmp_path / "file", []
    path.write_bytes(b"old")
    path.chmod(0o600)

    def write(file):
        file.write(b"secret")
        modes.extend(stat.S_IMODE(entry.stat().st_mode) for entry in tmp_path.iterdir())

    write_atomically(path, write)
    assert modes == [0o600, 0o600]


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_replaced_file_keeps_its_permissions(mode, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and stat.S_IMODE(path.stat().st_mode) == mode


@POSIX
def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, lambda file: file.write(b"new"))
    assert link.is_symlink() and target.read_bytes() == b"new"
    assert os.listdir(tmp_path / "elsewhere") == ["target"] and sorted(os.listdir(tmp_path)) == ["elsewhere", "link"]


def test_what_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as raised:
        write_atomically(path, fail)
    assert raised.value.filename == str(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["file", "[a]", "*"])
def test_what_killed_writers_of_the_same_file_left_is_swept_once_it_is_old(name, tmp_path):
    if sys.platform == "win32" and "*" in name:
        pytest.skip("no name of a file there")
    old, new = tmp_path / f".{name}.abcdefgh", tmp_path / f".{name}.12345678"
    others = [tmp_path / ".file.npz.abcdefgh", tmp_path / ".a.abcdefgh"]
    for path in (old, new, *others):
        path.write_bytes(b"half")
    for path in (old, *others):
        os.utime(path, (time.time() - SECONDS_UNTIL_STALE - 1,) * 2)
    write_atomically(tmp_path / name, lambda file: file.write(b"new"))
    assert {path.name for path in tmp_path.iterdir()} == {name, new.name, *(path.name for path in others)}


@pytest.mark.skipif(checkpoint.fcntl is None, reason="no file locks on this system")
def test_a_lock_is_one_process_s_until_it_ends_however_it_does(tmp_path):
    code = (
        "import sys, time\nfrom tinyqae.checkpoint import locked\n"
        "with locked(sys.argv[1]) as free:\n    print(free, flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with locked(tmp_path, wait=False) as free:
            assert not free
        other.kill()
    with locked(tmp_path, wait=False) as free:
        assert free
    assert list(tmp_path.iterdir()) == []


def test_many_can_replace_and_remove_one_file_at_the_same_time(tmp_path):
    """As when several runs begin in one folder, and each tries whether it can write there."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: require_writable(tmp_path), range(1600)))
    assert list(tmp_path.iterdir()) == []
