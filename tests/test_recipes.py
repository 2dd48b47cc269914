"""Named training settings: how examples are split, where a model starts, and the report's numbers."""

import numpy as np
import pytest

from tinyqae import CNNAutoencoder, MLPAutoencoder, Seq2SeqAutoencoder, recipes
from tinyqae.bottlenecks import KINDS

DEFAULT = recipes.mnist_mlp("default", "commit", (12,))


# ---- validation ------------------------------------------------------------------------------------------------------


def test_the_last_examples_are_kept_for_validation():
    training, validation = DEFAULT.split(np.arange(60_000))
    np.testing.assert_array_equal(training, np.arange(55_000))
    np.testing.assert_array_equal(validation, np.arange(55_000, 60_000))


@pytest.mark.parametrize(("examples", "kept"), [(50_000, 5000), (50_010, 5000), (49_999, 4999), (199, 19), (19, 1), (10, 1)])
def test_a_small_data_set_keeps_a_tenth(examples, kept):
    sentences = list(map(str, range(examples)))
    assert DEFAULT.split(sentences) == (sentences[:-kept], sentences[-kept:])


def test_fewer_than_ten_examples_and_the_report_s_recipes_keep_none():
    assert DEFAULT.split(["a"] * 9) == (["a"] * 9, None)
    assert recipes.mnist_mlp("report", "commit", (12,)).split(["a"] * 100) == (["a"] * 100, None)


def test_the_default_recipes_validate_on_5000_images_and_1000_sentences():
    assert recipes.mnist_mlp("default", "naive", (12,)).validation == 5000
    assert recipes.cifar_cnn("default", "naive", "small").validation == 5000
    assert recipes.anki_lstm("default", "naive", 32).validation == 1000


# ---- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "shape"), [(DEFAULT, (28, 28, 1)), (recipes.cifar_cnn("default", "commit", "small"), (16, 16, 3))]
)
def test_a_model_starts_at_the_mean_of_all_training_images(recipe, shape):
    images = np.random.default_rng(0).integers(0, 256, (40, *shape), np.uint8)
    model = recipe.make_model(images, seed=0)
    np.testing.assert_allclose(model.mean_image, np.einsum("nhwc->hwc", images.astype(float)) / 40 / 255, rtol=1e-6)


def test_the_report_s_models_start_at_no_image():
    images = np.full((20, 16, 16, 3), 200, np.uint8)
    assert recipes.cifar_cnn("report", "commit", "small").make_model(images, seed=0).mean_image is None


def test_a_recipe_makes_the_model_of_its_architecture_with_the_seed():
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    for recipe, kind, examples in (
        (DEFAULT, MLPAutoencoder, images),
        (recipes.cifar_cnn("default", "commit", "small"), CNNAutoencoder, images),
        (recipes.anki_lstm("default", "commit", 32), Seq2SeqAutoencoder, ["a b"]),
    ):
        one, same, other = (recipe.make_model(examples, seed) for seed in (1, 1, 2))
        assert type(one) is kind
        assert one.model_id() == same.model_id() != other.model_id()


# ---- the report's settings, by its text and its authors' code ----------------------------------------------------------


@pytest.mark.parametrize("quant", ["vanilla", "naive", "fence", "commit"])
def test_the_report_trains_images_in_batches_of_16_by_adam_as_in_keras(quant):
    mlp, cnn = recipes.mnist_mlp("report", quant, (50,)), recipes.cifar_cnn("report", quant, "small")
    for recipe, epochs in ((mlp, 10), (cnn, 4)):
        assert recipe.fit_arguments() == {"epochs": epochs, "batch_size": 16, "schedule": "constant", "clip_norm": None}
        optimizer = recipe.make_optimizer()
        assert (type(optimizer).__name__, optimizer.lr, optimizer.eps) == ("Adam", 1e-3, 1e-7)


@pytest.mark.parametrize("quant", ["vanilla", "naive", "fence", "commit"])
def test_the_report_trains_sentences_in_batches_of_64_by_rmsprop_as_in_keras(quant):
    recipe = recipes.anki_lstm("report", quant, 64)
    assert recipe.fit_arguments() == {"epochs": 50, "batch_size": 64, "schedule": "constant", "clip_norm": None}
    optimizer = recipe.make_optimizer()
    assert (type(optimizer).__name__, optimizer.lr, optimizer.rho, optimizer.eps) == ("RMSprop", 1e-3, 0.9, 1e-7)
    assert (recipe.model["pad_to"], recipe.model["max_length"]) == (24, 25)
    assert recipe.model["dense_states"] == (quant != "vanilla")


@pytest.mark.parametrize("hidden", [32, 64, 128, 256])
def test_the_report_s_commit_weight_is_a_fifth_over_the_outputs_or_the_code_s_size(hidden):
    """0.2 / 784 pixels of the MLP, 0.2 / 3 channels of the CNN, 0.2 / 2H of the LSTM, whose code is two states of H."""
    assert recipes.anki_lstm("report", "commit", hidden).bottleneck["weight"] * 2 * hidden == pytest.approx(0.2)
    assert recipes.mnist_mlp("report", "commit", (hidden,)).bottleneck["weight"] * 784 == pytest.approx(0.2)
    assert recipes.cifar_cnn("report", "commit", "large").bottleneck["weight"] * 3 == pytest.approx(0.2)


