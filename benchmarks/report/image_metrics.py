"""The image measures as the 2020 report computed them. FLAWED ON PURPOSE: use tinyqae/metrics/image.py for
everything else.

The figures of Tables 1 and 2 of "Lossy Compression using Neural Networks" (Gupta and Parimi, 2020) can only be checked
by the definitions that made them. What is wrong with these:

- **MSE and MAE wrap.** Differences and squares were taken on uint8 arrays, so modulo 256. Pixels 10 and 250 differ by
  240; here their difference is 16, its square 0. The absolute value does nothing to unsigned numbers, so the MAE is the
  mean of (original - reconstruction) mod 256 and depends on the order of the two.
- **PSNR inherits it**, as it is derived from that MSE, with the original's largest pixel as the peak. Errors spread
  evenly over all 256 values have a wrapped MSE of 105.5, so 27.9 dB is what chance scores.
- **Pooling "stack"** (Table 2): PSNR and SSIM are computed once on the whole stack, as if it were one volume. The
  SSIM's window is then 7x7x7 and compares pixels of seven neighbouring, unrelated images.
- **Pooling "image"** (Table 1): the mean of the images' PSNRs, still wrapped, and of their SSIMs, which are sound.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import skimage

from tinyqae.metrics.image import (
    PEAK,
    RADIUS,
    WINDOW,
    check_image_pair,
    check_window_fits,
    image_metrics,
    images_per_chunk,
    psnr_of_mse,
    ssim,
)

_THREADS = 4  # bounds the memory to some 20 MB a thread; scikit-image's filters run outside the interpreter lock


def report_image_metrics(original, reconstruction, pooling="stack"):
    """{"psnr" (dB), "ssim", "mse", "mae"} by the report's FLAWED definitions (see the module's docstring), floats.

    original, reconstruction: uint8 (N, H, W, C), H and W at least 7. pooling: "stack" (Table 2 and the notebooks; N at least
    7) or "image" (Table 1). A PSNR is infinite where the wrapped MSE is 0, which differing images can have (every error a
    multiple of 16), and minus infinity for an all-black original whose wrapped MSE is not 0. The means are plain, so one
    infinite image makes the mean infinite. TypeError, ValueError for other arguments.
    """
    check_image_pair(original, reconstruction)
    check_window_fits(original.shape)
    squared_error, absolute_error = _wrapping_errors(original, reconstruction)
    if pooling == "stack":
        if len(original) < WINDOW:
            raise ValueError(f"the stack has {len(original)} images; pooling 'stack' needs at least {WINDOW}")
        decibels = psnr_of_mse(squared_error.mean(), original.max())
        similarity = _volumetric_ssim(original, reconstruction)
    elif pooling == "image":
        decibels = psnr_of_mse(squared_error, original.max(axis=(1, 2, 3))).mean()
        similarity = ssim(original, reconstruction).mean()
    else:
        raise ValueError(f"pooling is {pooling!r}, expected 'stack' or 'image'")
    return {
        "psnr": float(decibels),
        "ssim": float(similarity),
        "mse": float(squared_error.mean()),
        "mae": float(absolute_error.mean()),
    }


def errata_demonstration(images):
    """Score two useless "reconstructions", all black and inverted (255 - pixel), by both sets of definitions.

    On the MNIST training images the report's stack-wise definition gives 36.9 and 35.7 dB, better than every row of
    Table 1; correct values are 9.5 and 0.3 dB (PSNR of the mean MSE). images: uint8 (N, H, W, C), N, H and W at least 7.
    Returns {"all_black", "inverted": {"report": `report_image_metrics` (stack), "correct": `image_metrics`}}.
    """
    check_image_pair(images, images)
    reconstructions = {"all_black": np.zeros_like(images), "inverted": PEAK - images}
    return {
        name: {
            "report": report_image_metrics(images, reconstruction),
            "correct": image_metrics(images, reconstruction),
        }
        for name, reconstruction in reconstructions.items()
    }


def _wrapping_errors(original, reconstruction):
    """Mean wrapped square and mean wrapped difference of each image: two float64 arrays (N,)."""
    difference = original - reconstruction  # uint8, so modulo 256, and so is its square: the report's mistake
    axes = (1, 2, 3)
    return np.square(difference).mean(axis=axes), difference.mean(axis=axes)


def _volumetric_ssim(original, reconstruction):
    """SSIM of a stack taken as one volume (N, H, W), window 7x7x7, averaged over channels.

    Equals `structural_similarity(original, reconstruction, channel_axis=-1, data_range=255)`. That call would hold a
    dozen float64 copies of the stack, so the stack is cut into chunks that overlap by the window less one image; each
    window centre away from the stack's ends is then inside exactly one chunk.
    """
    count, height, width, channels = original.shape
    centres = count - 2 * RADIUS
    step = max(WINDOW, images_per_chunk(height, width))

    def sum_of_similarities(start):
        chunk = slice(start, min(start + step, centres) + 2 * RADIUS)
        total = 0.0
        for channel in range(channels):
            volumes = (images[chunk, :, :, channel] for images in (original, reconstruction))
            _, similarity_map = skimage.metrics.structural_similarity(*volumes, win_size=WINDOW, data_range=PEAK, full=True)
            total += similarity_map[RADIUS:-RADIUS, RADIUS:-RADIUS, RADIUS:-RADIUS].sum()
        return total

    with ThreadPoolExecutor(_THREADS) as executor:
        total = sum(executor.map(sum_of_similarities, range(0, centres, step)))
    return total / (centres * (height - 2 * RADIUS) * (width - 2 * RADIUS) * channels)
