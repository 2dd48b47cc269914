"""When two computations of one code, or two decodings of it, are the same but for rounding."""

import numpy as np

# Nearer than this to the threshold, rounding may decide what a bit is.
MARGIN = 1e-4


def assert_same_code(model, examples, latent, code):
    """The model gives these examples the values `latent` before the threshold, and `code` but where rounding decides."""
    np.testing.assert_allclose(model.latent(examples), latent, rtol=0, atol=MARGIN / 10 * max(1, np.abs(latent).max()))
    found = model.encode(examples)
    assert found.dtype == code.dtype and found.shape == code.shape
    if code.dtype == bool:
        clear = np.abs(latent - 0.5) > MARGIN
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(found[clear], code[clear])
    else:
        np.testing.assert_array_equal(found, model.latent(examples))


def assert_same_examples(decoded, expected):
    """The same sentences, or the same images. A grey level is allowed: another engine, kernel or processor sums in another
    order, and that decides how a pixel is rounded that lies halfway between two levels.
    """
    if isinstance(decoded, list):
        assert decoded == list(expected)
    else:
        assert decoded.dtype == expected.dtype == np.uint8 and decoded.shape == expected.shape
        difference = np.abs(decoded.astype(int) - expected)
        assert difference.max() <= 1 and difference.mean() < 0.01
