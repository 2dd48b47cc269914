"""The base class of all bottlenecks: the activation before the threshold, codes as -1 and +1, noise.

A bottleneck maps h, the encoder's output, to the code, and defines the gradient of the backward pass:

    code = forward(h, training)    the decoder's input, (N, K); outside training, the code as read from storage
    loss()                         the added loss term of the last forward pass, unweighted
    dh = backward(dcode)           the gradient of the whole objective, including weight * loss()

A kind defines three methods: `quantize`, from the activation a to the training code; `loss`; `gradient`, from dcode to da.
"""
from inspect import signature

from .. import backend
from ..annotations import Array, Function, Scalar
from ..ops.activations import relu_backward, relu_forward, sigmoid_backward, sigmoid_forward
from ..ops.binarize import binarize

ACTIVATIONS: dict[str, tuple[Function, Function]] = {  # name: (a from h, dh from da, a and h)
    "sigmoid": (sigmoid_forward, lambda da, a, h: sigmoid_backward(da, a)),
    "relu": (relu_forward, lambda da, a, h: relu_backward(da, a)),
    "linear": (lambda h: h, lambda da, a, h: da),
    "relu-sigmoid": (lambda h: sigmoid_forward(relu_forward(h)),
                     lambda da, a, h: relu_backward(sigmoid_backward(da, a), h)),
}


class Bottleneck:
    """Base class: from the encoder's output h to a, from a to the code, and the added loss term.

    Args:
        weight: factor of the added loss term, 0 or more; None for the kind's default.
        activation: the map from h to a: "sigmoid"; "relu-sigmoid" (the report's MLP); for some kinds "relu" or "linear".
        signed: the decoder sees 2 code - 1, -1 and +1 instead of 0 and 1, so that 0 bits also update its weights.
        noise: standard deviation of Gaussian noise on a in training, which requires the same robustness as the threshold.
    """

    kind: str
    loss_name: str | None = None
    is_binary = True
    activations: tuple[str, ...] = ("sigmoid", "relu-sigmoid")
    default_weight = 0.0
    code_range: tuple[float, float] = (0, 1)  # Of stored values.

    def __init__(self, weight: float | None = None, activation: str = "sigmoid", signed: bool = False, noise: float = 0.0):
        if activation not in self.activations:
            raise ValueError(f"activation={activation!r} does not fit {self.kind}; "
                             f"choose one of {', '.join(self.activations)}")
        weight = self.default_weight if weight is None else weight
        for argument, value in (("weight", weight), ("noise", noise)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{argument}={value!r} must be a finite number, 0 or more")
        self.weight, self.activation, self.signed, self.noise = float(weight), activation, bool(signed), float(noise)
        self.random = backend.generator(0)

    def config(self) -> dict:
        """The constructor's arguments, for saving. Each is an attribute of the same name."""
        return {name: getattr(self, name) for name in signature(type(self)).parameters}

    @property
    def draws(self) -> bool:
        """Whether a training step draws random numbers, which happens on the host."""
        return self.noise > 0

    def set_progress(self, progress: float) -> None:
        """Called before each training step with the fraction of the training that is done, 0 to 1."""

    def latent(self, h: Array) -> Array:
        """a (N, K), the values before the threshold."""
        return ACTIVATIONS[self.activation][0](h)

    def forward(self, h: Array, training: bool = True) -> Array:
        """The code for the decoder, (N, K), from h (N, K)."""
        self.h, self.a = h, self.latent(h)
        return self.for_decoder(self.quantize(self.a) if training else self.stored(self.a))

    def backward(self, dcode: Array) -> Array:
        """dh (N, K) from dcode (N, K), the gradient at the decoder's input."""
        da = self.gradient(2 * dcode if self.signed else dcode)
        return ACTIVATIONS[self.activation][1](da, self.a, self.h)

    def quantize(self, a: Array) -> Array:
        return self.with_noise(a)

    def stored(self, a: Array) -> Array:
        """The code as it is stored."""
        return binarize(a)

    def loss(self) -> Scalar:
        return 0.0

    def gradient(self, dcode: Array) -> Array:
        return dcode

    def with_noise(self, a: Array) -> Array:
        """a plus Gaussian noise, in training."""
        return a + self.noise * self.draw(self.random.standard_normal, a) if self.noise else a

    def draw(self, distribution: Function, a: Array) -> Array:
        """Random numbers of a's shape and dtype, from a method of `random`; drawn on the host, like all random numbers."""
        return backend.to_device(distribution(a.shape, a.dtype))

    def for_decoder(self, code: Array) -> Array:
        """A stored code as the decoder sees it: unchanged, or 2 code - 1 if signed."""
        return 2 * code - 1 if self.signed else code

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.config().items())})"
