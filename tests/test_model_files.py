"""Model files that somebody made to do harm: sizes that are not the file's, and descriptions of wrong types."""
import errno
import os

import numpy as np
import pytest
from allocations import most_memory
from hostile import with_wrong_values

from tinyqae import Adam, CNNAutoencoder, Commit, MLPAutoencoder, Seq2SeqAutoencoder, checkpoint, fit, load
from tinyqae.checkpoint import read_arrays, write_arrays
from tinyqae.errors import CheckpointError


def small_models():
    """One of each kind."""
    return [MLPAutoencoder(Commit(), (3,), (2, 2, 1)), CNNAutoencoder(Commit(), (2,), 2, (4, 4, 1)),
            Seq2SeqAutoencoder(Commit(), 2)]


@pytest.mark.parametrize(("kind", "sizes"), [
    (0, {"hidden": [800_000], "input_shape": [800_000, 1, 1]}),
    (0, {"hidden": [20_000, 20_000]}),
    (1, {"widths": [50_000]}),
    (1, {"latent_channels": 1 << 30}),
    (2, {"hidden": 100_000}),
    (2, {"units": 30_000}),
], ids=str)
def test_sizes_that_the_file_does_not_hold_are_refused_before_memory_is_taken(kind, sizes, tmp_path, plain_engine):
    arrays, meta = small_models()[kind].as_file()
    write_arrays(tmp_path / "model.npz", arrays, {**meta, "config": meta["config"] | sizes})
    with most_memory(1 << 24), pytest.raises(CheckpointError, match="model.npz does not describe a model .* room for"):
        load(tmp_path / "model.npz")


def test_a_file_that_unpacks_to_much_is_refused_before_memory_is_taken(tmp_path, plain_engine):
    arrays, meta = small_models()[0].as_file()
    write_arrays(tmp_path / "model.npz", arrays | {"parameters": np.zeros(1 << 25, np.float32)}, meta, deflated=True)
    with most_memory(1 << 24), pytest.raises(CheckpointError, match="bytes unpack to 134,2"):
        load(tmp_path / "model.npz")


@pytest.mark.parametrize("kind", range(3))
def test_a_description_with_a_wrong_value_is_one_line_or_a_model(kind, tmp_path):
    arrays, meta = small_models()[kind].as_file()
    for described in with_wrong_values(meta):
        write_arrays(tmp_path / "model.npz", arrays, described)
        try:
            load(tmp_path / "model.npz")
        except CheckpointError as error:
            assert "model.npz" in str(error) and "\n" not in str(error)


def test_a_checkpoint_with_a_wrong_value_or_array_is_one_line_or_a_training(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 1)).astype(np.uint8)

    def resumed():
        model = MLPAutoencoder(Commit(), (3,), (2, 2, 1), engine="fast")
        return fit(model, images, Adam(), epochs=2, batch_size=2, checkpoint=tmp_path / "c.npz", progress=False, resume=True)

    resumed()
    arrays, meta = read_arrays(tmp_path / "c.npz")
    changed = [(arrays, described) for described in with_wrong_values(meta)]
    changed += [({**arrays, name: array}, meta) for name in arrays
                for array in (np.zeros(3), np.array("x"), np.zeros(arrays[name].shape, "S1"), np.zeros(0))]
    for wrong in changed:
        write_arrays(tmp_path / "c.npz", *wrong)
        try:
            history = resumed()
        except CheckpointError as error:
            assert "c.npz" in str(error) and "\n" not in str(error)
        else:
            assert [row["epoch"] for row in history.rows] == [1, 2]
            assert all(len(counts) == 40 and sum(counts) > 0 for _, counts in history.latents)


def test_a_file_that_cannot_be_read_is_not_called_corrupt(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (tmp_path / "model.npz").touch()
    monkeypatch.setattr(checkpoint, "open", refuse, raising=False)  # In that module alone.
    with pytest.raises(CheckpointError, match="^cannot read .*model.npz: Permission denied$"):
        load(tmp_path / "model.npz")
