"""Drawn digits in MNIST's format, for demonstrations and tests on machines that cannot get MNIST.

A digit is a few strokes through control points. Each picture moves the control points a little, turns, shears and
scales the whole, and draws it with a pen of its own width.
"""

import operator
from typing import NamedTuple

import numpy as np

from tinyqae.data.images import ImageData
from tinyqae.data.mnist import content_sha256

SIDE = 28
# MNIST fits each digit into 20 x 20 pixels and puts its centre of mass into the middle of 28 x 28.
DIGIT_SIDE = 20
BLOCK = 128
POINT_SPACING = 0.028
FARTHEST = 1e9


class Glyph(NamedTuple):
    """One way to write a digit.

    points: the control points (x, y) in a unit square, y downwards.
    strokes: each one a "curve" or a "line" and the indices of the points it runs through. Strokes that share a point
    stay joined there, however the points move.
    """

    digit: int
    points: tuple[tuple[float, float], ...]
    strokes: tuple[tuple[str, tuple[int, ...]], ...]


def _one_stroke(digit: int, kind: str, *points: tuple[float, float]) -> Glyph:
    return Glyph(digit, points, ((kind, tuple(range(len(points)))),))


GLYPHS = (
    Glyph(
        0,
        ((0.5, 0.0), (0.25, 0.13), (0.15, 0.5), (0.26, 0.88), (0.5, 1.0), (0.74, 0.87), (0.85, 0.5), (0.74, 0.12)),
        (("curve", (0, 1, 2, 3, 4, 5, 6, 7, 0)),),
    ),
    _one_stroke(1, "line", (0.5, 0.0), (0.5, 0.5), (0.5, 1.0)),
    _one_stroke(1, "line", (0.32, 0.2), (0.52, 0.0), (0.52, 0.5), (0.52, 1.0)),
    Glyph(
        2,
        ((0.16, 0.24), (0.3, 0.04), (0.6, 0.0), (0.8, 0.2), (0.7, 0.48), (0.42, 0.77), (0.14, 1.0), (0.88, 0.98)),
        (("curve", (0, 1, 2, 3, 4, 5, 6)), ("line", (6, 7))),
    ),
    Glyph(
        2,
        (
            *((0.18, 0.2), (0.4, 0.0), (0.72, 0.1), (0.72, 0.45), (0.4, 0.9)),
            *((0.15, 0.96), (0.2, 0.78), (0.5, 0.9), (0.9, 0.96)),
        ),
        (("curve", (0, 1, 2, 3, 4, 5, 6, 7, 8)),),
    ),
    Glyph(
        3,
        (
            *((0.2, 0.1), (0.48, 0.0), (0.75, 0.12), (0.72, 0.35), (0.42, 0.48)),
            *((0.72, 0.58), (0.82, 0.78), (0.6, 0.98), (0.34, 1.0), (0.14, 0.88)),
        ),
        (("curve", (0, 1, 2, 3, 4)), ("curve", (4, 5, 6, 7, 8, 9))),
    ),
    Glyph(
        4,
        ((0.2, 0.02), (0.16, 0.56), (0.86, 0.54), (0.74, 0.0), (0.72, 0.54), (0.7, 1.0)),
        (("line", (0, 1, 4, 2)), ("line", (3, 4, 5))),
    ),
    Glyph(
        4,
        ((0.62, 0.0), (0.12, 0.66), (0.9, 0.66), (0.66, 0.66), (0.64, 1.0)),
        (("line", (0, 1, 3, 2)), ("line", (0, 3, 4))),
    ),
    Glyph(
        5,
        (
            *((0.84, 0.0), (0.32, 0.02), (0.24, 0.44), (0.52, 0.38), (0.8, 0.52)),
            *((0.82, 0.78), (0.58, 0.98), (0.32, 1.0), (0.12, 0.88)),
        ),
        (("line", (0, 1, 2)), ("curve", (2, 3, 4, 5, 6, 7, 8))),
    ),
    Glyph(
        6,
        (
            *((0.7, 0.0), (0.4, 0.22), (0.22, 0.6), (0.3, 0.92), (0.55, 1.0)),
            *((0.78, 0.82), (0.7, 0.58), (0.48, 0.54), (0.25, 0.74)),
        ),
        (("curve", (0, 1, 2, 3, 4, 5, 6, 7, 8)),),
    ),
    Glyph(
        7,
        ((0.12, 0.04), (0.86, 0.02), (0.6, 0.45), (0.42, 1.0)),
        (("line", (0, 1)), ("curve", (1, 2, 3))),
    ),
    Glyph(
        7,
        ((0.14, 0.04), (0.86, 0.02), (0.58, 0.5), (0.4, 1.0), (0.3, 0.5), (0.82, 0.5)),
        (("line", (0, 1)), ("line", (1, 2, 3)), ("line", (4, 2, 5))),
    ),
    Glyph(
        8,
        (
            *((0.5, 0.46), (0.26, 0.3), (0.28, 0.08), (0.52, 0.0), (0.74, 0.1), (0.74, 0.3)),
            *((0.24, 0.62), (0.18, 0.84), (0.48, 1.0), (0.8, 0.86), (0.76, 0.64)),
        ),
        (("curve", (0, 1, 2, 3, 4, 5, 0)), ("curve", (0, 6, 7, 8, 9, 10, 0))),
    ),
    Glyph(
        9,
        (
            *((0.76, 0.24), (0.6, 0.02), (0.34, 0.06), (0.2, 0.28), (0.36, 0.5)),
            *((0.62, 0.44), (0.74, 0.55), (0.66, 1.0)),
        ),
        (("curve", (0, 1, 2, 3, 4, 5, 0)), ("line", (0, 6, 7))),
    ),
)


