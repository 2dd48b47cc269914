"""The training loop with either engine: history, validation, determinism, resume, divergence, full disks, bad input."""

import csv
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
from engines import flat, train_once

from tinyqae import SGD, Adam, Commit, Fence, MLPAutoencoder, Naive, RMSprop, load
from tinyqae.checkpoint import read_arrays, write_arrays, write_atomically
from tinyqae.errors import CheckpointError, TrainingDiverged
from tinyqae.fast import kernels as fast_kernels
from tinyqae.history import LATENT_BINS
from tinyqae.train import fit

SHAPE = (6, 6, 1)


def images(n=200, seed=0):
    """Bytes with structure: each image is one of five patterns with noise."""
    random = np.random.default_rng((seed, n))
    patterns = np.random.default_rng(0).integers(0, 200, (5, *SHAPE))
    return (patterns[random.integers(0, 5, n)] + random.integers(0, 56, (n, *SHAPE))).astype(np.uint8)


def model(bottleneck=None, **arguments):
    arguments = {"hidden": (7, 5), "normalize_latent": True, **arguments}
    return MLPAutoencoder(bottleneck or Commit(signed=True), input_shape=SHAPE, **arguments)


def train(m, data=None, optimizer=None, **arguments):
    data = images() if data is None else data
    return fit(m, data, optimizer or Adam(1e-2), **{"epochs": 4, "batch_size": 32, "progress": False, **arguments})


def weights(m):
    """The parameters as one vector, a copy."""
    return m.state_arrays()["parameters"]


# ---- history and validation -----------------------------------------------------------------------------------------


def test_history_has_a_row_for_each_epoch_with_every_loss_term(engine):
    history = train(model(), validation=images(50, seed=1))
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]
    for row in history.rows:
        assert list(row) == ["epoch", "lr", "reconstruction", "commit", "seconds", "val_psnr"]
        assert all(np.isfinite(value) for value in row.values())
        assert row["lr"] == 1e-2
    assert history.rows[-1]["reconstruction"] < history.rows[0]["reconstruction"]
    assert history.rows[-1]["val_psnr"] > history.rows[0]["val_psnr"]


@pytest.mark.parametrize(("bottleneck", "term"), [(Naive(), None), (Fence(), "fence"), (Commit(), "commit")])
def test_history_names_the_added_loss(bottleneck, term, plain_engine):
    row = train(model(bottleneck), epochs=1).rows[0]
    assert row.keys() - {"epoch", "lr", "seconds", "reconstruction"} == ({term} if term else set())


def test_history_is_the_mean_over_the_epochs_images(engine):
    data, m, other = images(70), model(), model()
    # A rate of 0 keeps the weights, so the mean over the batches of 32, 32 and 6 can be recomputed.
    row = train(m, data, SGD(0.0), epochs=1).rows[0]
    order = np.random.default_rng([0, 1, 0]).permutation(70)
    terms = [train_once(other, (data[order[i : i + 32]] / 255).astype(np.float32)) for i in (0, 32, 64)]
    for name in ("reconstruction", "commit"):
        mean = np.average([float(values[name]) for values in terms], weights=[32, 32, 6])
        np.testing.assert_allclose(row[name], mean, rtol=1e-5)


def test_history_latents_count_every_value_once_from_before_training_on(plain_engine):
    history = train(model(), validation=images(50, seed=1))
    assert [epoch for epoch, _ in history.latents] == [0, 1, 2, 3, 4]
    for _, counts in history.latents:
        assert len(counts) == LATENT_BINS and sum(counts) == 50 * 5


def test_history_csv_holds_the_rows(tmp_path):
    history = train(model(), epochs=2)
    history.save_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == history.rows


