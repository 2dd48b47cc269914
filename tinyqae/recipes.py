"""Named settings: for each model and quantizer, everything that defines a training run, as plain data.

    report     the settings behind the report's tables (from its authors' code where its text is silent)
    default    those that did best on a validation split of the training data

A function for each model returns the recipe of one of these names.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from . import Autoencoder
from .annotations import Examples
from .bottlenecks import VARIANTS, make_bottleneck
from .models import CNNAutoencoder, MLPAutoencoder, Seq2SeqAutoencoder
from .optim import OPTIMIZERS, Optimizer
from .transform_coding import TransformAutoencoder

__all__ = ["Recipe", "anki_lstm", "cifar_cnn", "mnist_mlp", "naive_with_noise", "report_widths"]

RECIPES = ("default", "report")
IMAGE_ARCHITECTURES = {"mlp": MLPAutoencoder, "cnn": CNNAutoencoder}
VALIDATION_IMAGES = 5000
VALIDATION_SENTENCES = 1000
SIZES = {"small": 1, "medium": 2, "large": 3}
HIDDEN_SIZES = (32, 64, 128, 256)
LEAST_UNITS = 96
TRANSFORM_KINDS = ("vanilla", "commit")


@dataclass(frozen=True)
class Recipe:
    """One training run as plain data. `bottleneck` and `model` hold constructor arguments; `validation` is the number of
    training examples (the last ones) held out for validation; `start_at_mean` centres inputs on the mean
    training image and starts the output there; `clip_norm` is the maximum norm of a step's gradients.
    """

    name: str
    architecture: str
    quant: str
    epochs: int
    batch_size: int
    lr: float
    schedule: str
    optimizer: str = "adam"
    optimizer_arguments: dict[str, Any] = field(default_factory=dict)
    bottleneck: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    start_at_mean: bool = False
    clip_norm: float | None = None
    validation: int = 0

    def override(self, *, quant_weight: float | None = None, **changes: Any) -> "Recipe":
        """The recipe with changes; None changes nothing."""
        changes = {name: value for name, value in changes.items() if value is not None}
        if quant_weight is not None:
            changes["bottleneck"] = {**self.bottleneck, "weight": quant_weight}
        return replace(self, **changes)

    def split(self, examples: Examples) -> tuple[Examples, Examples | None]:
        """(training examples, validation examples or None)."""
        if not self.validation:
            return examples, None
        # A small data set holds out a tenth.
        kept = min(self.validation, len(examples) // 10)
        return examples[: len(examples) - kept], examples[len(examples) - kept :] if kept else None

    def make_model(self, training: Any, seed: int, engine: str | None = None) -> Autoencoder:
        """The untrained model for training examples like these: images, bytes (N, H, W, C), or sentences."""
        bottleneck = make_bottleneck(self.quant, **self.bottleneck)
        if self.architecture == "lstm":
            return Seq2SeqAutoencoder(bottleneck, seed=seed, engine=engine, **self.model)
        if self.architecture == "transform":
            return TransformAutoencoder.from_images(training, bottleneck, seed=seed, engine=engine, **self.model)
        mean_image = training.mean(axis=0) / 255 if self.start_at_mean else None
        return IMAGE_ARCHITECTURES[self.architecture](
            bottleneck, input_shape=training.shape[1:], mean_image=mean_image, seed=seed, engine=engine, **self.model
        )

    def make_optimizer(self) -> Optimizer:
        """A new optimizer."""
        return OPTIMIZERS[self.optimizer](self.lr, **self.optimizer_arguments)

    def fit_arguments(self) -> dict[str, Any]:
        """The keyword arguments for tinyqae.train.fit."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "schedule": self.schedule, "clip_norm": self.clip_norm}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for a results file."""
        return asdict(self)


def mnist_mlp(name: str, quant: str, hidden: Sequence[int]) -> Recipe:
    """The recipe `name` for the MLP on MNIST with quantizer `quant` and encoder widths `hidden` (last: latent size)."""
    quant, widths = _checked(name, quant), tuple(hidden)
    return _report_mlp(quant, widths) if name == "report" else _default_mlp(quant, widths)


def cifar_cnn(name: str, quant: str, size: str, transform: bool = False) -> Recipe:
    """The recipe `name` for the CNN on CIFAR-10 with quantizer `quant`; size: "small", "medium" or "large".

    transform: the recipe `default` for a transform code with a convolutional decoder (transform_coding.py), which needs a
    quantizer whose decoder sees stored codes in training as well.
    """
    quant = _checked(name, quant)
    if transform:
        if name == "report" or quant not in TRANSFORM_KINDS:
            raise ValueError(f"transform={transform!r} needs the recipe 'default' and one of {', '.join(TRANSFORM_KINDS)}")
        return _transform(quant, size)
    return _report_cnn(quant, size) if name == "report" else _default_cnn(quant, size)


