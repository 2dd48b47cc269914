"""Shared by all programs, including the examples and benchmarks: argument types, common options, exit handling."""

import argparse
import contextlib
import functools
import io
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from .. import backend, interrupts
from ..annotations import FilePath
from ..checkpoint import locked, write_atomically
from ..engine import DEFAULT, ENGINES
from ..errors import CheckpointError, TinyqaeError

Number = TypeVar("Number", int, float)
Result = TypeVar("Result")


def _number(kind: Callable[[str], Number], accept: Callable[[Number], bool], wanted: str) -> Callable[[str], Number]:
    """An argparse type: a number that `accept` accepts; wanted: describes such numbers in the error message."""

    def convert(text: str) -> Number:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if accept(value):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")

    return convert


positive_int = _number(int, lambda value: 0 < value < 2**31, "a whole number above 0 and below 2147483648")
non_negative_int = _number(int, lambda value: value >= 0, "a whole number, 0 or more")
positive_float = _number(float, lambda value: 0 < value < math.inf, "a number above 0")
non_negative_float = _number(float, lambda value: 0 <= value < math.inf, "a number, 0 or more")


def widths(text: str) -> tuple[int, ...]:
    """An argparse type: "50" or "256,50" -> (50,) or (256, 50)."""
    return tuple(positive_int(part) for part in text.split(","))


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line instead of the whole usage, and whose help keeps its line breaks."""

    description: str  # Never None here.

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{"formatter_class": argparse.RawDescriptionHelpFormatter, **options})

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """As in argparse, but reject "" as the value of any argument, and "--" as that of an option: argparse drops it."""
        name = "/".join(action.option_strings) or action.dest
        if action.nargs != argparse.PARSER and "" in arg_strings:
            self.error(f"argument {name}: '' is empty")
        if action.option_strings and arg_strings == ["--"]:
            self.error(f"argument {name}: expected one argument")
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"error: {message}; see --help\n")


def add_backend_argument(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --backend."""
    parser.add_argument(
        "--backend",
        choices=backend.BACKENDS,
        default=default,
        help="numpy (CPU), cupy (NVIDIA GPU), or auto: a GPU if there is a working one; default: %(default)s",
    )


def add_engine_argument(parser: argparse.ArgumentParser) -> None:
    """Add --engine."""
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help="fast: buffers and fused kernels; reference: the formulas as in "
        f"tinyqae/ops; default: $TINYQAE_ENGINE, else {DEFAULT}",
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --data-dir and --allow-modified-data."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the data sets are stored or downloaded to; default: $TINYQAE_DATA, else the user's cache",
    )
    parser.add_argument(
        "--allow-modified-data",
        action="store_true",
        help="accept files that are not CIFAR-10's originals; every output then says CIFAR-10 proxy",
    )


def use_backend(which: str, say: bool = True) -> None:
    """Call backend.use; if there was a choice, print the selected backend to standard error."""
    backend.use(which)
    if say and (backend.name == "cupy" or backend.why_not_cupy):
        print(backend.describe(), file=sys.stderr)


def require_writable(directory: FilePath) -> None:
    """Raise OSError unless files can be written to the directory, which is created if it does not exist."""
    write_atomically(Path(directory) / ".writable", lambda file: None)
    (Path(directory) / ".writable").unlink(missing_ok=True)  # Another process may do the same.


@contextlib.contextmanager
def only_run_in(directory: FilePath) -> Iterator[None]:
    """Lock the directory. CheckpointError if another process has locked it; OSError as in require_writable."""
    require_writable(directory)
    with locked(directory, wait=False) as free:
        if not free:
            raise CheckpointError(f"{directory}: another run is writing there; wait until it ends, or choose another --out")
        yield


@contextlib.contextmanager
def without_messages_of_c_libraries() -> Iterator[None]:
    """Suppress what C libraries write to standard error, as libtiff does for a corrupted file; we report our own error.

    Python's own messages still appear. For programs only: this affects the whole process.
    """
    try:
        if sys.stderr.fileno() != 2:
            raise OSError("another stream, such as a test's")
        sys.stderr.flush()
        kept = os.dup(2)
    except (AttributeError, OSError):
        yield
        return
    stream, nowhere = sys.stderr, os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with os.fdopen(os.dup(kept), "w", encoding=stream.encoding, errors=stream.errors, buffering=1) as sys.stderr:
            yield
    finally:
        sys.stderr = stream
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Terminated(BaseException):
    """SIGTERM as an exception, so that partially written files are removed on exit."""


def run_main(main: Callable[[], Result], stopped: str = "stopped") -> Result:
    """Call main() as a program and return its result.

    Expected errors print one line to standard error and exit with code 1, usage errors exit with 2; Ctrl-C and SIGTERM print
    `stopped` and exit with 130 and 143. If the reader of standard output closes it (`| head`), the program ends silently.
    """
    # A closed stream is None. Standard output is opened for reading, so that writing to it fails instead of being ignored.
    for name, mode in (("stdin", "r"), ("stdout", "r"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # Escape what the console's encoding lacks.
    arrived: list[type[BaseException]] = []
    if threading.current_thread() is threading.main_thread():

        def stop(number: int, frame: object) -> NoReturn:
            arrived.append(Terminated if number == signal.SIGTERM else KeyboardInterrupt)
            raise arrived[-1]

        # Sent to the main thread, which may be blocked in a system call.
        again = functools.partial(signal.pthread_kill, threading.get_ident()) if os.name == "posix" else signal.raise_signal

        def stop_later(ignored: Any) -> None:
            # Python ignores exceptions in callbacks, such as those of weak references, so the signal has to be sent again.
            number = {Terminated: signal.SIGTERM, KeyboardInterrupt: signal.SIGINT}.get(ignored.exc_type)
            if number is None:
                sys.__unraisablehook__(ignored)
            else:
                threading.Timer(0.05, again, (number,)).start()

        sys.unraisablehook = stop_later
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, stop)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            try:
                result = main()
            except Exception:
                if arrived:  # C code in between, such as Matplotlib's, puts an error of its own in place of the signal's.
                    raise arrived[-1] from None
                raise
        sys.stdout.flush()  # So that a closed pipe is detected here and not when Python exits.
        return result
    except (KeyboardInterrupt, Terminated) as error:
        print(stopped, file=sys.stderr)
        interrupts.leave(143 if isinstance(error, Terminated) else 130)
    except BrokenPipeError:
        # Python flushes again on exit, which must not fail. 141 is the shell's exit code for other programs in this case.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MemoryError as error:
        sys.exit(f"error: out of memory{f': {error}' if str(error) else ''}")
    except TinyqaeError as error:
        sys.exit(f"error: {error}")
    except io.UnsupportedOperation:
        sys.exit("error: standard output is closed")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'file'}: {error.strerror or error}")
    finally:
        sys.unraisablehook = sys.__unraisablehook__
        interrupts.stop_at_once()