def test_the_report_s_fence_weight():
    """1e-4; for the LSTM 1e-3 on the mean of each of two states, which is twice that on the mean of both."""
    assert recipes.cifar_cnn("report", "fence", "small").bottleneck["weight"] == 1e-4
    assert recipes.mnist_mlp("report", "fence", (50,)).bottleneck["weight"] == 1e-4
    assert recipes.anki_lstm("report", "fence", 32).bottleneck["weight"] == 2 * 1e-3


@pytest.mark.parametrize(("size", "m"), [("small", 1), ("medium", 2), ("large", 3)])
def test_the_report_s_cnns(size, m):
    model = recipes.cifar_cnn("report", "commit", size).model
    assert (model["widths"], model["latent_channels"]) == ((64 * m, 32 * m, 16 * m), 16 * m)
    assert (model["norm_momentum"], model["norm_eps"], model["normalize_output"]) == (0.99, 1e-3, True)  # of Keras


# ---- the default recipes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "units", "lr"),
    [(32, 96, 1e-2), (64, 96, 1e-2), (96, 96, 1e-2), (127, 127, 1e-2), (128, 128, 5e-3), (256, 256, 5e-3)],
)
def test_narrow_lstms_have_96_units_and_wide_ones_learn_more_slowly(hidden, units, lr):
    recipe = recipes.anki_lstm("default", "commit", hidden)
    assert (recipe.model["hidden"], recipe.model["units"], recipe.lr) == (hidden, units, lr)


def test_units_of_ones_own_and_the_learning_rate_that_goes_with_them():
    recipe = recipes.anki_lstm("default", "commit", 64, 256)
    assert (recipe.model["hidden"], recipe.model["units"], recipe.lr) == (64, 256, 5e-3)
    with pytest.raises(ValueError, match="units=256 must be None: the recipe 'report' sets it to hidden"):
        recipes.anki_lstm("report", "commit", 64, 256)


def test_the_default_lstm_and_cnn_are_trained_for_so_long():
    for quant in KINDS:
        assert recipes.anki_lstm("default", quant, 64).epochs == 24
        assert recipes.cifar_cnn("default", quant, "small").epochs == 12
        assert recipes.mnist_mlp("default", quant, (50,)).epochs == 20


@pytest.mark.parametrize(
    ("hidden", "lr", "share", "normalized"),
    [
        ((50,), 1e-2, 1, False),
        ((256, 50), 1e-2, 1 / 2, True),
        ((512, 256, 50), 5e-3, 1 / 4, True),
        ((9, 8, 7, 6), 2.5e-3, 1 / 8, True),
    ],
)
def test_deeper_mlps_have_batch_norm_smaller_rates_and_lighter_added_losses(hidden, lr, share, normalized):
    for quant, weight in (("fence", 0.5), ("commit", 1.0), ("entropy", 0.3)):
        recipe = recipes.mnist_mlp("default", quant, hidden)
        assert recipe.lr == lr and recipe.bottleneck["weight"] == weight * share
        assert recipe.model.get("normalize_hidden", False) == normalized and recipe.model["normalize_latent"]
    naive = recipes.mnist_mlp("default", "naive", hidden)
    assert naive.lr == 2.5e-4 and "normalize_hidden" not in naive.model


# ---- changes ---------------------------------------------------------------------------------------------------------


def test_a_recipe_with_changes_keeps_the_rest():
    changed = DEFAULT.override(quant_weight=0.0, epochs=3, lr=None)
    assert (changed.epochs, changed.lr) == (3, DEFAULT.lr)
    assert changed.bottleneck == {"signed": True, "weight": 0.0}
    assert changed.model == DEFAULT.model and DEFAULT.bottleneck["weight"] == 1.0
    assert DEFAULT.override() == DEFAULT


def test_naive_with_noise_is_trained_as_vanilla_is():
    vanilla = recipes.cifar_cnn("default", "vanilla", "small")
    noisy = recipes.naive_with_noise(vanilla)
    assert (noisy.quant, noisy.bottleneck) == ("naive", {"signed": True, "noise": 0.3})
    assert noisy.model == {**vanilla.model, "normalize_latent": True}
    assert (noisy.lr, noisy.epochs, noisy.batch_size) == (vanilla.lr, vanilla.epochs, vanilla.batch_size)


def test_none_means_vanilla_and_unknown_names_are_refused():
    assert recipes.mnist_mlp("report", "none", (12,)) == recipes.mnist_mlp("report", "vanilla", (12,))
    with pytest.raises(ValueError, match="recipe='best' is unknown; choose one of default, report"):
        recipes.cifar_cnn("best", "commit", "small")
    for name in recipes.RECIPES:
        with pytest.raises(ValueError, match="size='tiny' is unknown; choose one of small, medium, large"):
            recipes.cifar_cnn(name, "commit", "tiny")