def anki_lstm(name: str, quant: str, hidden: int, units: int | None = None) -> Recipe:
    """The recipe `name` for the LSTM on sentences with quantizer `quant`; hidden: half a code's size, and in the recipe
    `report` the units of each LSTM. units: those of each LSTM in the recipe `default`.
    """
    quant = _checked(name, quant)
    if name == "report" and units is not None:
        raise ValueError(f"units={units!r} must be None: the recipe 'report' sets it to hidden")
    return _report_lstm(quant, hidden) if name == "report" else _default_lstm(quant, hidden, units)


def _checked(name: str, quant: str) -> str:
    if name not in RECIPES:
        raise ValueError(f"recipe={name!r} is unknown; choose one of {', '.join(RECIPES)}")
    if name == "report" and quant in VARIANTS:
        raise ValueError(f"quant={quant!r} has no recipe 'report': the report did not try it")
    return "vanilla" if quant == "none" else quant


def _report_mlp(quant: str, hidden: tuple[int, ...]) -> Recipe:
    """Keras 2.3 defaults, batch 16, 10 epochs, all 60,000 images. The report has no fence row for the MLP: ours takes
    the text's sigmoid (after the ReLU of the other rows, no value is below 1/2) and the weight of its CNN, 1e-4.
    """
    pixels = 28 * 28
    bottlenecks: dict[str, dict] = {
        "vanilla": {"activation": "relu-sigmoid"},
        "naive": {"activation": "relu-sigmoid"},
        "fence": {"activation": "sigmoid", "weight": 1e-4},
        "commit": {"activation": "relu", "weight": 0.2 / pixels},
    }
    return Recipe(
        "report",
        "mlp",
        quant,
        epochs=10,
        batch_size=16,
        lr=1e-3,
        schedule="constant",
        optimizer_arguments={"eps": 1e-7},
        bottleneck=bottlenecks[quant],
        model={"hidden": hidden},
    )


def _default_mlp(quant: str, hidden: tuple[int, ...]) -> Recipe:
    """The same tricks for all: inputs centred and outputs started at the mean image, codes as -1 and +1, batch norm
    before the sigmoid. Naive does without batch norm and with a fortieth of the learning rate: the better it learns to
    use the values between 0 and 1, the more the threshold costs. Annealed does without batch norm as well, which
    would keep the values near 0, where the sigmoid is undecided, while that grows steep.

    With hidden layers: batch norm before each ReLU; half the learning rate for each layer after the first; half the weight
    of the added loss for each. Without these, deep encoders' bits die; a larger weight freezes bits that are still wrong.
    """
    deeper = len(hidden) - 1
    tricks: dict[str, Any] = {
        "epochs": 20,
        "batch_size": 128,
        "schedule": "cosine",
        "start_at_mean": True,
        "validation": VALIDATION_IMAGES,
    }
    if quant == "naive":
        return Recipe("default", "mlp", quant, lr=2.5e-4, bottleneck={"signed": True}, model={"hidden": hidden}, **tricks)
    if quant == "annealed":
        return Recipe(
            "default",
            "mlp",
            quant,
            lr=2.5e-3,
            bottleneck={"signed": True, "slope": 100.0},
            model={"hidden": hidden},
            **tricks,
        )
    weights = {"fence": 0.5, "commit": 1.0, "entropy": 0.3}
    weight = {"weight": weights[quant] / 2**deeper} if quant in weights else {}
    normalized = {"normalize_hidden": True} if deeper else {}
    return Recipe(
        "default",
        "mlp",
        quant,
        lr=1e-2 / 2 ** max(deeper - 1, 0),
        bottleneck={"signed": True, **weight},
        model={"hidden": hidden, **normalized, "normalize_latent": True},
        **tricks,
    )


def naive_with_noise(vanilla: Recipe) -> Recipe:
    """Not in the report: train as the default recipe `vanilla` does, but with Gaussian noise on the code, and threshold
    afterwards. A code robust to noise is robust to rounding, so this is the baseline that commit has to beat.
    """
    return replace(
        vanilla,
        quant="naive",
        bottleneck={**vanilla.bottleneck, "noise": 0.3},
        model={**vanilla.model, "normalize_latent": True},
    )


def report_widths(size: str) -> tuple[tuple[int, ...], int]:
    """(widths, latent channels) of the report's "small", "medium" or "large" model: 64, 32, 16 and 16, times 1, 2 or 3."""
    if size not in SIZES:
        raise ValueError(f"size={size!r} is unknown; choose one of {', '.join(SIZES)}")
    return tuple(SIZES[size] * width for width in (64, 32, 16)), 16 * SIZES[size]


