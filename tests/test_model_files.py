"""Model files that somebody made to do harm: sizes that are not the file's, and descriptions of wrong types."""
import numpy as np
import pytest
from allocations import most_memory

from tinyqae import CNNAutoencoder, Commit, MLPAutoencoder, Seq2SeqAutoencoder, load
from tinyqae.checkpoint import write_arrays
from tinyqae.errors import CheckpointError


def small_models():
    """One of each kind."""
    return [MLPAutoencoder(Commit(), (3,), (2, 2, 1)), CNNAutoencoder(Commit(), (2,), 2, (4, 4, 1)),
            Seq2SeqAutoencoder(Commit(), 2)]


@pytest.mark.parametrize(("kind", "sizes"), [
    (0, {"hidden": [800_000], "input_shape": [800_000, 1, 1]}),
    (0, {"hidden": [20_000, 20_000]}),
    (1, {"widths": [50_000]}),
    (1, {"latent_channels": 1 << 40}),
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
