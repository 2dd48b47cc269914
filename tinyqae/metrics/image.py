"""PSNR, SSIM, MSE and MAE of uint8 images, by their correct definitions (report, section 6.2.1).

Images are NumPy arrays of dtype uint8 and layout NHWC (N images, height H, width W, C channels), grayscale with C = 1.
All arithmetic is float64. The four measures return one value per image, shape (N,); `image_metrics` averages them.

The report's own figures follow other, flawed definitions: see benchmarks/report/image_metrics.py.
"""

from collections.abc import Callable

import numpy as np

from ..annotations import Shape

__all__ = ["image_metrics", "mae", "mse", "psnr", "psnr_of_mse", "ssim", "to_uint8"]

PEAK = 255
"""Largest value of a pixel: the MAX_I of the PSNR and the data range of the SSIM."""

WINDOW = 7
"""Side of the SSIM's uniform window in pixels (scikit-image's default)."""

RADIUS = WINDOW // 2

_PIXELS_PER_CHUNK = 100_000  # the dozen float64 maps of one SSIM call then fit a CPU's cache: larger chunks are slower


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Round images in [0, 1], floats of any shape, to bytes: rint(255 * clip(x, 0, 1)). TypeError for anything but floats,
    ValueError for NaN or infinity.
    """
    _check_numpy("images", images)
    if not np.issubdtype(images.dtype, np.floating):
        raise TypeError(f"images has dtype {images.dtype}; to_uint8 takes floating-point images in [0, 1]")
    if not np.isfinite(images).all():
        raise ValueError("images holds NaN or infinite values; to_uint8 takes finite values, meant to lie in [0, 1]")
    # The float32 factor promotes float16, whose 11 bits would misround, and leaves float64 as it is.
    return np.rint(np.clip(images, 0, 1) * np.float32(PEAK)).astype(np.uint8)


def mse(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared error of each image, in squared gray levels: mean over (H, W, C) of (a - b)^2.

    Args:
        a, b: uint8 (N, H, W, C) of equal shape.

    Returns:
        float64 (N,).

    Raises:
        TypeError: a or b is anything but uint8.
        ValueError: shapes differ, are not NHWC, or are empty.
    """
    return _mean_per_image(np.square, a, b)