def _report_cnn(quant: str, size: str) -> Recipe:
    """Batch 16, 4 epochs, all 50,000 images, batch norm on the output layer and everywhere with Keras' constants."""
    widths, latent_channels = report_widths(size)
    bottlenecks: dict[str, dict] = {
        "vanilla": {},
        "naive": {},
        "fence": {"weight": 1e-4},
        "commit": {"activation": "linear", "weight": 0.2 / 3},
    }
    return Recipe(
        "report",
        "cnn",
        quant,
        epochs=4,
        batch_size=16,
        lr=1e-3,
        schedule="constant",
        optimizer_arguments={"eps": 1e-7},
        bottleneck=bottlenecks[quant],
        model={
            "widths": widths,
            "latent_channels": latent_channels,
            "normalize_output": True,
            "norm_momentum": 0.99,
            "norm_eps": 1e-3,
        },
    )


def _default_cnn(quant: str, size: str) -> Recipe:
    """The MLP's tricks, and squared error instead of cross-entropy, for a decibel more on colour images. The added
    losses weigh less, since the squared error is a tenth of the cross-entropy. Levels get wider inwards, where width costs
    little, not narrower: after 16 channels with a ReLU, a 4x4x16 code can carry little. What the report did not try is set
    as for the MLP, with entropy's weight in the same proportion to commit's.
    """
    _, latent_channels = report_widths(size)
    widths = (64, 64, 128 * SIZES[size])
    own = {
        "fence": {"weight": 0.05},
        "commit": {"weight": 0.03},
        "entropy": {"weight": 0.01},
        "annealed": {"slope": 100.0},
    }.get(quant, {})
    return Recipe(
        "default",
        "cnn",
        quant,
        epochs=12,
        batch_size=64,
        lr=4e-3,
        schedule="cosine",
        start_at_mean=True,
        validation=VALIDATION_IMAGES,
        bottleneck={"signed": True, **own},
        model={
            "widths": widths,
            "latent_channels": latent_channels,
            "reconstruction": "mse",
            "normalize_latent": quant not in ("vanilla", "naive", "annealed"),
        },
    )


def _transform(quant: str, size: str) -> Recipe:
    """Little weight for the commitment loss: the initial code already has every bit on for half of the images, and a pull
    towards the bit moves the components away from where they decode best.
    """
    _, latent_channels = report_widths(size)  # Of the CNN's 4x4 map, which has as many bits.
    return Recipe(
        "default",
        "transform",
        quant,
        epochs=10,
        batch_size=64,
        lr=1e-3,
        schedule="cosine",
        validation=VALIDATION_IMAGES,
        bottleneck={"activation": "linear"} if quant == "vanilla" else {"signed": True, "weight": 0.003},
        model={"bits": 16 * latent_channels, "correction": (48, 64, 64)},
    )


def _report_lstm(quant: str, hidden: int) -> Recipe:
    """RMSprop, batch 64, 50 epochs, sentences padded with spaces to the longest of all, 24 characters; at most 25 are
    written. Vanilla passes the states on unchanged, fence weighs the mean of each state.
    """
    bottlenecks: dict[str, dict] = {
        "vanilla": {"activation": "linear"},
        "naive": {},
        "fence": {"weight": 2e-3},
        "commit": {"activation": "linear", "weight": 0.2 / (2 * hidden)},
    }
    return Recipe(
        "report",
        "lstm",
        quant,
        epochs=50,
        batch_size=64,
        lr=1e-3,
        schedule="constant",
        optimizer="rmsprop",
        optimizer_arguments={"rho": 0.9, "eps": 1e-7},
        bottleneck=bottlenecks[quant],
        model={"hidden": hidden, "dense_states": quant != "vanilla", "pad_to": 24, "max_length": 25},
    )


def _default_lstm(quant: str, hidden: int, units: int | None) -> Recipe:
    """The input read backwards, gradients clipped, codes as -1 and +1; half of the training sentences spliced from two, or
    the model memorizes them; decoded by beam search. Narrow LSTMs, not the bits, would limit a small code, so they have at
    least 96 units. Batch norm before the bottleneck and the code passed to the decoder at every step, except for naive and
    annealed, for which the threshold then costs more.
    """
    own = {
        "fence": {"weight": 3.0},
        "commit": {"weight": 0.2},
        "entropy": {"weight": 0.06},
        "annealed": {"slope": 100.0},
    }.get(quant, {})
    sees_bits = quant not in ("naive", "annealed")
    units = units or max(hidden, LEAST_UNITS)
    return Recipe(
        "default",
        "lstm",
        quant,
        epochs=24,
        batch_size=128,
        lr=1e-2 if units < 128 else 5e-3,
        schedule="cosine",
        clip_norm=1.0,
        validation=VALIDATION_SENTENCES,
        bottleneck={"signed": True, **own},
        model={
            "hidden": hidden,
            "units": units,
            "normalize_latent": sees_bits,
            "code_every_step": sees_bits,
            "reverse": True,
            "splice": 0.5,
            "beam": 8,
        },
    )