def synthetic_digits(train: int = 20_000, test: int = 4_000, seed: int = 0) -> ImageData:
    """`train` and `test` drawn digits with their labels, in the shapes and dtypes of MNIST (see ImageData).

    The same numbers give the same pictures on the same machine and NumPy; elsewhere a pixel may differ by one level.
    The test part depends on `test` and `seed` alone. Raises ValueError for fewer than 1 picture or a negative seed,
    TypeError for numbers that are not whole.
    """
    train, test, seed = operator.index(train), operator.index(test), operator.index(seed)
    if train < 1 or test < 1:
        raise ValueError(f"train and test must be at least 1, got {train} and {test}")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}")
    train_images, train_labels = _draw(train, np.random.default_rng([seed, 0]))
    test_images, test_labels = _draw(test, np.random.default_rng([seed, 1]))
    return ImageData(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        name="SYNTHETIC, NOT MNIST",
        sha256=content_sha256(train_images, train_labels, test_images, test_labels),
        source=f"digits drawn by this program with seed {seed}",
    )


def _draw(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, 28, 28, 1) and labels uint8 (count,), both read-only."""
    labels = random.integers(10, size=count, dtype=np.uint8)
    choice = random.random(count)
    images = np.empty((count, SIDE, SIDE, 1), np.uint8)
    for digit in range(10):
        glyphs = [glyph for glyph in GLYPHS if glyph.digit == digit]
        for number, glyph in enumerate(glyphs):
            chosen = np.flatnonzero((labels == digit) & ((choice * len(glyphs)).astype(int) == number))
            weights = _stroke_weights(glyph)
            for start in range(0, len(chosen), BLOCK):
                block = chosen[start : start + BLOCK]
                pen_points = _vary(np.array(glyph.points), weights, len(block), random)
                images[block, :, :, 0] = _ink(pen_points, random)
    images.flags.writeable = False
    labels.flags.writeable = False
    return images, labels


def _stroke_weights(glyph: Glyph) -> np.ndarray:
    """float64 (P, K): P pen positions, evenly spaced along the strokes, as mixtures of the K control points."""
    control = np.array(glyph.points)
    rows = []
    for kind, indices in glyph.strokes:
        for position in range(len(indices) - 1):
            length = np.linalg.norm(control[indices[position + 1]] - control[indices[position]])
            steps = np.linspace(0, 1, max(2, int(np.ceil(length / POINT_SPACING))), endpoint=False)
            rows.append(_span_weights(kind, indices, position, steps, len(control)))
        rows.append(np.eye(len(control))[indices[-1:],])
    return np.concatenate(rows)


def _span_weights(kind: str, indices: tuple[int, ...], position: int, t: np.ndarray, controls: int) -> np.ndarray:
    """float64 (len(t), controls): the way from control point `position` of a stroke to the next, t from 0 to 1."""
    weights = np.zeros((len(t), controls))
    start, end = indices[position], indices[position + 1]
    if kind == "line":
        weights[:, start] += 1 - t
        weights[:, end] += t
        return weights
    # A Catmull-Rom spline. A closed stroke takes its neighbours from around the corner, an open one repeats its end.
    closed = indices[0] == indices[-1]
    before = indices[position - 1] if position else indices[-2 if closed else 0]
    last = position + 2 == len(indices)
    after = indices[1 if closed else -1] if last else indices[position + 2]
    weights[:, before] += (-t + 2 * t**2 - t**3) / 2
    weights[:, start] += (2 - 5 * t**2 + 3 * t**3) / 2
    weights[:, end] += (t + 4 * t**2 - 3 * t**3) / 2
    weights[:, after] += (t**3 - t**2) / 2
    return weights


def _vary(control: np.ndarray, weights: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """float64 (P, count, 2): the pen positions in pixels (x, y) of `count` pictures of one glyph."""
    moved = control[:, np.newaxis] + random.normal(0, 0.03, (len(control), count, 2))
    points = np.tensordot(weights, moved, axes=1)
    angle = np.clip(random.normal(0, 0.12, count), -0.35, 0.35)
    shear = np.clip(random.normal(0.12, 0.18, count), -0.3, 0.5)
    width = random.uniform(0.75, 1.1, count)
    x, y = points[..., 0] - 0.5, points[..., 1] - 0.5
    x = width * x - shear * y
    x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    points = np.stack([x, y], axis=-1)
    extent = np.ptp(points, axis=0).max(axis=-1)
    # The pen's own width counts towards the 20 pixels; 2.5 is the usual one.
    points *= ((DIGIT_SIDE - 2.5) * random.uniform(0.9, 1.05, count) / extent)[:, np.newaxis]
    middle = (SIDE - 1) / 2
    return points - points.mean(axis=0) + middle + random.normal(0, 0.4, (count, 2))


def _ink(pen_points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """uint8 (count, 28, 28): the pictures of a pen drawn along `pen_points` (P, count, 2)."""
    count = pen_points.shape[1]
    pixels = np.arange(SIDE, dtype=np.float32)
    # (P, count, 28) each: the square of a distance is the sum of one over columns and one over rows.
    squared_x, squared_y = ((pixels - pen_points.astype(np.float32)[..., axis, np.newaxis]) ** 2 for axis in (0, 1))
    nearest = np.full((count, SIDE, SIDE), FARTHEST, np.float32)
    here = np.empty_like(nearest)
    for along_x, along_y in zip(squared_x, squared_y, strict=True):
        np.add(along_y[:, :, np.newaxis], along_x[:, np.newaxis, :], out=here)
        np.minimum(nearest, here, out=nearest)
    radius = random.uniform(0.9, 1.75, (count, 1, 1)).astype(np.float32)
    softness = random.uniform(1.0, 1.8, (count, 1, 1)).astype(np.float32)
    brightness = random.uniform(225, 255, (count, 1, 1)).astype(np.float32)
    ink = np.clip((radius - np.sqrt(nearest)) / softness + np.float32(0.5), 0, 1)
    return np.rint(brightness * ink).astype(np.uint8)
