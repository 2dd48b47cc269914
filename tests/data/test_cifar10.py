"""CIFAR-10: records, verification, the archive, hostile archives; a small stand-in where the real one is not needed."""

import hashlib
import http.server
import io
import os
import pickle
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinyqae.data import cache, cifar10, load_cifar10
from tinyqae.data.cifar10 import read_batch
from tinyqae.data.images import records_sha256, write_records
from tinyqae.errors import DataError

# A busy machine is no mistake of the code.
no_deadline = settings(deadline=None)

real_download = cache.download

IMAGES = 3  # in each file of the stand-in
FOLDER = "cifar-10-batches-bin"

real_directory = os.environ.get("TINYQAE_DATA")
needs_cifar10 = pytest.mark.skipif(
    not real_directory or bool(cifar10.missing(Path(real_directory))),
    reason=f"TINYQAE_DATA does not name a directory with {FOLDER}/*.bin",
)


def sha1(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def every_path(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def add_file(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def add_link(archive: tarfile.TarFile, name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    archive.addfile(member)


def packed(add) -> bytes:
    """A .tar.gz with what `add(archive)` puts into it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        add(archive)
    return file.getvalue()


class Small:
    """CIFAR-10's six files with three images each, and an archive of them."""

    def __init__(self, monkeypatch):
        random = np.random.default_rng(0)
        self.images = random.integers(256, size=(6 * IMAGES, 32, 32, 3), dtype=np.uint8)
        self.labels = random.integers(10, size=6 * IMAGES, dtype=np.uint8)
        self.contents = [
            write_records(self.images[start : start + IMAGES], self.labels[start : start + IMAGES])
            for start in range(0, 6 * IMAGES, IMAGES)
        ]
        self.files = tuple(
            cifar10.CifarFile(file.name, sha1(content)) for file, content in zip(cifar10.FILES, self.contents, strict=True)
        )
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(cifar10, "FILES", self.files)
        monkeypatch.setattr(cifar10, "IMAGES_PER_FILE", IMAGES)
        monkeypatch.delenv("TINYQAE_ALLOW_MODIFIED_DATA", raising=False)
        self.archive = self.publish(packed(self.add_all))

    def add_all(self, archive: tarfile.TarFile, skip=()) -> None:
        add_file(archive, f"{FOLDER}/readme.html", b"<html></html>")
        for number, (file, content) in enumerate(zip(self.files, self.contents, strict=True)):
            if number not in skip:
                add_file(archive, f"{FOLDER}/{file.name}", content)

    def publish(self, archive: bytes) -> bytes:
        """Make `archive` the one with the right hash, as if its author were hostile."""
        self.monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", hashlib.sha256(archive).hexdigest())
        return archive

    def store(self, directory: Path, *, skip=(), altered=()) -> None:
        (directory / FOLDER).mkdir(parents=True, exist_ok=True)
        for number, (file, content) in enumerate(zip(self.files, self.contents, strict=True)):
            if number in altered:
                content = content[:-1] + bytes([content[-1] ^ 1])
            if number not in skip:
                (directory / FOLDER / file.name).write_bytes(content)


@pytest.fixture
def small(monkeypatch):
    """The stand-in, with no server within reach."""

    def no_download(*_, **__):
        raise DataError("no connection")

    monkeypatch.setattr(cache, "download", no_download)
    return Small(monkeypatch)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.server.starts.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.server.content) - start))
        self.end_headers()
        self.wfile.write(self.server.content[start:][: self.server.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(small, monkeypatch):
    """A server that has the small archive; `cut` breaks off every answer after so many bytes."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(cache, "download", real_download)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.starts, server.cut = small.archive, [], None
        monkeypatch.setattr(cifar10, "ARCHIVE_URL", f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def assert_is_small(data, small):
    np.testing.assert_array_equal(data.train_images, small.images[: 5 * IMAGES])
    np.testing.assert_array_equal(data.train_labels, small.labels[: 5 * IMAGES])
    np.testing.assert_array_equal(data.test_images, small.images[5 * IMAGES :])
    np.testing.assert_array_equal(data.test_labels, small.labels[5 * IMAGES :])
    assert data.sha256 == hashlib.sha256(b"".join(small.contents)).hexdigest()


# Records


@no_deadline
@given(arrays(np.uint8, st.tuples(st.integers(1, 3), *map(st.just, (32, 32, 3)))), st.data())
def test_batch_round_trip(images, data):
    labels = data.draw(arrays(np.uint8, len(images), elements=st.integers(0, 9)))
    again_images, again_labels = read_batch(write_records(images, labels))
    np.testing.assert_array_equal(again_images, images)
    np.testing.assert_array_equal(again_labels, labels)
    assert again_images.dtype == again_labels.dtype == np.uint8


@no_deadline
@given(st.binary(max_size=4000).filter(lambda content: len(content) != 3073))
def test_batch_of_another_length_is_a_data_error(content):
    with pytest.raises(DataError, match="expected a multiple of 3073"):
        read_batch(content)


@no_deadline
@given(st.integers(10, 255), st.integers(0, 2))
def test_label_above_nine_is_a_data_error(label, place):
    content = bytearray(3 * 3073)
    content[place * 3073] = label
    with pytest.raises(DataError, match=f"record {place} has the label {label}"):
        read_batch(bytes(content))


def test_planes_are_red_green_blue_row_by_row():
    images, labels = read_batch(bytes([3]) + bytes(range(256)) * 4 + bytes([100]) * 1024 + bytes([200]) * 1024)
    assert labels.tolist() == [3]
    assert images[0, 0, :3].tolist() == [[0, 100, 200], [1, 100, 200], [2, 100, 200]]
    assert images[0, 1, 0].tolist() == [32, 100, 200]


# What is already there


def test_stored_files(small, tmp_path):
    small.store(tmp_path)
    before = names(tmp_path / FOLDER)
    data = load_cifar10(tmp_path)
    assert_is_small(data, small)
    assert (data.name, data.source) == ("CIFAR-10", "the files in the data directory")
    for array in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        assert array.dtype == np.uint8
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    assert names(tmp_path / FOLDER) == before


def test_directory_from_environment(small, tmp_path, monkeypatch):
    small.store(tmp_path)
    monkeypatch.setenv("TINYQAE_DATA", str(tmp_path))
    assert_is_small(load_cifar10(download=False), small)


def test_hash_is_that_of_the_arrays(small, tmp_path):
    small.store(tmp_path)
    data = load_cifar10(tmp_path)
    arrays = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    assert data.sha256 == records_sha256(*arrays)


def test_modified_files_are_refused_with_what_to_do(small, tmp_path):
    small.store(tmp_path, altered=(1, 5))
    with pytest.raises(DataError) as caught:
        load_cifar10(tmp_path)
    message = str(caught.value)
    for part in ("data_batch_2.bin", small.files[1].sha1, "--allow-modified-data", "Delete it"):
        assert part in message
    assert "data_batch_1.bin" not in message
    assert "TINYQAE_ALLOW_MODIFIED_DATA=1" in message
    assert str(tmp_path / FOLDER) in message


def test_modified_files_are_a_proxy_when_asked_for(small, tmp_path):
    small.store(tmp_path, altered=(5,))
    data = load_cifar10(tmp_path, allow_modified_data=True)
    assert data.name == "CIFAR-10 proxy"
    assert data.sha256 != hashlib.sha256(b"".join(small.contents)).hexdigest()


@pytest.mark.parametrize(("value", "taken"), [("1", True), ("0", False), ("", False)])
def test_modified_files_by_environment(small, tmp_path, monkeypatch, value, taken):
    small.store(tmp_path, altered=(0,))
    monkeypatch.setenv("TINYQAE_ALLOW_MODIFIED_DATA", value)
    if taken:
        assert load_cifar10(tmp_path).name == "CIFAR-10 proxy"
    else:
        with pytest.raises(DataError, match="is not CIFAR-10's original"):
            load_cifar10(tmp_path)


def test_original_files_are_no_proxy_even_when_modified_ones_are_allowed(small, tmp_path):
    small.store(tmp_path)
    assert load_cifar10(tmp_path, allow_modified_data=True).name == "CIFAR-10"


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("change", [-3073, -1, 1, 3073])
def test_file_of_wrong_size_is_always_refused(small, tmp_path, allowed, change):
    small.store(tmp_path)
    path = tmp_path / FOLDER / "data_batch_3.bin"
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    expected = f"data_batch_3.bin: it has {len(content) + change} bytes, expected {len(content)}. Delete it"
    with pytest.raises(DataError, match=expected):
        load_cifar10(tmp_path, allow_modified_data=allowed)


def test_bad_label_is_refused_even_when_modified_files_are_allowed(small, tmp_path):
    small.store(tmp_path)
    path = tmp_path / FOLDER / "test_batch.bin"
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"test_batch\.bin: record 0 has the label 255.* Delete it"):
        load_cifar10(tmp_path, allow_modified_data=True)


def test_modified_files_are_refused_before_a_download(small, server, tmp_path):
    small.store(tmp_path, skip=(0,), altered=(1,))
    with pytest.raises(DataError, match="is not CIFAR-10's original"):
        load_cifar10(tmp_path, progress=False)
    assert server.starts == []


# The archive


def test_all_from_the_server(small, server, tmp_path, capsys):
    data = load_cifar10(tmp_path / "new")
    assert_is_small(data, small)
    assert data.name == "CIFAR-10"
    assert data.source.startswith("127.0.0.1:")
    assert names(tmp_path / "new" / FOLDER) == sorted(file.name for file in small.files)
    assert "CIFAR-10: fetching 6 files from 127.0.0.1" in capsys.readouterr().err
    assert load_cifar10(tmp_path / "new").source == "the files in the data directory"
    assert server.starts == [0]


def test_quiet_without_progress(server, tmp_path, capsys):
    load_cifar10(tmp_path, progress=False)
    captured = capsys.readouterr()
    assert captured.err + captured.out == ""


def test_interrupted_download_resumes(small, server, tmp_path):
    server.cut = 20_000
    with pytest.raises(DataError, match="connection closed after 20000 bytes of cifar-10-binary.tar.gz"):
        load_cifar10(tmp_path, progress=False)
    assert names(tmp_path / FOLDER) == ["cifar-10-binary.tar.gz.part"]
    server.cut = None
    assert_is_small(load_cifar10(tmp_path, progress=False), small)
    assert server.starts == [0, 20_000]


def test_only_missing_files_are_written(small, server, tmp_path):
    small.store(tmp_path, skip=(2,))
    kept = tmp_path / FOLDER / "data_batch_1.bin"
    before = kept.stat().st_mtime_ns
    data = load_cifar10(tmp_path, progress=False)
    assert_is_small(data, small)
    assert data.source.startswith("the files in the data directory and 127.0.0.1:")
    assert kept.stat().st_mtime_ns == before


def test_wrong_archive_is_refused(server, tmp_path):
    server.content = b"<html>please log in</html>"
    with pytest.raises(DataError, match="SHA256 hash of downloaded file .cifar-10-binary.tar.gz. does not match"):
        load_cifar10(tmp_path, progress=False)
    assert names(tmp_path / FOLDER) == []


def test_archive_in_the_directory(small, tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "cifar-10-binary.tar.gz").write_bytes(small.archive)
    data = load_cifar10(tmp_path, download=False)
    assert_is_small(data, small)
    assert data.source == "cifar-10-binary.tar.gz in the data directory"
    assert (tmp_path / FOLDER / "cifar-10-binary.tar.gz").read_bytes() == small.archive


def test_altered_archive_in_the_directory_is_refused(small, tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "cifar-10-binary.tar.gz").write_bytes(small.archive[:-100])
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz in .*: it is truncated or altered; delete it"):
        load_cifar10(tmp_path)
    assert names(tmp_path / FOLDER) == ["cifar-10-binary.tar.gz"]


def test_missing_directory_without_download_is_not_created(small, tmp_path):
    with pytest.raises(DataError, match="disabled"):
        load_cifar10(tmp_path / "new", download=False)
    assert not (tmp_path / "new").exists()


def test_nothing_within_reach_is_one_clear_error(small, tmp_path):
    with pytest.raises(DataError) as caught:
        load_cifar10(tmp_path, progress=False)
    message = str(caught.value)
    for file in small.files:
        assert file.name in message
    for part in (str(tmp_path / FOLDER), "www.cs.toronto.edu: no connection", "--dataset synthetic"):
        assert part in message


# torchvision's copies of the same pictures


def pickled(content: bytes) -> bytes:
    """A Python file of CIFAR-10 with the content of a binary one."""
    records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
    batch = {
        "batch_label": "training batch",
        "labels": records[:, 0].tolist(),
        "data": records[:, 1:].copy(),
        "filenames": ["a.png"] * len(records),
    }
    return pickle.dumps(batch, 3)


def python_archive(small) -> bytes:
    def add(archive):
        add_file(archive, "cifar-10-batches-py/batches.meta", pickle.dumps({"num_vis": 3072}))
        for file, content in zip(small.files, small.contents, strict=True):
            add_file(archive, f"cifar-10-batches-py/{Path(file.name).stem}", pickled(content))

    archive = packed(add)
    small.monkeypatch.setattr(cifar10, "PYTHON_ARCHIVE_MD5", hashlib.md5(archive).hexdigest())
    return archive


def test_torchvisions_folder_is_read_and_nothing_is_written(small, tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    for file, content in zip(small.files, small.contents, strict=True):
        (tmp_path / "cifar-10-batches-py" / Path(file.name).stem).write_bytes(pickled(content))
    before = every_path(tmp_path)
    data = load_cifar10(tmp_path, download=False)
    assert_is_small(data, small)
    assert (data.name, data.source) == ("CIFAR-10", "the files in the data directory")
    assert every_path(tmp_path) == before
    assert cifar10.missing(tmp_path) == []


def test_torchvisions_archive_is_unpacked(small, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(python_archive(small))
    data = load_cifar10(tmp_path, download=False)
    assert_is_small(data, small)
    assert data.source == "cifar-10-python.tar.gz in the data directory"
    assert names(tmp_path / FOLDER) == sorted(file.name for file in small.files)


def test_torchvisions_archive_that_is_cut_short_is_refused(small, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(python_archive(small)[:-9])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz in the data directory: it is truncated or altered"):
        load_cifar10(tmp_path, download=False)


class Harmful:
    def __reduce__(self):
        return os.getcwd, ()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Harmful()),
        pickle.dumps({"data": Harmful(), "labels": [1]}),
        pickle.dumps([1, 2]),
        b"",
        b"nonsense",
        b"NQ.",  # Whose message has two lines.
        pickle.dumps({"data": np.array([None]), "labels": [1]}, 2),
        pickle.dumps({"data": np.zeros((3, 3072)), "labels": [1, 2, 3]}, 3),
        pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [1, 2, 300]}, 3),
        pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "labels": [1, 2]}, 3),
    ],
)
def test_other_pickles_are_refused_and_nothing_in_them_is_run(small, tmp_path, content):
    small.store(tmp_path, skip=(0,))
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_1: not one of CIFAR-10's Python files .*Delete it"):
        load_cifar10(tmp_path, allow_modified_data=True, download=False)


def test_altered_python_files_are_a_proxy_when_asked_for(small, tmp_path):
    small.store(tmp_path, skip=(0,))
    altered = small.contents[0][:-1] + bytes([small.contents[0][-1] ^ 1])
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickled(altered))
    with pytest.raises(DataError, match="cifar-10-batches-py.data_batch_1: it is not CIFAR-10's original"):
        load_cifar10(tmp_path, download=False)
    assert load_cifar10(tmp_path, allow_modified_data=True).name == "CIFAR-10 proxy"


# Hostile archives, whose hash is right as if the author had turned bad


HOSTILE_NAMES = [
    "/{folder}/data_batch_1.bin",
    "../data_batch_1.bin",
    "{folder}/../../data_batch_1.bin",
    "{folder}/../{folder}/data_batch_1.bin",
    "./../{folder}/data_batch_1.bin",
    "C:\\data_batch_1.bin",
    "elsewhere/data_batch_1.bin",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_paths_that_leave_the_directory_are_passed_over(small, tmp_path, name):
    def add(archive):
        small.add_all(archive, skip=(0,))
        add_file(archive, name.format(folder=FOLDER), small.contents[0])

    directory = tmp_path / "inside"
    (directory / FOLDER).mkdir(parents=True)
    (directory / FOLDER / "cifar-10-binary.tar.gz").write_bytes(small.publish(packed(add)))
    with pytest.raises(DataError, match=r"missing data_batch_1\.bin\."):
        load_cifar10(directory, download=False)
    stored = ["cifar-10-binary.tar.gz", *(file.name for file in small.files[1:])]
    assert every_path(tmp_path) == sorted(["inside", f"inside/{FOLDER}", *(f"inside/{FOLDER}/{name}" for name in stored)])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_are_passed_over(small, tmp_path, kind):
    secret = tmp_path / "secret"
    secret.write_bytes(small.contents[0])

    def add(archive):
        small.add_all(archive, skip=(0,))
        add_link(archive, f"{FOLDER}/data_batch_1.bin", str(secret), kind)

    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "cifar-10-binary.tar.gz").write_bytes(small.publish(packed(add)))
    with pytest.raises(DataError, match=r"missing data_batch_1\.bin\."):
        load_cifar10(tmp_path, download=False)
    assert not os.path.lexists(tmp_path / FOLDER / "data_batch_1.bin")


def test_link_in_place_of_the_folder_leads_nowhere(small, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()

    def add(archive):
        add_link(archive, FOLDER, str(outside))
        small.add_all(archive)

    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "cifar-10-binary.tar.gz").write_bytes(small.publish(packed(add)))
    assert_is_small(load_cifar10(tmp_path, download=False), small)
    assert names(outside) == []
    assert not (tmp_path / FOLDER).is_symlink()


def test_other_content_in_the_archive_is_refused(small, tmp_path):
    small.contents[3] = small.contents[3][:-1] + bytes([small.contents[3][-1] ^ 1])
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "cifar-10-binary.tar.gz").write_bytes(small.publish(packed(small.add_all)))
    with pytest.raises(DataError, match=f"data_batch_4.bin has the SHA-1 .* expected {small.files[3].sha1}"):
        load_cifar10(tmp_path, download=False)
    assert "data_batch_4.bin" not in names(tmp_path / FOLDER)


@pytest.mark.parametrize("keep", [0, 20, 1000])
def test_archive_that_breaks_off_is_refused(small, tmp_path, keep):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "cifar-10-binary.tar.gz").write_bytes(small.publish(small.archive[:keep]))
    with pytest.raises(DataError, match="cannot be unpacked"):
        load_cifar10(tmp_path, download=False)
    assert names(tmp_path / FOLDER) == ["cifar-10-binary.tar.gz"]


# The real data, or its proxy


@needs_cifar10
def test_real_cifar10():
    data = load_cifar10(real_directory, allow_modified_data=True, download=False)
    assert data.train_images.shape == (50000, 32, 32, 3)
    assert data.test_images.shape == (10000, 32, 32, 3)
    assert data.train_images.dtype == data.test_labels.dtype == np.uint8
    # The first 4,000 training images of the proxy are the originals.
    assert data.train_labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert data.train_images[0, 0, 0].tolist() == [59, 62, 63]
    assert np.bincount(data.train_labels).tolist() == [5000] * 10
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    np.testing.assert_allclose(data.train_images.mean(axis=(0, 1, 2)) / 255, [0.4914, 0.4822, 0.4465], atol=0.002)
    assert data.name in ("CIFAR-10", "CIFAR-10 proxy")
