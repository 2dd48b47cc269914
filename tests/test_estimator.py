"""TinyQAE, the scikit-learn estimator: scikit-learn's own checks, and what is special about it."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6", reason="needs scikit-learn, the extra `sklearn`")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from tinyqae.errors import TooFewExamples
from tinyqae.estimator import BINARY, TinyQAE

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(4, size=150)
X = (RANDOM.standard_normal((4, 6))[LABELS] * 10 + RANDOM.standard_normal((150, 6))).astype(np.float32)
"""Four clusters, far from [0, 1]."""


def estimator(**parameters):
    return TinyQAE(**{"bits": 8, "epochs": 20, "random_state": 0, **parameters})


@parametrize_with_checks([TinyQAE(bits=8, epochs=2), TinyQAE(bits=5, hidden=(7,), quant="naive", epochs=2)])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_codes_are_bits_and_reconstructions_are_in_the_scale_of_the_data():
    fitted = estimator(epochs=None).fit(X)
    codes = fitted.transform(X)
    assert codes.dtype == np.uint8 and codes.shape == (150, 8) and set(np.unique(codes)) == {0, 1}
    back = fitted.inverse_transform(codes)
    assert back.shape == X.shape
    assert fitted.score(X) == pytest.approx(-np.mean((X - back) ** 2.0), rel=1e-5)
    assert fitted.score(X) > -0.2 * X.var(axis=0).mean()


@pytest.mark.parametrize(("given", "returned"), [("float32", "float32"), ("float64", "float64"), ("int64", "float64")])
def test_reconstructions_have_the_dtype_of_the_training_data(given, returned):
    fitted = estimator(epochs=1).fit(X.astype(given))
    assert fitted.inverse_transform(fitted.transform(X)).dtype == returned


def test_training_data_within_0_and_1_is_used_as_it_is():
    within = np.clip(X / 100 + 0.5, 0.25, 0.75)
    fitted = estimator(epochs=1).fit(within)
    assert not fitted.minimum_.any() and (fitted.range_ == 1).all()
    np.testing.assert_array_equal(fitted.model_.mean_image.ravel(), within.mean(axis=0, dtype=np.float64).astype(np.float32))


def test_other_data_is_scaled_by_the_range_of_each_feature_and_clipped_to_it():
    data = np.column_stack([X[:, 0], np.full(150, 7, np.float32), X[:, 1]])
    fitted = estimator(epochs=1).fit(data)
    np.testing.assert_array_equal(fitted.minimum_, data.min(axis=0))
    np.testing.assert_array_equal(fitted.range_, [np.ptp(data[:, 0]), 1, np.ptp(data[:, 2])])
    np.testing.assert_array_equal(fitted.transform(data.max(axis=0)[None]), fitted.transform(data.max(axis=0)[None] + 100))
    assert (np.abs(fitted.inverse_transform(np.eye(8))[:, 1] - 7) <= 1).all()


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("batch_size", [2, 128])
def test_a_few_samples_are_enough(n, batch_size):
    assert estimator(batch_size=batch_size).fit_transform(X[:n]).shape == (n, 8)


@pytest.mark.parametrize(("n", "epochs"), [(10, 1000), (150, 500), (1000, 125), (12800, 20)])
def test_small_data_is_trained_on_for_as_many_steps(monkeypatch, n, epochs):
    given = {}
    monkeypatch.setattr("tinyqae.estimator.fit", lambda *_, **arguments: given.update(arguments))
    estimator(epochs=None).fit(RANDOM.random((n, 2)))
    assert given["batch_size"] == min(n, 128) and given["epochs"] == epochs


@pytest.mark.parametrize("quant", BINARY)
def test_every_bottleneck_with_bits_and_hidden_layers(quant):
    fitted = estimator(quant=quant, hidden=(12, 10), quant_weight=0.3, epochs=1).fit(X)
    assert fitted.model_.bottleneck.kind == quant and fitted.model_.bottleneck.weight == 0.3
    assert fitted.model_.hidden == (12, 10, 8)


def test_the_seed_decides():
    codes = [estimator(random_state=seed).fit_transform(X) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert (codes[0] != codes[2]).any()


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"bits": 0}, ValueError, "bits=0 must be a whole number above 0"),
        ({"hidden": (3, 0)}, ValueError, "hidden=.* must be one or more whole numbers above 0"),
        ({"quant": "vanilla"}, ValueError, "quant='vanilla' does not produce bits; choose one of naive, fence, commit, "),
        ({"quant": "none"}, ValueError, "quant='none' does not produce bits"),
        ({"epochs": 0}, ValueError, "epochs=0 must be a whole number above 0"),
        ({"batch_size": 0}, ValueError, "batch_size=0 must be a whole number above 0"),
        ({"batch_size": 1}, TooFewExamples, "use a larger batch"),
        ({"lr": -1.0}, ValueError, "lr"),
        ({"quant_weight": -1}, ValueError, "weight=-1"),
    ],
)
def test_bad_parameters_are_named_by_fit(parameters, error, message):
    with pytest.raises(error, match=message):
        estimator(**parameters).fit(X)


@pytest.mark.parametrize("codes", [np.zeros((2, 7)), np.full((2, 8), 2), np.full((2, 8), np.nan)])
def test_codes_that_are_none_are_refused(codes):
    with pytest.raises(ValueError):
        estimator(epochs=1).fit(X).inverse_transform(codes)


def test_one_bit_is_not_taken_for_packed_bits():
    fitted = estimator(bits=1).fit(X)
    zero, one = fitted.inverse_transform(np.array([[0], [1]], np.uint8))
    np.testing.assert_array_equal(fitted.inverse_transform(np.array([[1]], np.uint8))[0], one)
    assert (zero != one).any()


def test_it_works_in_a_pipeline_there_and_back():
    pipeline = make_pipeline(StandardScaler(), estimator(epochs=100))
    back = pipeline.inverse_transform(pipeline.fit_transform(X))
    assert np.mean((back - X) ** 2) < 0.5 * X.var(axis=0).mean()
    assert pipeline.get_feature_names_out().tolist() == [f"tinyqae{bit}" for bit in range(8)]
    assert make_pipeline(estimator(epochs=100), LogisticRegression()).fit(X, LABELS).score(X, LABELS) > 0.9


def test_a_grid_search_chooses_by_the_score():
    search = GridSearchCV(estimator(epochs=100), {"bits": [1, 10], "hidden": [(), (16,)]}, cv=3, error_score="raise").fit(X)
    assert search.best_params_["bits"] == 10
    assert search.best_score_ == search.cv_results_["mean_test_score"].max() < 0


def test_a_clone_has_the_parameters_alone_and_a_pickle_the_model_too():
    hidden = [9]
    fitted = estimator(hidden=hidden).fit(X)
    copied = clone(fitted)
    assert fitted.hidden is hidden and copied.get_params() == fitted.get_params() and not hasattr(copied, "model_")
    loaded = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    assert loaded.score(X) == fitted.score(X)


@pytest.mark.parametrize(("verbose", "shown"), [(0, False), (1, True)])
def test_verbose_shows_a_bar(capsys, verbose, shown):
    estimator(verbose=verbose, epochs=1).fit(X)
    assert ("step" in capsys.readouterr().err) == shown


def test_without_scikit_learn_the_error_names_the_extra_and_the_rest_works():
    program = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import tinyqae\n"
        "try: import tinyqae.estimator\n"
        "except tinyqae.errors.MissingPackage as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "tinyqae.estimator needs scikit-learn: pip install 'tinyqae[sklearn]'\n"
