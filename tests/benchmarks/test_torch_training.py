"""benchmarks/torch_training.py: PyTorch's autograd takes the same steps as the library does."""

import numpy as np
import pytest

from tinyqae import CNNAutoencoder, Commit, MLPAutoencoder, Seq2SeqAutoencoder, fit, synthetic_digits, synthetic_sentences
from tinyqae.recipes import Recipe

pytest.importorskip("torch")
from benchmarks import torch_training  # noqa: E402

DIGITS = synthetic_digits(train=40, test=10).train_images
SENTENCES = synthetic_sentences(60).sentences[:40]
MEAN = DIGITS.mean(axis=0) / 255
COMMIT = {"weight": 0.3, "signed": True}


@pytest.mark.parametrize(
    ("examples", "build"),
    [
        (
            DIGITS,
            lambda **how: MLPAutoencoder(
                Commit(**COMMIT), (12, 8), normalize_hidden=True, normalize_latent=True, mean_image=MEAN, **how
            ),
        ),
        (
            DIGITS,
            lambda **how: CNNAutoencoder(
                Commit(**COMMIT), (4, 6), 3, (28, 28, 1), normalize_latent=True, reconstruction="mse", mean_image=MEAN, **how
            ),
        ),
        (
            SENTENCES,
            lambda **how: Seq2SeqAutoencoder(
                Commit(**COMMIT), 6, units=10, normalize_latent=True, code_every_step=True, reverse=True, splice=0.5, **how
            ),
        ),
    ],
    ids=["MLP", "CNN", "LSTM"],
)
def test_both_take_the_same_steps(examples, build):
    """In float64, where a rounding hardly moves a value over the threshold."""
    recipe = Recipe("default", "mlp", "commit", epochs=2, batch_size=16, lr=3e-3, schedule="cosine", clip_norm=1.0)
    ours, theirs, untrained = (build(engine=engine, dtype=np.float64) for engine in ("fast", "reference", "reference"))
    fit(ours, examples, recipe.make_optimizer(), **recipe.fit_arguments(), seed=5, progress=False)
    torch_training.train_with_torch(theirs, examples, recipe, seed=5)
    moved = 0
    for a, b, start in zip(ours.layers, theirs.layers, untrained.layers, strict=True):
        for name, array in b.params.items():
            np.testing.assert_allclose(a.params[name], array, atol=1e-7, err_msg=name)
            moved = max(moved, np.abs(array - start.params[name]).max())
        for name, array in b.state.items():
            np.testing.assert_allclose(a.state[name], array, atol=1e-7, err_msg=name)
    assert moved > 5e-3


def test_the_table_has_both():
    row = {"model": "mlp", "data": "D", "examples": 1000, "epochs": 2, "unit": "dB", "tinyqae": 17.0, "PyTorch": 16.5}
    text = torch_training.table({"date": "2020-01-01", "versions": "V", "rows": [row]})
    assert text.splitlines()[-1] == "| mlp | D | 1,000 x 2 | 17.00 dB | 16.50 dB |"
