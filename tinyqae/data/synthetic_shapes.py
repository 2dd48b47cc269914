"""Synthetic coloured shapes in CIFAR-10's format, for demonstrations and tests on machines that cannot download it.

A picture is a background that fades from one colour to another, a faint distractor shape and the shape that the label
names, shaded, rotated and scaled, with a little noise. Each shape is a function of the plane, roughly the distance to
its outline, negative inside, so that the outline can be drawn smoothly.
"""

import math

import numpy as np

from tinyqae.data.images import ImageData, draw_both_parts, records_sha256

SIDE = 32
BLOCK = 64


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Folding the angle lays all ten sides of the five points onto one, from an inner corner to a tip.
    tenth = math.pi / 5
    angle = np.abs(np.mod(np.arctan2(y, x), 2 * tenth) - tenth)
    radius = np.hypot(x, y)
    inner, tip = 0.45, 1.1
    side_along, side_across = tip * math.cos(tenth) - inner, tip * math.sin(tenth)
    outwards = (radius * np.cos(angle) - inner) * side_across - radius * np.sin(angle) * side_along
    return outwards / math.hypot(side_along, side_across)


# The label is the position.
SHAPES = {
    "disc": lambda x, y: np.hypot(x, y) - 1,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.85,
    # The two upper sides mirror each other.
    "triangle": lambda x, y: np.maximum(y, np.abs(x) * (math.sqrt(3) / 2) - y / 2) - 0.55,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.75) - 0.25,
    "cross": lambda x, y: np.maximum(np.maximum(np.abs(x), np.abs(y)) - 1, np.minimum(np.abs(x), np.abs(y)) - 0.32),
    "star": _star,
    "bar": lambda x, y: np.maximum(np.abs(x) - 1.1, np.abs(y) - 0.28),
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 1, 0.8 - np.hypot(x - 0.55, y)),
    "half disc": lambda x, y: np.maximum(np.hypot(x, y + 0.4) - 1, -0.4 - y),
    "two dots": lambda x, y: np.hypot(np.abs(x) - 0.6, y) - 0.45,
}


def synthetic_shapes(train: int = 20_000, test: int = 4_000, seed: int = 0) -> ImageData:
    """`train` and `test` drawn shapes, images uint8 (N, 32, 32, 3) and labels uint8 (N,) from 0 to 9.

    The same arguments give the same pictures on the same machine and NumPy; elsewhere a value may differ by one level. The
    hash is that of the records (see `records_sha256`); for the arguments see `draw_both_parts`.
    """
    return draw_both_parts(_draw, train, test, seed, "SYNTHETIC, NOT CIFAR-10", records_sha256, "shapes")


def _draw(count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, 32, 32, 3) and labels uint8 (count,)."""
    labels = random.integers(len(SHAPES), size=count, dtype=np.uint8)
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for start in range(0, count, BLOCK):
        block = labels[start : start + BLOCK]
        distracting = random.integers(len(SHAPES), size=len(block))
        canvas = _gradients(_colours(len(block), random), _colours(len(block), random), random)
        _paint(canvas, distracting, random.uniform(5, 14, len(block)), 0.35, random)
        _paint(canvas, block, random.uniform(7.5, 12, len(block)), 1, random)
        canvas += np.float32(0.012) * random.standard_normal(canvas.shape, np.float32)
        images[start : start + BLOCK] = np.rint(255 * np.clip(canvas, 0, 1))
    return images, labels


def _colours(count: int, random: np.random.Generator) -> np.ndarray:
    """float32 (count, 3) from 0 to 1: muted as often as vivid, as in photographs."""
    grey = random.uniform(0.1, 0.9, (count, 1))
    vividness = random.uniform(0, 1, (count, 1))
    return (grey + vividness * (random.uniform(0, 1, (count, 3)) - grey)).astype(np.float32)


def _gradients(start: np.ndarray, end: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """float32 (N, 32, 32, 3): from the colours `start` to the colours `end`, both (N, 3), in a random direction."""
    direction = random.uniform(0, 2 * np.pi, (len(start), 1, 1)).astype(np.float32)
    place = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE - 0.5
    along = np.cos(direction) * place + np.sin(direction) * place[:, np.newaxis]
    # Half the diagonal of the unit square is the farthest that a corner lies from its centre.
    share = (0.5 + along / math.sqrt(2))[..., np.newaxis]
    return start[:, np.newaxis, np.newaxis] + (end - start)[:, np.newaxis, np.newaxis] * share


def _paint(canvas: np.ndarray, kinds: np.ndarray, radius: np.ndarray, opacity: float, random: np.random.Generator) -> None:
    """Lay one shape onto each picture of `canvas` (N, 32, 32, 3): its kind (N,), its radius (N,) in pixels."""
    count, pixels = len(canvas), np.arange(SIDE, dtype=np.float32)
    centre = ((SIDE - 1) / 2 + random.uniform(-4.5, 4.5, (count, 2, 1, 1))).astype(np.float32)
    angle = random.uniform(0, 2 * np.pi, (count, 1, 1)).astype(np.float32)
    right, down = pixels - centre[:, 0], pixels[:, np.newaxis] - centre[:, 1]
    scale = radius[:, np.newaxis, np.newaxis].astype(np.float32)
    x = (np.cos(angle) * right + np.sin(angle) * down) / scale
    y = (np.cos(angle) * down - np.sin(angle) * right) / scale
    distance = np.empty((count, SIDE, SIDE), np.float32)
    for kind, shape in enumerate(SHAPES.values()):
        chosen = kinds == kind
        distance[chosen] = shape(x[chosen], y[chosen])
    cover = opacity * np.clip(0.5 - distance * scale, 0, 1)[..., np.newaxis]
    # Of four colours, take the one farthest from that of the middle of the canvas.
    middle = canvas[:, SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4].mean(axis=(1, 2))
    choices = np.stack([_colours(count, random) for _ in range(4)])
    paint = choices[np.abs(choices - middle).sum(axis=-1).argmax(axis=0), np.arange(count)]
    shade = random.uniform(-0.25, 0.25, (count, 1)).astype(np.float32)
    shaded = _gradients(paint, np.clip(paint + shade, 0, 1), random)
    canvas += cover * (shaded - canvas)
