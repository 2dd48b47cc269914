"""Ctrl-C and SIGTERM while the command `tinyqae`, or one of the examples beside the package, starts up or exits: one line of
output, as while it works.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

_program = Path("".join(sys.argv[:1])).absolute()
IS_COMMAND = (
    _program.name == "tinyqae"
    or sys.orig_argv[1:3] == ["-m", "tinyqae"]
    or _program.parent == Path(__file__).absolute().parents[1] / "examples"
)


def stop_at_once() -> None:
    """Let Ctrl-C and SIGTERM end the command's process at once: it has nothing half-written while it imports or exits."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if IS_COMMAND and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def leave(code: int) -> NoReturn:
    """Exit after an interrupt. Python's own exit from the command sometimes ends with the signal, not with the code."""
    if IS_COMMAND:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _stop(number: int, frame: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(128 + number)


stop_at_once()
