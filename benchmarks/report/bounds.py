"""Theoretical limits at a given number of bits or floats, for comparison with measured rows."""

import numpy as np

from tinyqae.metrics.image import psnr_of_mse


def gaussian_bound(images, bits):
    """PSNR in dB that can be reached with `bits` bits per image for a Gaussian source with the covariance of `images`.

    Reverse water-filling (Cover and Thomas, Elements of Information Theory, theorem 10.3.3): with eigenvalues v_i of
    the covariance and a water level w, distortion D = sum min(w, v_i) at rate R = sum max(0, log2(v_i / w) / 2). Among
    all sources with this covariance the Gaussian is the hardest, so a code that knows more than second moments can
    beat it. The PSNR is that of the mean MSE. images: bytes (N, H, W, C).
    """
    return _water_filling(_principal_components(images)[0], bits)


def pca_psnr(train_images, test_images, floats):
    """PSNR in dB (of the mean MSE) of `test_images` reduced to their first `floats` principal components, which are computed
    from `train_images`: the best linear code. Images: bytes (N, H, W, C).
    """
    return _projected(_principal_components(train_images), test_images, floats)


def limits(train_images, test_images, sizes):
    """{size: {"gaussian": gaussian_bound of the test images at `size` bits, "pca": pca_psnr with `size` floats}}. Large
    images take long to decompose; this does it only once for all sizes.
    """
    of_test, of_train = _principal_components(test_images), _principal_components(train_images)
    return {
        size: {"gaussian": _water_filling(of_test[0], size), "pca": _projected(of_train, test_images, size)}
        for size in sizes
    }


def _water_filling(variances, bits):
    if not bits > 0:
        raise ValueError(f"bits={bits!r} must be above 0")
    variances = np.maximum(variances, 0)
    low, high = 0.0, variances.max()
    for _ in range(200):
        level = (low + high) / 2
        positive = variances[variances > level]
        if 0.5 * np.log2(positive / max(level, 1e-300)).sum() > bits:
            low = level
        else:
            high = level
    return float(psnr_of_mse(np.minimum(level, variances).sum() / len(variances)))


def _projected(components, test_images, floats):
    _, vectors, mean = components
    if not 0 < floats <= len(mean):
        raise ValueError(f"floats={floats!r} must be from 1 to the number of pixels, {len(mean)}")
    centred = test_images.reshape(len(test_images), -1) - mean
    kept = centred @ vectors[:, -floats:]
    error = (centred**2).sum() - (kept**2).sum()
    return float(psnr_of_mse(error / centred.size))


def _principal_components(images):
    """(variances ascending, vectors in columns, mean) of the flattened images, in squared pixel levels."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    flat -= mean
    variances, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    return variances, vectors, mean
