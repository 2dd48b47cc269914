"""What tests of both engines share."""

import numpy as np

from tinyqae import engine


def build(part):
    """A part as the engine in use (fixture `engine`) computes it."""
    return engine.choose().build(part)


def set_up(layer, input_shape, seed=0, dtype=np.float32):
    """A layer for inputs (N, *input_shape) as the engine in use computes it."""
    layer.setup(input_shape, np.random.default_rng(seed), np.dtype(dtype))
    return build(layer)


def train_once(model, batch):
    """Forward and backward. Returns {loss term: value}; the gradients are in model.gradients()."""
    model.loss(batch)
    model.backward()
    return dict(model.terms)


def flat(arrays):
    """The values of a list of arrays, such as model.gradients(), as one new vector."""
    return np.concatenate([np.ravel(array) for array in arrays])