def test_validation_measures_reconstructions_from_stored_codes(engine):
    m, data = model(), images(50, seed=1)
    train(m)
    error = ((m.decode(m.encode(data, packed=True)).astype(float) - data) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(m.validate(data)["val_psnr"], np.mean(10 * np.log10(255**2 / error)))
    np.testing.assert_allclose(m.validate((data / 255).astype(np.float32))["val_psnr"], m.validate(data)["val_psnr"])


def test_validation_does_not_change_the_training(engine):
    a, b = model(), model()
    train(a)
    train(b, validation=images(50, seed=1))
    np.testing.assert_array_equal(weights(a), weights(b))


def test_schedules_set_the_learning_rate_of_each_step(plain_engine):
    rows = train(model(), schedule="cosine").rows
    steps = 4 * 7
    expected = [1e-2 * (1 + np.cos(np.pi * (7 * epoch - 1) / steps)) / 2 for epoch in (1, 2, 3, 4)]
    np.testing.assert_allclose([row["lr"] for row in rows], expected)
    seen = []
    rows = train(model(), schedule=lambda step: seen.append(step) or 1 / (step + 1)).rows
    assert seen == list(range(steps))
    np.testing.assert_allclose(rows[-1]["lr"], 1e-2 / steps)


def test_clipped_gradients_are_no_longer_than_clip_norm(engine):
    clipped, free, seen = model(), model(), []

    class Watched(SGD):
        def step(self, model, lr=None):
            seen.append(np.linalg.norm(flat(model.gradients())))
            super().step(model, lr)

    train(free, optimizer=Watched(0.1), epochs=1)
    largest = float(np.median(seen))
    unclipped = seen[:]
    seen.clear()
    train(clipped, optimizer=Watched(0.1), epochs=1, clip_norm=largest)
    assert max(unclipped) > 1.01 * largest >= 1.005 * max(seen)
    np.testing.assert_allclose(max(seen), largest, rtol=1e-5)
    assert not np.array_equal(weights(clipped), weights(free))


def test_a_clip_norm_that_no_gradient_reaches_changes_nothing(engine):
    clipped, free = model(), model()
    train(clipped, clip_norm=1e6)
    train(free)
    np.testing.assert_array_equal(weights(clipped), weights(free))


# ---- determinism ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bottleneck", [lambda: Commit(signed=True), lambda: Naive(noise=0.3)])
def test_same_seed_same_weights_bitwise_other_seed_other_weights(bottleneck, engine):
    a, b, c = (model(bottleneck()) for _ in range(3))
    for m, seed in ((a, 5), (b, 5), (c, 6)):
        train(m, seed=seed)
    np.testing.assert_array_equal(weights(a), weights(b))
    assert a.model_id() == b.model_id()
    assert not np.array_equal(weights(a), weights(c))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_and_bytes_give_the_same_training(dtype, engine):
    data, a, b = images(), model(), model()
    train(a, data)
    train(b, (data * np.float32(1 / 255)).astype(dtype))
    np.testing.assert_array_equal(weights(a), weights(b))


def test_epochs_see_every_image_once_in_different_orders(plain_engine, monkeypatch):
    data, m, seen = np.arange(100, dtype=np.uint8).repeat(36).reshape(100, *SHAPE), model(), []
    original = m.loss
    monkeypatch.setattr(m, "loss", lambda x: seen.append(x[:, 0, 0, 0].copy()) or original(x))
    train(m, data, epochs=2)
    first, second = (np.rint(np.concatenate(seen[i : i + 4]) * 255).astype(int) for i in (0, 4))
    assert [len(x) for x in seen] == [32, 32, 32, 4] * 2
    assert sorted(first) == sorted(second) == list(range(100))
    assert first.tolist() != second.tolist() != sorted(first)


@pytest.mark.parametrize("draw", ["noise", "order"])
def test_every_epoch_and_every_seed_draws_anew(draw, plain_engine, monkeypatch):
    """One batch an epoch at a rate of 0: what differs between two epochs is what is drawn."""
    data, drawn = images(20), []
    for seed in (0, 1):
        m = model(Naive(noise=0.3), normalize_latent=False)
        original = m.loss

        def watched(x, m=m, original=original):
            random = np.random.Generator(type(m.bottleneck.random.bit_generator)())
            random.bit_generator.state = m.bottleneck.random.bit_generator.state
            drawn.append(random.standard_normal(20).tolist() if draw == "noise" else x.argmax(axis=0).ravel().tolist())
            return original(x)

        monkeypatch.setattr(m, "loss", watched)
        train(m, data, SGD(0.0), batch_size=20, epochs=3, seed=seed)
    assert len(drawn) == len(set(map(tuple, drawn))) == 6


def test_the_noise_is_not_drawn_from_the_order_s_generator(plain_engine, monkeypatch):
    m, states = model(Naive(noise=0.3)), []
    original = m.loss
    monkeypatch.setattr(m, "loss", lambda x: states.append(m.bottleneck.random.bit_generator.state["state"]) or original(x))
    train(m, images(20), batch_size=20, epochs=1, seed=3)
    assert states[0] == np.random.default_rng([3, 2, 0]).bit_generator.state["state"]
    assert states[0] != np.random.default_rng([3, 1, 0]).bit_generator.state["state"]


@pytest.mark.parametrize(
    ("n", "batch_size", "batches"),
    [(65, 32, [32, 32]), (66, 32, [32, 32, 2]), (33, 32, [32]), (20, 32, [20]), (64, 32, [32, 32])],
)
def test_last_batch_of_one_is_left_out(n, batch_size, batches, plain_engine, monkeypatch):
    m, seen = model(), []
    original = m.loss
    monkeypatch.setattr(m, "loss", lambda x: seen.append(len(x)) or original(x))
    train(m, images(n), epochs=2, batch_size=batch_size)
    assert seen == batches * 2


def test_batches_of_one_work_without_batch_norm(engine):
    history = train(model(normalize_latent=False), images(5), batch_size=1, epochs=2)
    assert len(history.rows) == 2


# ---- progress -------------------------------------------------------------------------------------------------------


def test_a_progress_function_gets_steps_done_all_steps_and_the_epochs_mean_losses(plain_engine, monkeypatch):
    monkeypatch.setattr("tinyqae.progress.SECONDS_BETWEEN_READS", 0)
    calls = []
    history = train(model(), progress=lambda *arguments: calls.append(arguments))
    assert [(done, total) for done, total, _ in calls] == [(step, 28) for step in range(1, 29)]
    for row, (_, _, means) in zip(history.rows, calls[6::7], strict=True):
        assert means == {name: row[name] for name in ("reconstruction", "commit")}


def test_progress_is_reported_only_when_the_loss_is_read(plain_engine, monkeypatch):
    monkeypatch.setattr("tinyqae.progress.SECONDS_BETWEEN_READS", np.inf)
    calls = []
    train(model(), progress=lambda *arguments: calls.append(arguments))
    assert [done for done, _, _ in calls] == [7, 14, 21, 28]


def test_the_progress_bar_shows_every_loss_term(plain_engine, capsys):
    train(model(), progress=True, description="five patterns")
    said = capsys.readouterr()
    assert said.out == ""
    for words in ("five patterns", "28/28", "epoch=4/4", "reconstruction=", "commit="):
        assert words in said.err


def test_without_progress_nothing_is_printed(plain_engine, capsys):
    train(model(), progress=False)
    assert capsys.readouterr() == ("", "")


# ---- resume ---------------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def interrupted(m, checkpoint, after, **arguments):
    """Train until `after` epochs are done and the next one has begun, then stop as by Ctrl-C."""
    original, steps = m.loss, []

    def counted(x):
        steps.append(1)
        if len(steps) > 7 * after + 2:
            raise Stop
        return original(x)

    m.loss = counted
    with pytest.raises(Stop):
        train(m, checkpoint=checkpoint, **arguments)
    del m.loss


@pytest.mark.parametrize("make_optimizer", [lambda: Adam(1e-2), lambda: SGD(0.1, momentum=0.9), lambda: RMSprop(1e-3)])
@pytest.mark.parametrize("bottleneck", [lambda: Commit(signed=True), lambda: Naive(noise=0.3)])
def test_resumed_run_ends_at_the_very_same_weights(bottleneck, make_optimizer, tmp_path, engine):
    whole, begun, resumed = (model(bottleneck()) for _ in range(3))
    arguments = {"schedule": "cosine", "validation": images(50, seed=1), "seed": 3}
    expected = train(whole, optimizer=make_optimizer(), **arguments)
    interrupted(begun, tmp_path / "c.npz", 2, optimizer=make_optimizer(), **arguments)
    history = train(resumed, optimizer=make_optimizer(), checkpoint=tmp_path / "c.npz", resume=True, **arguments)
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    assert resumed.model_id() == whole.model_id()
    assert history.latents == expected.latents
    without_time = [[{k: v for k, v in row.items() if k != "seconds"} for row in h.rows] for h in (history, expected)]
    assert without_time[0] == without_time[1]


def test_resume_of_a_finished_run_changes_nothing(tmp_path, plain_engine):
    a, b = model(), model(seed=0)
    expected = train(a, checkpoint=tmp_path / "c.npz")
    before = (tmp_path / "c.npz").read_bytes()
    history = train(b, checkpoint=tmp_path / "c.npz", resume=True)
    np.testing.assert_array_equal(weights(a), weights(b))
    assert history.rows == expected.rows
    assert (tmp_path / "c.npz").read_bytes() == before


def test_the_table_of_a_resumed_run_has_its_columns_in_the_same_order(tmp_path, plain_engine):
    tables = []
    for resume in (False, True):
        history = train(model(), epochs=2, checkpoint=tmp_path / "c.npz", resume=resume, validation=images(20))
        history.save_csv(tmp_path / "history.csv")
        tables.append((tmp_path / "history.csv").read_bytes())
    assert tables[0] == tables[1]


def test_resume_without_a_checkpoint_starts_anew(tmp_path, plain_engine):
    a, b = model(), model()
    train(a)
    train(b, checkpoint=tmp_path / "c.npz", resume=True)
    np.testing.assert_array_equal(weights(a), weights(b))


def test_without_resume_an_old_checkpoint_is_replaced(tmp_path, plain_engine):
    a, b = model(), model()
    train(a, checkpoint=tmp_path / "c.npz", epochs=2, seed=1)
    train(b, checkpoint=tmp_path / "c.npz", epochs=3)
    _, meta = read_arrays(tmp_path / "c.npz")
    assert len(meta["rows"]) == 3 and meta["run"]["seed"] == 0


SCRIPT = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    sys.path[:0] = sys.argv[1], str(Path(sys.argv[1], "helpers"))
    from test_train import Adam, fit, images, model
    checkpoint, slow = Path(sys.argv[2]), sys.argv[3] == "slow"
    m = model()
    original = m.loss

    def slowed(x):
        if slow and checkpoint.exists():
            time.sleep(0.2)
        return original(x)

    m.loss = slowed
    fit(m, images(), Adam(1e-2), epochs=4, batch_size=32, progress=False, checkpoint=checkpoint, resume=True)
    m.save(checkpoint.with_name("model.npz"))
""")


def test_killed_process_resumes_to_the_very_same_weights(tmp_path, plain_engine):
    checkpoint = tmp_path / "checkpoint.npz"
    # The engine and its kernels are in the environment, and so the same here and there.
    command = [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), str(checkpoint)]
    with subprocess.Popen([*command, "slow"]) as process:
        deadline = time.monotonic() + 60
        while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert len(read_arrays(checkpoint)[1]["rows"]) < 4
    assert not (tmp_path / "model.npz").exists()
    subprocess.run([*command, "quick"], check=True)
    whole = model()
    train(whole)
    resumed = load(tmp_path / "model.npz")
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    assert resumed.model_id() == whole.model_id()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"epochs": 5}, "epochs"),
        ({"batch_size": 16}, "batch_size"),
        ({"seed": 1}, "seed"),
        ({"schedule": "cosine"}, "schedule"),
        ({"optimizer": Adam(2e-2)}, "lr"),
        ({"optimizer": SGD(1e-2)}, "optimizer"),
        ({"optimizer": Adam(1e-2, beta1=0.5)}, "optimizer"),
        ({"data": images(150)}, "examples"),
        ({"data": images(seed=1)}, "checksum of the examples"),
        ({"model": {"hidden": (8, 5)}}, "config"),
        ({"model": {"bottleneck": Commit(0.5, signed=True)}}, "bottleneck"),
        ({"model": {"bottleneck": Naive()}}, "bottleneck"),
        ({"clip_norm": 2.0}, "clip_norm"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_resume_with_other_settings_is_refused_and_names_the_setting(changes, name, tmp_path, plain_engine):
    checkpoint = tmp_path / "c.npz"
    train(model(), checkpoint=checkpoint)
    before = checkpoint.read_bytes()
    other = model(**changes.get("model", {}))
    untouched = weights(other)
    with pytest.raises(CheckpointError, match=f"c.npz belongs to another run: its {name} is "):
        train(
            other, **{name: value for name, value in changes.items() if name != "model"}, checkpoint=checkpoint, resume=True
        )
    assert checkpoint.read_bytes() == before
    np.testing.assert_array_equal(weights(other), untouched)


@pytest.mark.parametrize(("first", "second"), [("reference", "fast"), ("fast", "reference")])
def test_a_checkpoint_of_the_other_engine_is_refused(first, second, tmp_path):
    checkpoint = tmp_path / "c.npz"
    train(model(engine=first), checkpoint=checkpoint, epochs=1)
    before = checkpoint.read_bytes()
    with pytest.raises(CheckpointError, match=f"its engine is '{first}', this run's is '{second}'"):
        train(model(engine=second), checkpoint=checkpoint, epochs=1, resume=True)
    assert checkpoint.read_bytes() == before


def test_a_checkpoint_of_other_kernels_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYQAE_KERNELS", "numpy")
    monkeypatch.setattr(fast_kernels, "_replacements", {})
    train(model(engine="fast"), checkpoint=tmp_path / "c.npz", epochs=1)
    monkeypatch.setattr(fast_kernels, "kernels", lambda: "numba")
    with pytest.raises(CheckpointError, match="its kernels is 'numpy', this run's is 'numba'"):
        train(model(engine="fast"), checkpoint=tmp_path / "c.npz", epochs=1, resume=True)


def test_a_schedule_function_is_recognized_when_it_is_made_again(tmp_path, plain_engine):
    def make():
        def halved(step):
            return 0.5

        return halved

    a, b = model(), model()
    train(a, checkpoint=tmp_path / "c.npz", schedule=make())
    train(b, checkpoint=tmp_path / "c.npz", schedule=make(), resume=True)
    np.testing.assert_array_equal(weights(a), weights(b))
    with pytest.raises(CheckpointError, match="schedule"):
        train(model(), checkpoint=tmp_path / "c.npz", resume=True)


@pytest.mark.parametrize("content", [b"", b"not a zip", None], ids=["empty", "text", "truncated"])
def test_resume_from_a_damaged_checkpoint_is_refused_and_keeps_it(content, tmp_path, plain_engine):
    checkpoint = tmp_path / "c.npz"
    train(model(), checkpoint=checkpoint)
    content = checkpoint.read_bytes()[:-30] if content is None else content
    checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match="c.npz"):
        train(model(), checkpoint=checkpoint, resume=True)
    assert checkpoint.read_bytes() == content


def test_a_model_is_no_checkpoint_and_a_checkpoint_no_model(tmp_path, plain_engine):
    m = model()
    m.save(tmp_path / "model.npz")
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        train(model(), checkpoint=tmp_path / "model.npz", resume=True)
    train(m, checkpoint=tmp_path / "c.npz", epochs=1)
    with pytest.raises(CheckpointError, match="not a tinyqae model"):
        load(tmp_path / "c.npz")


# ---- divergence -----------------------------------------------------------------------------------------------------


def diverge(m, data=None, **arguments):
    with warnings.catch_warnings(), pytest.raises(TrainingDiverged) as caught:
        warnings.simplefilter("error")
        train(m, data, **arguments)
    return str(caught.value)


@pytest.mark.parametrize("loss", ["bce", "mse"])
def test_exploding_training_stops_with_an_explanation(loss, tmp_path, engine):
    message = diverge(model(reconstruction=loss), optimizer=SGD(1e30), checkpoint=tmp_path / "c.npz")
    assert "epoch 1" in message and "1e+30" in message and "smaller learning rate" in message
    assert "No checkpoint had been written" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("factor", [1e30, np.inf, np.nan])
@pytest.mark.parametrize("step", [14, 15, 20], ids=["first step", "second step", "last step"])
def test_the_last_good_checkpoint_is_kept(step, factor, tmp_path, engine):
    checkpoint, good = tmp_path / "c.npz", model()
    # Seven steps an epoch: all goes well in the first two.
    message = diverge(model(), optimizer=SGD(0.1), checkpoint=checkpoint, schedule=lambda i: factor if i == step else 1.0)
    assert f"The weights after epoch 2 are kept in {checkpoint}" in message and "epoch 3" in message
    train(good, optimizer=SGD(0.1), checkpoint=tmp_path / "good.npz", epochs=2)
    arrays, meta = read_arrays(checkpoint)
    assert len(meta["rows"]) == 2
    np.testing.assert_array_equal(arrays["model.parameters"], weights(good))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.npz", "good.npz"]


# ---- disks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace", "chmod"])
def test_full_disk_leaves_the_old_checkpoint_and_no_temporary_file(call, tmp_path, plain_engine, monkeypatch):
    checkpoint = tmp_path / "c.npz"
    train(model(), checkpoint=checkpoint, epochs=1, seed=8)
    before = checkpoint.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        train(model(), checkpoint=checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]
    assert checkpoint.read_bytes() == before


def test_disk_full_in_the_middle_of_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def half(file):
        file.write(b"half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, half)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_interrupt_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupt(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupt)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_written_files_are_as_readable_as_any_other_new_file(tmp_path):
    write_atomically(tmp_path / "ours", lambda file: file.write(b"x"))
    (tmp_path / "theirs").write_bytes(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_arrays_and_description_are_read_as_written(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.array(7), "empty": np.empty((0, 2))}
    write_arrays(tmp_path / "new" / "x.npz", arrays, {"text": "ü", "list": [1, 2.5, None]})
    again, meta = read_arrays(tmp_path / "new" / "x.npz")
    assert meta == {"text": "ü", "list": [1, 2.5, None]}
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array)


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs=0"),
        ({"epochs": 1.5}, ValueError, "epochs=1.5"),
        ({"batch_size": -4}, ValueError, "batch_size=-4"),
        ({"schedule": "step"}, ValueError, "schedule='step'.*cosine"),
        ({"clip_norm": 0}, ValueError, "clip_norm=0 must"),
        ({"clip_norm": -1.5}, ValueError, "clip_norm=-1.5"),
        ({"clip_norm": np.nan}, ValueError, "clip_norm=nan"),
        ({"data": images()[:0]}, ValueError, "examples is empty"),
        ({"data": images()[:, :5]}, ValueError, r", 5, 6, 1\).*\(N, 6, 6, 1\)"),
        ({"data": images().astype(np.int64)}, TypeError, "int64.*uint8"),
        ({"data": images().astype(np.float32)}, ValueError, r"to 2\d\d\.0.*\[0, 1\]"),
        ({"data": images() * np.float32(np.nan)}, ValueError, "nan"),
        ({"data": images(1)}, ValueError, "at least 2"),
    ],
    ids=[
        "epochs",
        "epochs fraction",
        "batch size",
        "schedule",
        "clip 0",
        "clip negative",
        "clip nan",
        "empty",
        "shape",
        "integers",
        "floats to 255",
        "nan",
        "one",
    ],
)
@pytest.mark.parametrize("validation", [None, images(20)], ids=["alone", "validated"])
def test_bad_argument_is_named(arguments, error, message, validation, tmp_path, plain_engine):
    with pytest.raises(error, match=message):
        train(model(), **arguments, validation=validation, checkpoint=tmp_path / "c.npz")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_validation_set_and_the_name_of_an_optimizer_are_refused(plain_engine):
    with pytest.raises(ValueError, match="validation is empty; give at least one example, or None"):
        train(model(), validation=images()[:0])
    with pytest.raises(TypeError, match=r"optimizer='adam' must be an optimizer object, such as Adam\(1e-3\)"):
        train(model(), optimizer="adam")


def test_every_bar_is_the_one_for_notebooks_where_it_is_one():
    from tqdm.auto import tqdm

    from tinyqae import progress
    from tinyqae.codec import files
    from tinyqae.data import cache

    assert progress.tqdm is files.tqdm is cache.tqdm is tqdm


def test_the_bar_is_a_line_now_and_then_where_standard_error_is_no_terminal(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    m = model()
    fit(m, images(), Adam(1e-2), epochs=2, batch_size=8, progress=True)
    said = capsys.readouterr().err
    assert "\r" not in said and 1 <= said.count("\n") <= 3
    assert "100%" in said.splitlines()[-1]
