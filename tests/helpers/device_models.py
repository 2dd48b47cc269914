"""Small models, examples and training steps for the tests of the GPU's side."""

import numpy as np

from tinyqae import Adam, CNNAutoencoder, MLPAutoencoder, Seq2SeqAutoencoder, TransformAutoencoder, backend
from tinyqae.bottlenecks import KINDS, make_bottleneck
from tinyqae.optim import clip_by_norm
from tinyqae.tokens import ALPHABET

SHAPE = (8, 8, 1)


def images(n=70, seed=0):
    """Bytes with structure: each image is one of five patterns with noise."""
    random, patterns = np.random.default_rng((seed, n)), np.random.default_rng(0).integers(0, 200, (5, *SHAPE))
    return (patterns[random.integers(0, 5, n)] + random.integers(0, 56, (n, *SHAPE))).astype(np.uint8)


def sentences(n=70, seed=0):
    random = np.random.default_rng((seed, n))
    return ["".join(random.choice(list(ALPHABET), random.integers(0, 9))) for _ in range(n)]


def mlp(bottleneck, **arguments):
    return MLPAutoencoder(bottleneck, **{"hidden": (20, 12), "input_shape": SHAPE, "normalize_latent": True, **arguments})


def cnn(bottleneck, **arguments):
    return CNNAutoencoder(
        bottleneck, **{"widths": (5, 4), "latent_channels": 3, "input_shape": SHAPE, "normalize_latent": True, **arguments}
    )


def seq2seq(bottleneck, **arguments):
    return Seq2SeqAutoencoder(bottleneck, **{"hidden": 6, "normalize_latent": True, "code_every_step": True, **arguments})


MODELS = {"mlp": (mlp, images), "cnn": (cnn, images), "seq2seq": (seq2seq, sentences)}
VARIANTS = {
    "mlp centred, mse": (lambda b, **k: mlp(b, mean_image=images().mean(axis=0) / 255, reconstruction="mse", **k), images),
    "mlp of floats": (mlp, lambda n=70, seed=0: (images(n, seed) / np.float32(255)).astype(np.float32)),
    "cnn as in the report": (lambda b, **k: cnn(b, normalize_latent=False, normalize_output=True, **k), images),
    # So wide that one convolution goes through Winograd.
    "cnn wide": (lambda b, **k: cnn(b, widths=(48, 44), **k), images),
    "transform code": (lambda b, **k: TransformAutoencoder(b, (6, 3, 1), SHAPE, correction=(4, 5), **k), images),
    "seq2seq plain": (lambda b, **k: seq2seq(b, normalize_latent=False, code_every_step=False, **k), sentences),
    "seq2seq padded, no dense": (lambda b, **k: seq2seq(b, dense_states=False, pad_to=9, reverse=True, **k), sentences),
    "seq2seq spliced": (lambda b, **k: seq2seq(b, splice=0.5, **k), sentences),
}
BOTTLENECKS = {kind: {"kind": kind} for kind in KINDS} | {
    "vanilla, linear": {"kind": "vanilla", "activation": "linear"},
    "naive, relu-sigmoid": {"kind": "naive", "activation": "relu-sigmoid"},
    "commit, relu": {"kind": "commit", "activation": "relu"},
    "commit, window": {"kind": "commit", "window": 0.2, "signed": True},
    "naive with noise": {"kind": "naive", "noise": 0.3},
    "commit with noise": {"kind": "commit", "noise": 0.3},
    "stochastic with noise": {"kind": "stochastic", "noise": 0.3},
}


def make(model, bottleneck, engine="fast", **arguments):
    """(model, its examples)."""
    build, examples = (MODELS | VARIANTS)[model]
    return build(make_bottleneck(**BOTTLENECKS[bottleneck]), engine=engine, **arguments), examples()


def step(model, optimizer, batch):
    """A training step, with everything that it can have. Returns its loss terms."""
    model.loss(batch)
    model.backward()
    clip_by_norm(model.gradients(), 1.0)
    optimizer.step(model, 1e-3)
    model.bottleneck.set_progress(0.5)
    return model.terms


def ten_steps(model, bottleneck, dtype, eps=1e-8, **arguments):
    """(loss terms of ten steps with Adam, the model after them)."""
    m, examples = make(model, bottleneck, dtype=dtype, **arguments)
    m.bottleneck.random = np.random.default_rng(5)
    # Some channels fall where others rise, as after some training.
    for layer in m.layers:
        if "gamma" in layer.params:
            signs = np.where(np.arange(layer.params["gamma"].size) % 3, 1, -0.5).astype(dtype)
            layer.params["gamma"][...] = backend.to_device(signs)
    optimizer, losses, batches = Adam(eps=eps), [], m.batches(examples, 16)
    for epoch in range(2):
        for batch in batches.epoch(np.random.default_rng(epoch)):
            losses.append({name: float(backend.to_host(value)) for name, value in step(m, optimizer, batch).items()})
    assert len(losses) == 10
    return losses, m
