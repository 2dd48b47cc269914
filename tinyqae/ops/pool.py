"""Max-pooling over k x k windows with stride k, and nearest upsampling by a whole factor, NHWC.

Source: Goodfellow, Bengio, Courville, Deep Learning, section 9.3; Dumoulin and Visin 2016, arXiv:1603.07285, section 3.
"""
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


def max_pool_backward(dout, x, out, size, remaining, is_maximum, dx):
    """dx = dout at the place of each window's maximum, 0 elsewhere.

    The maximum has derivative 1 with respect to the value that attains it and 0 with respect to the others. At a tie
    it has no derivative; by convention all of dout goes to the first maximum in row-major order (u, then v), as in
    PyTorch. So the places are visited in that order, and what one of them takes does not remain for the next.

    dout, out, remaining, is_maximum (N, H/k, W/k, C), the last two scratch space, is_maximum of booleans; x, dx
    (N, H, W, C). dout must be finite.
    """
    xp = backend.xp
    *places, last = zip(pool_places(x, size, out, "out"), pool_places(dx, size, dout, "dout"), strict=True)
    xp.copyto(remaining, dout)
    for place, dplace in places:
        xp.equal(place, out, out=is_maximum)
        xp.multiply(remaining, is_maximum, out=dplace)
        xp.subtract(remaining, dplace, out=remaining)
    xp.copyto(last[1], remaining)
    return dx


def upsample_forward(x, factor, out):
    """out[n, i, j, c] = x[n, i // k, j // k, c], k = factor: every pixel becomes k x k equal ones.

    x (N, H, W, C), out (N, k H, k W, C); else ValueError.
    """
    for place in pool_places(out, factor, x, "x"):
        backend.xp.copyto(place, x)
    return out


def upsample_backward(dout, factor, dx):
    """dx[n, i, j, c] = sum over u, v in 0..k-1 of dout[n, k i + u, k j + v, c], the adjoint of upsample_forward.

    dout (N, k H, k W, C), dx (N, H, W, C); else ValueError.
    """
    first, *others = pool_places(dout, factor, dx, "dx")
    backend.xp.copyto(dx, first)
    for place in others:
        backend.xp.add(dx, place, out=dx)
    return dx


def require_pooled(fine, size, coarse, name):
    """ValueError unless coarse (N, H/k, W/k, C) belongs to fine (N, H, W, C); `name` is what coarse is called."""
    if coarse.shape != pooled_shape(fine.shape, size):
        raise ValueError(f"{name} has shape {coarse.shape}; with {fine.shape} and {size}x{size} it must be "
                         f"{pooled_shape(fine.shape, size)}")


def pool_places(fine, size, coarse, name):
    """The k k views (N, H/k, W/k, C) of fine (N, H, W, C), one for each place of a window, in row-major order."""
    require_pooled(fine, size, coarse, name)
    return [fine[:, u::size, v::size] for u in range(size) for v in range(size)]
