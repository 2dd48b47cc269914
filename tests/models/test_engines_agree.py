"""Whole models of the two engines: the same start, the same gradients, the same training; files and copies.

In float32 the engines differ by rounding, which no more than shows unless it decides something: a bit of the code, a ReLU, a
maximum. So what takes many steps is compared in float64 where the model has bits in training.
"""

import copy
import pickle

import numpy as np
import pytest
from agreement import assert_same_code, assert_same_examples
from device_models import BOTTLENECKS, MODELS, VARIANTS, make
from engines import flat, train_once

from tinyqae import load
from tinyqae.engine import ENGINES
from tinyqae.optim import SGD, Adam, RMSprop
from tinyqae.train import TrainingStep

# Every model with the commitment loss, and one with every bottleneck.
CASES = [(model, "commit") for model in MODELS | VARIANTS] + [("mlp", kind) for kind in BOTTLENECKS if kind != "commit"]
# The gradient of a bias before batch norm is rounding noise: this eps keeps Adam and RMSprop from dividing noise by noise.
OPTIMIZERS = {
    "adam": lambda: Adam(3e-3, eps=1e-4),
    "rmsprop": lambda: RMSprop(1e-3, eps=1e-4),
    "sgd": lambda: SGD(0.3, momentum=0.9),
}


def both(model, bottleneck="commit", dtype=np.float32, shake=True):
    """The model in the reference engine and in the fast one, and its examples. shake: move the parameters at random, and
    make some gammas negative, so that no term of a gradient hides at 0 or 1.
    """
    models = []
    for engine in ENGINES:
        m, examples = make(model, bottleneck, engine, dtype=dtype)
        random, m.bottleneck.random = np.random.default_rng(1), np.random.default_rng(2)
        for layer in m.layers if shake else ():
            for name, array in layer.params.items():
                array += (0.1 * random.standard_normal(array.shape)).astype(dtype)
                if name == "gamma":
                    array[::3] *= -0.5
        models.append(m)
    return *models, examples


def first_batch(model, examples):
    return next(iter(model.batches(examples, 16).epoch(np.random.default_rng(0))))


def parameters_of(model):
    """{(layer's place, name): (parameter, gradient)}."""
    return {
        (i, name): (array, layer.grads[name]) for i, layer in enumerate(model.layers) for name, array in layer.params.items()
    }


def ten_steps(model, examples, optimizer):
    """Two epochs of training in batches of 16, the last of 6. Returns the objective at each step."""
    losses = []
    with model.engine.build(TrainingStep(model, optimizer, 16, clip_norm=1.0)) as step:
        for epoch in range(2):
            for batch in model.batches(examples, 16).epoch(np.random.default_rng(epoch)):
                step(batch, optimizer.lr)
                weight = {"reconstruction": 1.0, model.bottleneck.loss_name: model.bottleneck.weight}
                losses.append(sum(weight[name] * float(value) for name, value in model.terms.items()))
    assert len(losses) == 10
    return losses


# ---- one step -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("model", MODELS | VARIANTS)
def test_a_seed_gives_the_same_initial_parameters_bit_for_bit(model, dtype):
    ids = set()
    for seed in (0, 3):
        reference, fast = (make(model, "commit", engine, seed=seed, dtype=dtype)[0] for engine in ENGINES)
        ids.add(reference.model_id())
        ours, theirs = reference.state_arrays(), fast.state_arrays()
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert array.dtype == dtype
            np.testing.assert_array_equal(theirs[name], array, strict=True)
    assert len(ids) == 2


def check_one_step(model, bottleneck, dtype, tolerance):
    """Loss, terms and all gradients agree to `tolerance`, relative to the largest gradient."""
    reference, fast, examples = both(model, bottleneck, dtype)
    expected, found = (m.loss(first_batch(m, examples)) for m in (reference, fast))
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    assert fast.terms.keys() == reference.terms.keys()
    for name, value in reference.terms.items():
        np.testing.assert_allclose(fast.terms[name], value, rtol=tolerance, err_msg=name)
    reference.backward()
    fast.backward()
    largest = np.abs(flat(reference.gradients())).max()
    assert largest > 1e-3
    ours, theirs = parameters_of(reference), parameters_of(fast)
    assert ours.keys() == theirs.keys()
    for place, (parameter, gradient) in ours.items():
        np.testing.assert_array_equal(theirs[place][0], parameter, strict=True)
        assert theirs[place][1].dtype == gradient.dtype == dtype
        np.testing.assert_allclose(theirs[place][1], gradient, rtol=0, atol=tolerance * largest, err_msg=str(place))
    for m in (reference, fast):
        np.testing.assert_array_equal(flat(m.gradients()), flat(gradient for _, gradient in parameters_of(m).values()))