def mae(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean absolute error of each image, in gray levels: mean over (H, W, C) of |a - b|; arguments as for `mse`."""
    return _mean_per_image(np.abs, a, b)


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """PSNR of each image in dB: 10 log10(255^2 / mse); infinite for identical images; arguments as for `mse`."""
    return psnr_of_mse(mse(a, b))


def psnr_of_mse(mean_squared_error: np.ndarray | float, peak: np.ndarray | float = PEAK) -> np.ndarray:
    """Peak signal-to-noise ratio in dB of a mean squared error: 10 log10(peak^2 / mean_squared_error) (section 6.2.1).

    Numbers or arrays; peak: the signal's largest value. An error of 0 gives infinity, whatever the peak; a peak of 0 with an
    error above 0 minus infinity. ValueError for a negative error.
    """
    error, peak = np.asarray(mean_squared_error, np.float64), np.asarray(peak, np.float64)
    if (error < 0).any():
        raise ValueError(f"mean_squared_error is {error.min()}, expected at least 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        decibels = 10 * np.log10(np.square(peak) / error)
    return np.where(error == 0, np.inf, decibels)[()]


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of each image (Wang et al. 2004), with scikit-image's defaults: 1 for identical images.

    The window is 7x7, uniform, with sample covariance; K1 = 0.01, K2 = 0.03, data range 255. The similarity is averaged
    over all windows that lie inside the image, then over channels, so that it equals
    `skimage.metrics.structural_similarity(a[i], b[i], channel_axis=-1, data_range=255)` for every i.

    That call costs more in overhead than in arithmetic on a small image, so images are stacked into one tall mosaic per
    call. The windows that straddle two images are centred within 3 pixels of a border: exactly those that a call per image
    also leaves out. Arguments as for `mse`; ValueError also for images smaller than 7x7.
    """
    from skimage.metrics import structural_similarity  # Importing it takes a third of a second; few commands need it.

    check_image_pair(a, b)
    check_window_fits(a.shape)
    count, height, width, channels = a.shape
    similarity = np.zeros(count)
    for chunk in _chunks(a.shape):
        for channel in range(channels):
            mosaics = (images[chunk, :, :, channel].reshape(-1, width) for images in (a, b))
            _, similarity_map = structural_similarity(*mosaics, win_size=WINDOW, data_range=PEAK, full=True)
            inside = similarity_map.reshape(-1, height, width)[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
            similarity[chunk] += inside.mean(axis=(1, 2))
    return similarity / channels


def image_metrics(original: np.ndarray, reconstruction: np.ndarray) -> dict[str, float]:
    """Means of the four measures over a stack of images, uint8 (N, H, W, C), H and W at least 7: a dict of floats.

        psnr                mean of the images' PSNRs, dB. Infinite if even one image is reproduced exactly.
        ssim, mse, mae      mean SSIM, mean squared error, mean absolute error
        psnr_of_mean_mse    PSNR of the mean MSE, dB, the figure to compare with bounds from rate-distortion theory

    Those bounds are on the mean MSE, whose PSNR never exceeds psnr (Jensen's inequality).
    """
    squared_error = mse(original, reconstruction)
    means = {
        "psnr": psnr_of_mse(squared_error).mean(),
        "ssim": ssim(original, reconstruction).mean(),
        "mse": squared_error.mean(),
        "mae": mae(original, reconstruction).mean(),
        "psnr_of_mean_mse": psnr_of_mse(squared_error.mean()),
    }
    return {name: float(mean) for name, mean in means.items()}


def check_image_pair(a: np.ndarray, b: np.ndarray) -> None:
    """Raise TypeError or ValueError unless a and b are uint8 NHWC stacks of the same, non-empty shape."""
    for name, images in (("first", a), ("second", b)):
        _check_numpy(f"the {name} stack of images", images)
        if images.dtype != np.uint8:
            hint = "; convert images in [0, 1] with to_uint8" if np.issubdtype(images.dtype, np.floating) else ""
            raise TypeError(f"the {name} stack of images has dtype {images.dtype}, expected uint8{hint}")
        if images.ndim != 4:
            raise ValueError(f"the {name} stack of images has shape {images.shape}, expected (N, H, W, C)")
    if a.shape != b.shape:
        raise ValueError(f"the stacks of images differ in shape: {a.shape} and {b.shape}")
    if a.size == 0:
        raise ValueError(f"the stacks of images are empty: shape {a.shape}")


def check_window_fits(shape: Shape) -> None:
    """Raise ValueError if images of an NHWC shape are smaller than the SSIM's window."""
    if min(shape[1:3]) < WINDOW:
        raise ValueError(f"images are {shape[1]}x{shape[2]} pixels; SSIM needs at least {WINDOW}x{WINDOW}")


def images_per_chunk(height: int, width: int) -> int:
    """The number of images of this size to process at once, so that memory stays bounded and the work stays in cache."""
    return max(1, _PIXELS_PER_CHUNK // (height * width))


def _chunks(shape: Shape) -> list[slice]:
    size = images_per_chunk(*shape[1:3])
    return [slice(start, start + size) for start in range(0, shape[0], size)]


def _mean_per_image(penalty: Callable[[np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    check_image_pair(a, b)
    means = np.empty(len(a))
    for chunk in _chunks(a.shape):
        # The dtype makes NumPy convert before it subtracts: uint8 differences would wrap modulo 256.
        means[chunk] = penalty(np.subtract(a[chunk], b[chunk], dtype=np.float64)).mean(axis=(1, 2, 3))
    return means


def _check_numpy(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__}, expected a NumPy array")
