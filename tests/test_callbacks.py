"""Callbacks of fit: early stopping, the best weights, one's own; with interruptions."""

import numpy as np
import pytest

from tinyqae import Adam, Commit, MLPAutoencoder, fit, load
from tinyqae.callbacks import best_epoch, save_best, stop_early
from tinyqae.history import History

SHAPE = (6, 6, 1)
IMAGES = np.random.default_rng(0).integers(0, 256, (100, *SHAPE)).astype(np.uint8)


def model():
    return MLPAutoencoder(Commit(signed=True), (5,), SHAPE, normalize_latent=True)


def train(m, **arguments):
    settings = {"epochs": 6, "batch_size": 25, "progress": False, "validation": IMAGES[:20], **arguments}
    return fit(m, IMAGES, Adam(1e-2), **settings)


def scripted(*values):
    """A validate that measures these values, one after the other."""
    measured = iter(values)
    return lambda examples: {"val_psnr": next(measured)}


def test_called_before_each_epoch_and_after_the_last_with_the_model_and_its_history():
    m, calls = model(), []
    history = train(m, epochs=3, callbacks=[lambda *arguments: calls.append((*arguments, len(arguments[1].rows)))])
    assert [rows for _, _, rows in calls] == [0, 1, 2, 3]
    assert all(called is m and given is history for called, given, _ in calls)
    assert m.history is history


def test_every_callback_is_called_and_one_that_returns_true_ends_the_training():
    calls = []
    history = train(model(), callbacks=[lambda m, h: len(h.rows) == 2, lambda m, h: calls.append(len(h.rows))])
    assert [row["epoch"] for row in history.rows] == [1, 2]
    assert calls == [0, 1, 2]


def test_a_callback_that_only_looks_does_not_change_the_training():
    watched, alone = model(), model()
    train(watched, callbacks=[lambda m, h: m.encode(IMAGES)])
    train(alone)
    assert watched.model_id() == alone.model_id()


@pytest.mark.parametrize(
    ("values", "patience", "epochs"),
    [
        ([1, 2, 3, 4, 5, 6], 1, 6),
        ([3, 2, 1, 0, 9, 9], 2, 4),
        ([3, 2, 4, 3, 3, 3], 2, 6),
        ([3, 3, 3, 3, 3, 3], 1, 3),
    ],
)
def test_stops_when_the_best_epoch_is_further_back_than_the_patience(values, patience, epochs):
    m = model()
    m.validate = scripted(*map(float, values))
    assert len(train(m, callbacks=[stop_early(patience)]).rows) == epochs


def test_smallest_may_be_best():
    m = model()
    m.validate = scripted(3.0, 1.0, 2.0, 2.0, 2.0, 2.0)
    assert len(train(m, callbacks=[stop_early(2, largest=False)]).rows) == 5


def test_a_resumed_training_stays_stopped(tmp_path):
    arguments = {"checkpoint": tmp_path / "c.npz", "callbacks": [stop_early(1)]}
    m, again = model(), model()
    m.validate = scripted(3.0, 2.0, 1.0)
    assert len(train(m, **arguments).rows) == 3
    assert len(train(again, resume=True, **arguments).rows) == 3
    assert again.model_id() == m.model_id()


def test_the_best_weights_are_saved(tmp_path):
    m, ids = model(), []
    m.validate = scripted(3.0, 5.0, 4.0, 5.0, 1.0, 2.0)
    train(m, callbacks=[save_best(tmp_path / "best.npz"), lambda m, h: ids.append(m.model_id())])
    assert load(tmp_path / "best.npz").model_id() == ids[2] != m.model_id()


def test_the_history_is_kept_when_the_training_is_interrupted():
    m = model()

    def interrupt(m, history):
        if len(history.rows) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(m, callbacks=[interrupt])
    assert [row["epoch"] for row in m.history.rows] == [1, 2, 3]
    assert len(m.history.latents) == 4


def test_a_figure_that_is_not_measured_is_named_with_those_that_are():
    with pytest.raises(ValueError, match=r"figure='val_psnr' .* choose one of epoch, lr, reconstruction, commit, seconds"):
        train(model(), validation=None, callbacks=[stop_early()])


@pytest.mark.parametrize("patience", [0, -1, 1.5])
def test_bad_patience_is_named(patience):
    with pytest.raises(ValueError, match="patience"):
        stop_early(patience)


def test_best_epoch_is_the_first_of_equals():
    history = History([{"x": value} for value in (1.0, 3.0, 3.0, 0.0, 0.0)])
    assert best_epoch(history, "x") == 2
    assert best_epoch(history, "x", largest=False) == 4