@pytest.mark.parametrize(("model", "bottleneck"), CASES)
def test_loss_and_gradients_agree(model, bottleneck, kernels):
    check_one_step(model, bottleneck, np.float32, 1e-5)


@pytest.mark.parametrize(("model", "bottleneck"), CASES)
def test_loss_and_gradients_agree_in_float64(model, bottleneck):
    check_one_step(model, bottleneck, np.float64, 1e-10)


# ---- training -------------------------------------------------------------------------------------------------------


def check_ten_steps(model, bottleneck, optimizer, dtype, tolerance):
    """Losses, parameters and running statistics of ten steps agree to `tolerance`, and so do the codes of inference."""
    reference, fast, examples = both(model, bottleneck, dtype)
    start = reference.state_arrays()
    losses = [ten_steps(m, examples, OPTIMIZERS[optimizer]()) for m in (reference, fast)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=tolerance)
    ours, theirs = reference.state_arrays(), fast.state_arrays()
    assert np.abs(ours["parameters"] - start["parameters"]).max() > 1e-3
    for name, array in ours.items():
        np.testing.assert_allclose(theirs[name], array, rtol=tolerance, atol=tolerance, err_msg=name)
    return reference, fast, examples


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS)
def test_ten_steps_without_bits_agree(model, optimizer, kernels):
    check_ten_steps(model, "vanilla", optimizer, np.float32, 1e-4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("model", MODELS | VARIANTS)
def test_ten_steps_with_bits_agree_in_float64(model, optimizer):
    # One bit that rounding flips takes the rest of the training elsewhere; in float64 none lies so near the threshold.
    reference, fast, examples = check_ten_steps(model, "commit", optimizer, np.float64, 1e-9)
    code = reference.encode(examples)
    assert_same_code(fast, examples, reference.latent(examples), code)
    assert_same_examples(fast.decode(code), reference.decode(code))


# ---- files and copies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", ENGINES)
@pytest.mark.parametrize("model", MODELS | VARIANTS)
def test_a_file_of_one_engine_gives_the_same_code_in_the_other(model, writer, kernels, tmp_path):
    reader = ENGINES[1 - ENGINES.index(writer)]
    written, examples = make(model, "commit", writer)
    ten_steps(written, examples, Adam(1e-2))
    written.save(tmp_path / "model.npz")
    loaded = load(tmp_path / "model.npz", engine=reader)
    assert (written.engine.name, loaded.engine.name) == (writer, reader)
    assert loaded.model_id() == written.model_id()
    code = written.encode(examples)
    assert_same_code(loaded, examples, written.latent(examples), code)
    assert_same_examples(loaded.decode(code), written.decode(code))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"])
@pytest.mark.parametrize("model", MODELS)
def test_training_a_copy_leaves_the_original_alone(model, copied, engine):
    original, examples = make(model, "commit", engine)
    ten_steps(original, examples, Adam(1e-2))  # It has buffers now, and running statistics that are not the first ones.
    code, weights = original.encode(examples), original.model_id()
    other = copied(original)
    assert type(other) is type(original) and other.engine.name == engine and other.config() == original.config()
    assert repr(other.bottleneck) == repr(original.bottleneck) and other.model_id() == weights
    np.testing.assert_array_equal(other.encode(examples), code)

    ten_steps(other, examples, Adam(3e-2))
    assert not np.array_equal(other.encode(examples), code)
    np.testing.assert_array_equal(original.encode(examples), code)
    assert original.model_id() == weights != other.model_id()

    after = other.encode(examples)
    ten_steps(original, examples, Adam(3e-2))
    np.testing.assert_array_equal(original.encode(examples), after)  # Both went the same way.
    assert original.model_id() == other.model_id()
    train_once(original, first_batch(original, examples))
    np.testing.assert_array_equal(other.encode(examples), after)
