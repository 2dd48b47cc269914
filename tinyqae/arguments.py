"""Argument checks: each raises an error that names the argument, its value and what is expected."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import backend
from .annotations import DType, Examples, Shape, Sizes
from .bottlenecks import Bottleneck
from .errors import require_positive
from .schedules import SCHEDULES, Schedule


def require_common(bottleneck: Bottleneck, seed: int, dtype: DType) -> None:
    """TypeError or ValueError unless these arguments, common to all autoencoders, are valid."""
    if not isinstance(bottleneck, Bottleneck):
        raise TypeError(f"bottleneck={bottleneck!r} must be a bottleneck object, such as Commit(weight=1.0)")
    try:
        name = str(np.dtype(dtype).name)
    except (SyntaxError, TypeError, ValueError):  # NumPy parses ",f4" as Python.
        name = str(dtype)
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype={name!r} must be float32 or float64")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed={seed!r} must be a whole number, 0 or more")


def positive_integers(argument: str, values: Sizes) -> Shape:
    """`values`, one whole number or several, as a tuple; ValueError unless all are above 0."""
    numbers = values if isinstance(values, list | tuple | np.ndarray) else (values,)
    try:
        return tuple(require_positive(argument, n) for n in numbers) or (require_positive(argument, None),)
    except ValueError:
        raise ValueError(f"{argument}={values!r} must be one or more whole numbers above 0") from None


def require_images(input_shape: Sequence[int], mean_image: np.ndarray | None = None) -> Shape:
    """`input_shape` as a tuple of three numbers above 0; ValueError unless it and `mean_image`, of this shape, are valid."""
    shape = positive_integers("input_shape", input_shape)
    if len(shape) != 3:
        raise ValueError(f"input_shape={input_shape!r} must be (H, W, C)")
    if mean_image is not None:
        if mean_image.shape != shape:
            raise ValueError(f"mean_image has shape {mean_image.shape}, the model's images {shape}")
        if not (mean_image.min() >= 0 and mean_image.max() <= 1):
            raise ValueError(f"mean_image runs from {mean_image.min()} to {mean_image.max()}; it must be in [0, 1]")
    return shape


def require_levels(input_shape: Sequence[int], widths: Shape, decoder_widths: Shape) -> Shape:
    """`input_shape` (H, W, C) as a tuple; ValueError unless it can be halved once for each of `widths`, and back."""
    if len(widths) != len(decoder_widths):
        raise ValueError(f"decoder_widths={decoder_widths!r} must have as many levels as widths={widths!r}")
    height, width, _ = shape = require_images(input_shape)
    if height % (factor := 2 ** len(widths)) or width % factor:
        raise ValueError(f"input_shape={shape!r} must have sides divisible by {factor}, for {len(widths)} levels")
    return shape


def as_images(images: Any, input_shape: Shape) -> np.ndarray:
    """`images` as an array (N, H, W, C) on the host, (H, W, C) being input_shape. Accepted shapes: (N, H, W, C);
    one image (H, W, C), as N = 1; and, if C = 1, (N, H, W) and (H, W).

    Args:
        images: a NumPy array, anything np.asarray takes, or anything with __dlpack__, such as a torch.Tensor.

    Raises:
        TypeError: images are in GPU memory, and the backend is NumPy.
        ValueError: images have another shape.
    """
    if not isinstance(images, np.ndarray) and hasattr(images, "__dlpack_device__"):
        on_host = images.__dlpack_device__()[0] in (1, 3)  # kDLCPU, kDLCUDAHost.
        if not on_host and backend.name == "numpy":
            raise TypeError(
                f"images are a {type(images).__name__} in GPU memory, but the backend is NumPy: copy them to "
                "the host, as images.cpu() does in PyTorch, or call tinyqae.backend.use('cupy')"
            )
        images = np.from_dlpack(images) if on_host else backend.to_host(backend.xp.from_dlpack(images))
    images = np.asarray(images)
    forms = [input_shape, input_shape[:2]] if input_shape[2] == 1 else [input_shape]
    for form in forms:
        n = images.shape[: images.ndim - len(form)]
        if len(n) < 2 and images.shape == n + form:
            return images.reshape((n or (1,)) + input_shape)
    raise ValueError(
        f"images have shape {images.shape}; this model takes (N, {str(input_shape)[1:]}, or one image "
        f"{input_shape}" + ", with or without the channel axis" * (input_shape[2] == 1)
    )


def require_training(
    examples: Examples,
    validation: Examples | None,
    optimizer: object,
    epochs: int,
    batch_size: int,
    schedule: str | Schedule,
    clip_norm: float | None,
) -> None:
    """TypeError or ValueError unless these arguments of `fit` are valid."""
    if isinstance(optimizer, type) or not hasattr(optimizer, "step"):
        raise TypeError(f"optimizer={optimizer!r} must be an optimizer object, such as Adam(1e-3)")
    require_positive("epochs", epochs)
    require_positive("batch_size", batch_size)
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm={clip_norm!r} must be None or a number above 0")
    if len(examples) == 0:
        raise ValueError("examples is empty: there is nothing to train on")
    if validation is not None and len(validation) == 0:
        raise ValueError("validation is empty; give at least one example, or None to skip validation")
    if not callable(schedule) and schedule not in SCHEDULES:
        raise ValueError(f"schedule={schedule!r} is unknown; choose one of {', '.join(SCHEDULES)}, or give a function")


def unpacked_code(code: np.ndarray, size: int, low: float, high: float) -> np.ndarray:
    """A code (N, size) of bits or numbers, or packed bits, as an array (N, size); ValueError for other shapes, and for
    values outside [low, high].
    """
    code, packed = np.asarray(code), -(-size // 8)
    # A single bit is 0 or 1 as a byte, and 0 or 128 when packed.
    bits_as_bytes = size == 1 and code.size and code.max() == 1
    if code.dtype == np.uint8 and code.shape[1:] == (packed,) and not bits_as_bytes:
        code = np.unpackbits(code, axis=1, count=size)
    if code.shape[1:] != (size,):
        raise ValueError(f"code has shape {code.shape}; this model decodes (N, {size}), or packed bytes (N, {packed})")
    if code.dtype.kind not in "biuf" or (code.size and not (code.min() >= low and code.max() <= high)):
        raise ValueError(
            f"code ({code.dtype}) must hold bits or numbers in [{low}, {high}]"
            + (f", not values from {code.min()} to {code.max()}" if code.dtype.kind in "biuf" else "")
        )
    return code
