"""How much memory something takes."""

import contextlib
import tracemalloc

import numpy as np


def peak_of_second_call(step):
    """Bytes allocated at most at a time while step() runs once more."""
    step()
    # A ufunc that broadcasts or casts takes a buffer of this many elements for each operand, whatever their size.
    buffer = np.setbufsize(16)
    tracemalloc.start()
    try:
        step()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        np.setbufsize(buffer)


@contextlib.contextmanager
def most_memory(limit):
    """Fails where the block takes more bytes."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
