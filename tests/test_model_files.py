"""Model files: which class one is loaded as, ours never as a user's and a user's never as ours or as another's; and files
that somebody made to do harm, with sizes that are not the file's, or descriptions of wrong types.
"""

import copy
import errno
import os
import types

import numpy as np
import pytest
from allocations import most_memory
from hostile import with_wrong_values

import tinyqae
from tinyqae import Adam, CNNAutoencoder, Commit, MLPAutoencoder, Seq2SeqAutoencoder, checkpoint, fit, load
from tinyqae.checkpoint import read_arrays, write_arrays
from tinyqae.errors import CheckpointError
from tinyqae.model_files import Stored

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(Stored, "registry", dict(Stored.registry))
    return Stored.registry


def own_class(module, parent=MLPAutoencoder):
    """A user's class with the name of one of ours, in a module of this name."""
    return types.new_class("MLPAutoencoder", (parent,), exec_body=lambda body: body.update(__module__=module))


def test_a_users_class_of_a_known_name_does_not_take_over_its_files(tmp_path):
    MLPAutoencoder(Commit(), 3, (4, 4, 1)).save(tmp_path / "ours.npz")
    own = own_class("somebodys")
    own(Commit(), 3, (4, 4, 1)).save(tmp_path / "own.npz")
    assert type(load(tmp_path / "ours.npz")) is MLPAutoencoder
    assert type(load(tmp_path / "own.npz")) is own
    assert type(copy.deepcopy(own(Commit(), 3, (4, 4, 1)))) is own


def test_what_a_file_says_breaks_no_line_and_no_terminal(tmp_path):
    model = MLPAutoencoder(Commit(), 3, (4, 4, 1))
    arrays, description = model.as_file()
    write_arrays(tmp_path / "m.npz", arrays, {**description, "model": "MLP\n\x1b[31mred"})
    with pytest.raises(CheckpointError, match=r"a model of the class MLP\\n\\x1b\[31mred, which is not defined here"):
        load(tmp_path / "m.npz")


def test_an_unknown_class_is_named(tmp_path, registry):
    own_class("somebodys")(Commit(), 3, (4, 4, 1)).save(tmp_path / "own.npz")
    del registry["somebodys.MLPAutoencoder"]
    with pytest.raises(CheckpointError, match="own.npz is a model of the class somebodys.MLPAutoencoder, which is not"):
        load(tmp_path / "own.npz")


def test_a_class_is_found_where_its_module_has_another_name_unless_two_have_its_name(tmp_path, registry):
    own_class("__main__")(Commit(), 3, (4, 4, 1)).save(tmp_path / "own.npz")
    del registry["__main__.MLPAutoencoder"]
    imported = own_class("train")
    assert type(load(tmp_path / "own.npz")) is imported
    own_class("others")
    with pytest.raises(CheckpointError, match="__main__.MLPAutoencoder, which is not defined here"):
        load(tmp_path / "own.npz")


def test_a_users_class_does_not_resume_a_run_of_ours(tmp_path):
    arguments = {"epochs": 1, "batch_size": 10, "checkpoint": tmp_path / "c.npz", "progress": False}
    fit(MLPAutoencoder(Commit(), 3, (4, 4, 1)), IMAGES, Adam(), **arguments)
    with pytest.raises(CheckpointError, match="belongs to another run: its model is 'MLPAutoencoder'"):
        fit(own_class("somebodys")(Commit(), 3, (4, 4, 1)), IMAGES, Adam(), resume=True, **arguments)


def test_a_users_change_of_a_known_bottleneck_is_not_loaded_as_the_known_one(tmp_path, engine):
    class Shifted(Commit):
        def latent(self, h):
            return super().latent(h + 1)

    MLPAutoencoder(Shifted(), 3, (4, 4, 1)).save(tmp_path / "own.npz")
    with pytest.raises(CheckpointError, match="quantizer 'own Shifted' is unknown"):
        load(tmp_path / "own.npz")


def test_an_argument_that_is_not_kept_is_named(tmp_path):
    class Forgetful(tinyqae.ImageAutoencoder):
        def __init__(self, bottleneck, bits=3, *, engine=None):
            self.build(
                tinyqae.layers.Sequential(tinyqae.layers.Dense(bits)),
                bottleneck,
                tinyqae.layers.Sequential(tinyqae.layers.Dense(16)),
                input_shape=(4, 4, 1),
                flatten=True,
            )

    with pytest.raises(TypeError, match="Forgetful has no attribute bits; to be saved or copied, a model must keep its"):
        Forgetful(Commit()).save(tmp_path / "own.npz")


def small_models():
    """One of each kind."""
    return [
        MLPAutoencoder(Commit(), (3,), (2, 2, 1)),
        CNNAutoencoder(Commit(), (2,), 2, (4, 4, 1)),
        Seq2SeqAutoencoder(Commit(), 2),
    ]


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (0, {"hidden": [800_000], "input_shape": [800_000, 1, 1]}),
        (0, {"hidden": [20_000, 20_000]}),
        (1, {"widths": [50_000]}),
        (1, {"latent_channels": 1 << 30}),
        (2, {"hidden": 100_000}),
        (2, {"units": 30_000}),
    ],
    ids=str,
)
def test_sizes_that_the_file_does_not_hold_are_refused_before_memory_is_taken(kind, sizes, tmp_path, plain_engine):
    arrays, meta = small_models()[kind].as_file()
    write_arrays(tmp_path / "model.npz", arrays, {**meta, "config": meta["config"] | sizes})
    with most_memory(1 << 24), pytest.raises(CheckpointError, match="model.npz does not describe a model .* room for"):
        load(tmp_path / "model.npz")


def test_a_file_that_unpacks_to_much_is_refused_before_memory_is_taken(tmp_path, plain_engine):
    arrays, meta = small_models()[0].as_file()
    write_arrays(tmp_path / "model.npz", arrays | {"parameters": np.zeros(1 << 25, np.float32)}, meta, deflated=True)
    with most_memory(1 << 24), pytest.raises(CheckpointError, match="to 134,2.* bytes"):
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


@pytest.mark.slow  # Ten seconds of trainings.
def test_a_checkpoint_with_a_wrong_value_or_array_is_one_line_or_a_training(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 1)).astype(np.uint8)

    def resumed():
        model = MLPAutoencoder(Commit(), (3,), (2, 2, 1), engine="fast")
        return fit(model, images, Adam(), epochs=2, batch_size=2, checkpoint=tmp_path / "c.npz", progress=False, resume=True)

    resumed()
    arrays, meta = read_arrays(tmp_path / "c.npz")
    changed = [(arrays, described) for described in with_wrong_values(meta)]
    changed += [
        ({**arrays, name: array}, meta)
        for name in arrays
        for array in (np.zeros(3), np.array("x"), np.zeros(arrays[name].shape, "S1"), np.zeros(0))
    ]
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
