"""Max-pooling over k x k windows with stride k, NHWC, at inference; in training it is part of norm_relu_pool.py."""
from .. import backend


def pooled_shape(input_shape, size):
    """(N, H/k, W/k, C) for input_shape (N, H, W, C) and k = size; ValueError where k does not divide H and W."""
    if not (isinstance(size, int) and size > 0):
        raise ValueError(f"size={size!r} must be a whole number above 0")
    images, height, width, channels = input_shape
    if height % size or width % size:
        raise ValueError(f"an image of {height}x{width} does not divide into windows of {size}x{size}; "
                         f"crop or pad it to multiples of {size}")
    return images, height // size, width // size, channels


def max_pool_forward(x, size, out):
    """out[n, i, j, c] = max over u, v in 0..k-1 of x[n, k i + u, k j + v, c], k = size.

    x (N, H, W, C) with H and W multiples of k, out (N, H/k, W/k, C), of one floating dtype; else ValueError.
    A NaN in a window is its maximum.
    """
    first, *others = pool_places(x, size, out, "out")
    backend.xp.copyto(out, first)
    for place in others:
        backend.xp.maximum(out, place, out=out)
    return out


def require_pooled(fine, size, coarse, name):
    """ValueError unless coarse (N, H/k, W/k, C) belongs to fine (N, H, W, C); `name` is what coarse is called."""
    if coarse.shape != pooled_shape(fine.shape, size):
        raise ValueError(f"{name} has shape {coarse.shape}; with {fine.shape} and {size}x{size} it must be "
                         f"{pooled_shape(fine.shape, size)}")


def pool_places(fine, size, coarse, name):
    """The k k views (N, H/k, W/k, C) of fine (N, H, W, C), one for each place of a window, in row-major order."""
    require_pooled(fine, size, coarse, name)
    return [fine[:, u::size, v::size] for u in range(size) for v in range(size)]
