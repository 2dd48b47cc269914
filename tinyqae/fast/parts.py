"""Which part of the fast engine stands for which part of the reference engine."""
import copy

from .. import bottlenecks as reference_bottlenecks
from .. import layers as reference_layers
from .. import losses as reference_losses
from .. import recurrent as reference_recurrent
from ..data.batches import ImageBatches
from ..train import TrainingStep
from . import batches, bottlenecks, graphs, layers, losses, recurrent

TUNED = {
    **{getattr(reference, name): getattr(fast, name) for reference, fast, names in (
        (reference_layers, layers, ("Dense", "ReLU", "BatchNorm", "ConvBlock", "Centre")),
        (reference_recurrent, recurrent, ("LSTM", "SentenceEncoder", "SentenceDecoder", "SideBySide")),
        (reference_bottlenecks, bottlenecks, [kind.__name__ for kind in reference_bottlenecks.KINDS.values()]),
    ) for name in names},
    ImageBatches: batches.ImageBatches,
    TrainingStep: graphs.TrainingStep,
}
TUNED_LOSSES = {
    reference_losses.bce_with_logits: losses.BinaryCrossEntropy,
    reference_losses.squared_error_with_logits: losses.SquaredError,
    reference_losses.cross_entropy_with_logits: losses.CrossEntropy,
}
COMPOSED = (reference_layers.Sequential, reference_recurrent.SentenceEncoder, reference_recurrent.SentenceDecoder)


def tuned(part):
    """The fast version of a part, with the same settings, parameters and state: of its layers one by one where it is
    composed of some. A layer that has no fast version is wrapped, anything else is copied.
    """
    if isinstance(part, reference_losses.Loss):
        return TUNED_LOSSES[part.function]() if part.function in TUNED_LOSSES else copy.copy(part)
    kind = TUNED.get(type(part)) if layers.has_kernels(part) else None
    if kind is None:
        if isinstance(part, reference_layers.Layer) and type(part) not in COMPOSED:
            return layers.Adapted(part)
        kind = type(part)
    fast = kind.__new__(kind)
    vars(fast).update(vars(part))
    if type(part) in COMPOSED:
        fast.layers = [tuned(layer) for layer in part.layers]
    if kind is not type(part):
        fast.prepare()
    return fast
