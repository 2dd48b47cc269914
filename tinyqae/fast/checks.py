"""The check that ops make of their arrays."""


def require(name, array, shape, dtype, written=False):
    """ValueError unless `array` has this shape and dtype.

    A destination must be contiguous too: a reshaped view of anything else would be a copy, and the result lost.
    """
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} has shape {array.shape} and dtype {array.dtype}; the plan needs {shape} and {dtype}")
    if written and not array.flags.c_contiguous:
        raise ValueError(f"{name} is a destination and must be contiguous")
