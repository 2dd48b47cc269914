"""The MLP autoencoder as a scikit-learn transformer: rows of numbers to bits and back.

    codes = TinyQAE(bits=32, random_state=0).fit_transform(X)

Needs the extra `sklearn`.
"""

import math
from typing import Any

import numpy as np

from .annotations import Array
from .bottlenecks import KINDS, make_bottleneck
from .errors import MissingPackage, require_positive
from .models import MLPAutoencoder
from .recipes import mnist_mlp
from .train import fit

__all__ = ["TinyQAE"]

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise MissingPackage("tinyqae.estimator needs scikit-learn: pip install 'tinyqae[sklearn]'", name="sklearn") from error

BINARY = tuple(name for name, kind in KINDS.items() if kind.is_binary)
LEAST_EPOCHS, LEAST_STEPS = 20, 1000


class TinyQAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Binary codes of X (n_samples, n_features), learned by an MLPAutoencoder with the settings of recipes.mnist_mlp.

    Training data that lies in [0, 1] is used as it is. Otherwise each feature is scaled to [0, 1] by its minimum and maximum
    in the training data. Later values outside the range are clipped to it.

    Args:
        bits: number of bits of a code.
        hidden: widths of the encoder's layers before the code, the decoder's in reverse order; () for none.
        quant: the bottleneck, of any kind but "vanilla", whose codes are floats.
        quant_weight: of the added loss; None for the recipe's.
        epochs: None for 20, or for small data as many as 1000 steps take.
        batch_size: at most; if there are fewer samples, one batch has them all. 2 or more, for batch norm.
        lr: Adam's learning rate at the start of its cosine schedule; None for the recipe's.
        random_state: an integer, a RandomState or None, as everywhere in scikit-learn.
        verbose: above 0 shows a progress bar.

    Attributes (after fit):
        model_: the trained MLPAutoencoder.
        minimum_, range_: (n_features,); the model sees (X - minimum_) / range_.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    def __init__(
        self,
        *,
        bits: int = 50,
        hidden: tuple[int, ...] = (),
        quant: str = "commit",
        quant_weight: float | None = None,
        epochs: int | None = None,
        batch_size: int = 128,
        lr: float | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ):
        self.bits, self.hidden, self.quant, self.quant_weight = bits, hidden, quant, quant_weight
        self.epochs, self.batch_size, self.lr = epochs, batch_size, lr
        self.random_state, self.verbose = random_state, verbose

    def fit(self, X: Array, y: Any = None) -> "TinyQAE":
        """Train on X (n_samples, n_features), at least two samples; y is ignored. ValueError for bad data or parameters."""
        require_positive("bits", self.bits)
        if self.quant not in BINARY:
            raise ValueError(f"quant={self.quant!r} does not produce bits; choose one of {', '.join(BINARY)}")
        X = validate_data(self, X, dtype=(np.float64, np.float32), ensure_min_samples=2)
        self.minimum_, self.range_ = np.zeros_like(X[0]), np.ones_like(X[0])
        if X.min() < 0 or X.max() > 1:
            self.minimum_, ranges = X.min(axis=0), np.ptp(X, axis=0)
            self.range_[ranges > 0] = ranges[ranges > 0]
        images = self._as_images(X)
        batch_size = min(require_positive("batch_size", self.batch_size), len(X))
        enough = max(LEAST_EPOCHS, math.ceil(LEAST_STEPS / math.ceil(len(X) / batch_size)))
        recipe = mnist_mlp("default", self.quant, (*np.ravel(self.hidden).tolist(), self.bits)).override(
            quant_weight=self.quant_weight,
            epochs=enough if self.epochs is None else self.epochs,
            batch_size=batch_size,
            lr=self.lr,
        )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.model_ = MLPAutoencoder(
            make_bottleneck(recipe.quant, **recipe.bottleneck),
            input_shape=images.shape[1:],
            mean_image=images.mean(axis=0, dtype=np.float64),
            seed=seed,
            **recipe.model,
        )
        fit(self.model_, images, recipe.make_optimizer(), seed=seed, progress=self.verbose > 0, **recipe.fit_arguments())
        return self

    def transform(self, X: Array) -> Array:
        """The codes of X (n_samples, n_features): uint8 (n_samples, bits), zeros and ones."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self.model_.encode(self._as_images(X)).astype(np.uint8)

    def inverse_transform(self, X: Array) -> Array:
        """The reconstruction from codes X (n_samples, bits): (n_samples, n_features), in the scale of the training data and
        its dtype, float32 or float64. Values between 0 and 1 are decoded too; ValueError for others.
        """
        check_is_fitted(self)
        values = self.model_.decode_floats(check_array(X, dtype=np.float32))
        return self.minimum_ + self.range_ * values.reshape(len(values), -1)

    def score(self, X: Array, y: Any = None) -> float:
        """Minus the mean squared error of the reconstruction of X (n_samples, n_features) from its codes, in the scale of X:
        larger is better, 0 is best. y is ignored.
        """
        reconstruction = self.inverse_transform(self.transform(X))
        return -float(np.mean(np.square(check_array(X, dtype=np.float64) - reconstruction)))

    def _as_images(self, X):
        """X (n_samples, n_features) -> float32 (n_samples, n_features, 1, 1) in [0, 1]."""
        return np.clip((X - self.minimum_) / self.range_, 0, 1).astype(np.float32)[:, :, np.newaxis, np.newaxis]

    @property
    def _n_features_out(self) -> int:
        """For get_feature_names_out: tinyqae0, tinyqae1, ..."""
        return self.model_.latent_size

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # Whatever X is, bits are uint8.
        return tags
