"""Synthetic digits in MNIST's format, for demonstrations and tests on machines that cannot download MNIST.

A digit is a few strokes through control points. Each picture moves the control points a little, rotates, shears and
scales the whole, and draws it with a pen of random width.
"""

import numpy as np

from tinyqae.data.images import ImageData, draw_both_parts
from tinyqae.data.mnist import content_sha256

SIDE = 28
# MNIST fits each digit into 20 x 20 pixels and puts its centre of mass at the centre of 28 x 28.
DIGIT_SIDE = 20
BLOCK = 128
POINT_SPACING = 0.028

# Ways to write a digit: the digit; its control points "x,y" in hundredths of a square, y downwards; and its strokes, each a
# curve or a line through the points with these indices. Strokes that share a point stay joined, however the points move.
GLYPHS = (
    (0, "50,0 25,13 15,50 26,88 50,100 74,87 85,50 74,12", "curve 0 1 2 3 4 5 6 7 0"),
    (1, "50,0 50,50 50,100", "line 0 1 2"),
    (1, "32,20 52,0 52,50 52,100", "line 0 1 2 3"),
    (2, "16,24 30,4 60,0 80,20 70,48 42,77 14,100 88,98", "curve 0 1 2 3 4 5 6; line 6 7"),
    (2, "18,20 40,0 72,10 72,45 40,90 15,96 20,78 50,90 90,96", "curve 0 1 2 3 4 5 6 7 8"),
    (3, "20,10 48,0 75,12 72,35 42,48 72,58 82,78 60,98 34,100 14,88", "curve 0 1 2 3 4; curve 4 5 6 7 8 9"),
    (4, "20,2 16,56 86,54 74,0 72,54 70,100", "line 0 1 4 2; line 3 4 5"),
    (4, "62,0 12,66 90,66 66,66 64,100", "line 0 1 3 2; line 0 3 4"),
    (5, "84,0 32,2 24,44 52,38 80,52 82,78 58,98 32,100 12,88", "line 0 1 2; curve 2 3 4 5 6 7 8"),
    (6, "70,0 40,22 22,60 30,92 55,100 78,82 70,58 48,54 25,74", "curve 0 1 2 3 4 5 6 7 8"),
    (7, "12,4 86,2 60,45 42,100", "line 0 1; curve 1 2 3"),
    (7, "14,4 86,2 58,50 40,100 30,50 82,50", "line 0 1; line 1 2 3; line 4 2 5"),
    (8, "50,46 26,30 28,8 52,0 74,10 74,30 24,62 18,84 48,100 80,86 76,64", "curve 0 1 2 3 4 5 0; curve 0 6 7 8 9 10 0"),
    (9, "76,24 60,2 34,6 20,28 36,50 62,44 74,55 66,100", "curve 0 1 2 3 4 5 0; line 0 6 7"),
)


def synthetic_digits(train: int = 20_000, test: int = 4_000, seed: int = 0) -> ImageData:
    """`train` and `test` drawn digits with their labels, in the shapes and dtypes of MNIST (see ImageData).

    The same arguments give the same pictures on the same machine and NumPy; elsewhere a pixel may differ by one level. For
    the arguments see `draw_both_parts`.
    """
    return draw_both_parts(_draw, train, test, seed, "SYNTHETIC, NOT MNIST", content_sha256, "digits")


def _draw(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, 28, 28, 1) and labels uint8 (count,)."""
    labels = random.integers(10, size=count, dtype=np.uint8)
    choice = random.random(count)
    images = np.empty((count, SIDE, SIDE, 1), np.uint8)
    for digit in range(10):
        glyphs = [glyph[1:] for glyph in GLYPHS if glyph[0] == digit]
        for number, (points, strokes) in enumerate(glyphs):
            chosen = np.flatnonzero((labels == digit) & ((choice * len(glyphs)).astype(int) == number))
            control = np.array([point.split(",") for point in points.split()], np.float64) / 100
            weights = np.concatenate([_stroke_weights(control, *stroke.split()) for stroke in strokes.split(";")])
            for start in range(0, len(chosen), BLOCK):
                block = chosen[start : start + BLOCK]
                images[block, :, :, 0] = _ink(_vary(control, weights, len(block), random), random)
    return images, labels


def _stroke_weights(control: np.ndarray, kind: str, *numbers: str) -> np.ndarray:
    """float64 (P, K): P pen positions, evenly spaced along a stroke, as mixtures of the K control points (K, 2)."""
    every = np.eye(len(control))[list(map(int, numbers))]
    # A Catmull-Rom spline. A closed stroke takes its neighbours from the other end, an open one repeats its end points.
    before, after = (every[-2], every[1]) if numbers[0] == numbers[-1] else (every[0], every[-1])
    around = [before, *every, after]
    rows = []
    for previous, start, end, following in (around[i : i + 4] for i in range(len(every) - 1)):
        length = np.linalg.norm(end @ control - start @ control)
        t = np.linspace(0, 1, max(2, int(np.ceil(length / POINT_SPACING))), endpoint=False)[:, np.newaxis]
        if kind == "line":
            rows.append((1 - t) * start + t * end)
        else:
            rows.append(
                (-t + 2 * t**2 - t**3) / 2 * previous
                + (2 - 5 * t**2 + 3 * t**3) / 2 * start
                + (t + 4 * t**2 - 3 * t**3) / 2 * end
                + (t**3 - t**2) / 2 * following
            )
    return np.concatenate([*rows, every[-1:]])


def _vary(control: np.ndarray, weights: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """float64 (P, count, 2): the pen positions in pixels (x, y) of `count` pictures of one glyph."""
    moved = control[:, np.newaxis] + random.normal(0, 0.03, (len(control), count, 2))
    points = np.tensordot(weights, moved, axes=1)
    angle = np.clip(random.normal(0, 0.12, count), -0.35, 0.35)
    shear = np.clip(random.normal(0.12, 0.18, count), -0.3, 0.5)
    width = random.uniform(0.75, 1.1, count)
    y = points[..., 1] - 0.5
    x = width * (points[..., 0] - 0.5) - shear * y
    points = np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y], axis=-1)
    extent = np.ptp(points, axis=0).max(axis=-1)
    # The pen's own width counts towards the 20 pixels; 2.5 is the usual one.
    points *= ((DIGIT_SIDE - 2.5) * random.uniform(0.9, 1.05, count) / extent)[:, np.newaxis]
    return points - points.mean(axis=0) + (SIDE - 1) / 2 + random.normal(0, 0.4, (count, 2))


def _ink(pen_points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """uint8 (count, 28, 28): the pictures of a pen drawn along `pen_points` (P, count, 2)."""
    count = pen_points.shape[1]
    # (P, count, 28) each: the square of a distance is the sum of one over columns and one over rows.
    across = pen_points.astype(np.float32)[..., np.newaxis] - np.arange(SIDE, dtype=np.float32)
    nearest = np.full((count, SIDE, SIDE), np.inf, np.float32)
    here = np.empty_like(nearest)
    for x, y in (across**2).swapaxes(1, 2):
        np.add(y[:, :, np.newaxis], x[:, np.newaxis], out=here)
        np.minimum(nearest, here, out=nearest)
    radius, softness, brightness = (
        random.uniform(low, high, (count, 1, 1)).astype(np.float32) for low, high in ((0.9, 1.75), (1.0, 1.8), (225, 255))
    )
    ink = np.clip((radius - np.sqrt(nearest)) / softness + np.float32(0.5), 0, 1)
    return np.rint(brightness * ink).astype(np.uint8)
