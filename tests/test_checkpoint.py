"""tinyqae.checkpoint: files are written whole or not at all, and what a file is besides its content stays."""
import os
import stat
import sys

import pytest

from tinyqae.checkpoint import UMASK, write_atomically

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links of POSIX")


@POSIX
def test_a_new_file_has_the_usual_permissions(tmp_path):
    write_atomically(tmp_path / "new", lambda file: file.write(b"x"))
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~UMASK


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
