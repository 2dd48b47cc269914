"""Codes and reconstructions do not change: of model files that an earlier version wrote, and of the shipped models.

golden/models/NAME.npz was trained and saved by the library as it was before it had two engines, and NAME.expected.npz holds
what that library computed with it: `latent` and `code` of the examples below, and `decoded` from that code.
"""

import functools
from pathlib import Path

import numpy as np
import pytest
from agreement import assert_same_code, assert_same_examples

from tinyqae import load, split_sentences, synthetic_digits, synthetic_sentences, synthetic_shapes
from tinyqae.checkpoint import read_arrays
from tinyqae.codec.models import shipped, shipped_models
from tinyqae.engine import ENGINES

GOLDEN = Path(__file__).parents[1] / "golden" / "models"
EXAMPLES = {
    "mlp": lambda: synthetic_digits(train=400, test=24, seed=0).test_images,
    "cnn": lambda: synthetic_shapes(train=200, test=12, seed=0).test_images,
    "transform": lambda: synthetic_shapes(train=200, test=12, seed=0).test_images,
    "lstm": lambda: list(split_sentences(synthetic_sentences(seed=0), "random").test[:12]),
}
# The golden models, and what each one's examples are.
MODELS = {"mlp": "mlp", "cnn": "cnn", "lstm": "lstm", "vanilla": "mlp"}


@functools.cache
def examples_of(architecture):
    return EXAMPLES[architecture]()


@functools.cache
def expected_of(name):
    with np.load(GOLDEN / f"{name}.expected.npz") as file:
        return dict(file)


def test_every_golden_file_is_tested():
    expected = {f"{name}{ending}" for name in MODELS for ending in (".npz", ".expected.npz")}
    assert {path.name for path in GOLDEN.iterdir()} == expected


@pytest.mark.parametrize("name", MODELS)
def test_an_earlier_versions_model_gives_the_same_code(name, engine):
    model, expected = load(GOLDEN / f"{name}.npz"), expected_of(name)
    assert model.engine.name == engine
    assert_same_code(model, examples_of(MODELS[name]), expected["latent"], expected["code"])


@pytest.mark.parametrize("name", MODELS)
def test_an_earlier_versions_code_is_decoded_to_the_same_examples(name, engine):
    model, expected = load(GOLDEN / f"{name}.npz"), expected_of(name)
    assert_same_examples(model.decode(expected["code"]), expected["decoded"])


@pytest.mark.parametrize("name", MODELS)
def test_an_earlier_versions_model_is_saved_as_it_was(name, engine, tmp_path):
    """No array is lost, renamed or rounded on the way, and what describes the model still does."""
    load(GOLDEN / f"{name}.npz").save(tmp_path / "model.npz")
    (golden, description), (saved, saved_description) = map(read_arrays, (GOLDEN / f"{name}.npz", tmp_path / "model.npz"))
    assert saved.keys() == golden.keys()
    for key, array in golden.items():
        np.testing.assert_array_equal(saved[key], array, strict=True)
    for part in ("config", "bottleneck"):
        assert saved_description.pop(part).items() >= description.pop(part).items()
    assert saved_description == description


def test_the_shipped_sentence_model_writes_what_an_earlier_version_wrote(engine):
    """The golden LSTM had too little training to write words; this one writes words, with a beam of 8."""
    model = shipped("lstm-64")
    assert model.model_id().startswith("5125b903") and model.beam == 8
    assert model.reconstruct(examples_of("lstm")) == [
        "he wanted that be bad",
        "she did that love calt",
        "he hid this bat bo",
        "tom can win",
        "you found his house",
        "i bought the wis cus",
        "they need foule oneale",
        "tom did that ward that",
        "he bought do thar day",
        "she hearn the rich",
        "where your sulf his hone",
        "he wanted this drear",
    ]


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_encodes_and_decodes_alike_in_both_engines(name, kernels):
    entry = shipped_models()[name]
    reference, fast = (shipped(name, engine) for engine in ENGINES)
    assert (reference.engine.name, fast.engine.name) == ENGINES
    assert reference.model_id() == fast.model_id() == entry["model_id"]
    examples = examples_of(entry["recipe"]["architecture"])
    code = reference.encode(examples)
    assert 0.2 < code.mean() < 0.8
    assert_same_code(fast, examples, reference.latent(examples), code)
    assert_same_examples(fast.decode(code), reference.decode(code))
