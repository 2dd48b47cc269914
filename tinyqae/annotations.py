"""Short names for the types in signatures. They are for readers and type checkers: nothing is checked at run time."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np


class Tensor(Protocol):
    """An array of another library, such as a torch.Tensor."""

    def __dlpack__(self) -> Any: ...


Array = np.ndarray  # With the backend "cupy" a cupy.ndarray, which has the same methods.
Scalar = float | np.floating  # With the backend "cupy" an array of shape ().
Shape = tuple[int, ...]
Sizes = int | Sequence[int]  # One whole number, or several.
DType = type[np.floating] | np.dtype | str  # float32 or float64, in any form that np.dtype() takes.
Sentences = Sequence[str]
Examples = Array | Sentences  # Images (N, H, W, C), or sentences.
Decoded = Any  # Images uint8 (N, H, W, C), or a list of sentences, depending on the model.
Batch = Any  # What a model's batches consist of: images as floats on the device, or a SentenceBatch.
Function = Callable[..., Any]
Progress = Callable[[int, int, dict[str, float]], object]  # Called with the steps done, all steps, and the mean loss terms.
FilePath = str | os.PathLike[str]
