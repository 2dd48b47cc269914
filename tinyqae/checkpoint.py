"""Arrays and a JSON description in one .npz file: no pickle, written atomically, with corruption detected.

An .npz is a zip archive, and zip stores a CRC-32 of every entry, which is verified on reading.
"""

import contextlib
import glob
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .annotations import FilePath, Function
from .engine import environment
from .errors import CheckpointError, in_one_line

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:  # They import this module.
    from .history import History
    from .models import Autoencoder
    from .optim import Optimizer
    from .schedules import Schedule

META = "meta.json"
SECONDS_UNTIL_STALE = 600
MOST_SHRUNK = 64
"""No file of weights unpacks to more than this many times its size; files made to exhaust memory do."""


def write_atomically(path: FilePath, write: Callable[[BinaryIO], object]) -> None:
    """Call write(binary_file) on a temporary file beside `path`, then rename it to `path`.

    Whatever fails, `path` is either the old file or the complete new one, and no temporary file is left. A symbolic link
    stays one, and a file that is replaced keeps its permissions.
    """
    given, path = path, Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, f".{glob.escape(path.name)}.????????")
    # Not with tempfile, whose files are private: a result should be as readable as any other new file.
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        with open(temporary, "xb") as file:
            with contextlib.suppress(FileNotFoundError):  # There was none, or another process was faster.
                os.chmod(temporary, path.stat().st_mode & 0o777)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # Name the result that could not be written, not the temporary file.
        raise OSError(error.errno, error.strerror, str(given)) from error
    finally:
        temporary.unlink(missing_ok=True)


def sweep(directory: Path, pattern: str) -> None:
    """Remove temporary files and directories that match, left by a killed process at least ten minutes ago."""
    for path in directory.glob(pattern):
        with contextlib.suppress(OSError):  # Another process may be faster.
            if time.time() - path.stat().st_mtime > SECONDS_UNTIL_STALE:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def locked(directory: FilePath, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of an existing directory. The system releases it when the process ends, however that happens.

    Yields whether the lock was free; with `wait`, waits until it is. On a file system without locks it always is.
    """
    if fcntl is None:
        yield True
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        free = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError:
            pass
        yield free
    finally:
        os.close(descriptor)


def write_arrays(path: FilePath, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], deflated: bool = False) -> None:
    """Write NumPy arrays by name and a JSON-able description to `path` (.npz), deflated or as they are."""
    # A damaged zip directory can hide an entry, so the names are stored as well.
    text = np.frombuffer(json.dumps({**meta, "arrays": sorted(arrays)}).encode(), np.uint8)
    savez: Function = np.savez_compressed if deflated else np.savez
    write_atomically(path, lambda file: savez(file, **{META: text}, **arrays))


def read_arrays(path: FilePath) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(arrays by name, description) of a file that write_arrays wrote. CheckpointError says what is wrong with it."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        raw = open(path, "rb")  # Opened here, since np.load leaves a damaged file open.
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    try:
        with raw:
            if not zipfile.is_zipfile(raw):
                raise ValueError("it is not an .npz archive")
            raw.seek(0)
            file = np.load(raw, allow_pickle=False)
            unpacked, size = sum(entry.file_size for entry in file.zip.infolist()), os.path.getsize(path)
            if unpacked > MOST_SHRUNK * size + (1 << 20):
                raise ValueError(f"it would decompress from {size:,} to {unpacked:,} bytes")
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(arrays.pop(META).tobytes())
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds of exception on damaged bytes
        raise CheckpointError(f"{path} is corrupt or was not written by tinyqae ({in_one_line(error)})") from error
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path} was not written by tinyqae: its description is not a JSON object")
    if meta.pop("arrays", None) not in (None, sorted(arrays)):
        raise CheckpointError(f"{path} is corrupt: some of its arrays are missing")
    return arrays, meta


def describe(
    model: "Autoencoder", optimizer: "Optimizer", schedule: "str | Schedule", checksum: int, **settings: Any
) -> dict[str, Any]:
    """What a run depends on, as plain data by name: it identifies the run that a file of `write_training` belongs to."""
    # A function's str() contains its address, which differs in every process.
    name = schedule if isinstance(schedule, str) else getattr(schedule, "__qualname__", type(schedule).__qualname__)
    return {
        "model": model.class_name(),
        "config": model.config(),
        "bottleneck": repr(model.bottleneck),
        "lr": optimizer.lr,
        "optimizer": repr(optimizer),
        "schedule": name,
        **settings,
        **environment(model.engine),
        "checksum of the examples": checksum,
    }


def write_training(
    path: FilePath, model: "Autoencoder", optimizer: "Optimizer", run: dict[str, Any], history: "History"
) -> None:
    """Write the state of a training after an epoch, for `read_training`. run: what `describe` returned."""
    arrays = {f"model.{name}": array for name, array in model.state_arrays().items()}
    arrays |= {f"optimizer.{name}": array for name, array in optimizer.state_arrays().items()}
    write_arrays(path, arrays, {"format": "tinyqae checkpoint", "version": 1, "run": run, **vars(history)})


def read_training(
    path: FilePath, model: "Autoencoder", optimizer: "Optimizer", run: dict[str, Any]
) -> tuple[list[dict[str, float]], list[tuple[int, list[int]]]]:
    """Restore model and optimizer from the file; returns (rows, latents) of its History. CheckpointError if the file is
    corrupt or belongs to another run.
    """
    arrays, meta = read_arrays(path)
    if meta.get("format") != "tinyqae checkpoint":
        raise CheckpointError(f"{path} is not a training checkpoint: its format is {meta.get('format')!r}")
    of_file = meta["run"] if isinstance(meta.get("run"), dict) else {}
    for name, value in json.loads(json.dumps(run)).items():
        if of_file.get(name) != value:
            raise CheckpointError(
                f"{path} belongs to another run: its {name} is {of_file.get(name)!r}, this run's is "
                f"{value!r}. Use the same settings or another directory, or start a new run"
            )
    try:
        rows, latents = _checked_history(meta["rows"], meta["latents"])
        shapes = {
            found: parameter.shape
            for i, parameter in enumerate(model.parameters())
            for name in optimizer.state_names
            for found in (name, f"{name}.{i}")
        }
        for prefix, part in (("model.", model), ("optimizer.", optimizer)):
            of_part = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            for name, array in of_part.items():
                if part is optimizer and shapes.get(name, array.shape) != array.shape:
                    raise ValueError(f"{prefix}{name} has shape {array.shape}, expected {shapes[name]}")
            part.restore(of_part)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}: {in_one_line(error)}") from error
    return rows, latents


def _checked_history(rows: Any, latents: Any) -> tuple[list[dict[str, float]], list[tuple[int, list[int]]]]:
    """(rows, latents) of a History read from JSON; ValueError or TypeError if they cannot be a History's."""
    if [row["epoch"] for row in rows] != [*range(1, len(rows) + 1)] or len(latents) != len(rows) + 1:
        raise ValueError("its history does not have one row per epoch")
    if not all(row.keys() == rows[0].keys() and all(type(value) in (int, float) for value in row.values()) for row in rows):
        raise ValueError("its history has inconsistent or non-numeric rows")
    found = [(int(epoch), [int(count) for count in counts]) for epoch, counts in latents]
    if not all(min(counts) >= 0 < sum(counts) < 1 << 53 and len(counts) == len(found[0][1]) for _, counts in found):
        raise ValueError("its latents are not histograms")
    return rows, found
