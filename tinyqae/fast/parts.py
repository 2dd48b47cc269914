"""The fast version of each part of the reference engine."""
import copy

from .. import bottlenecks as reference_bottlenecks
from .. import layers as reference_layers
from .. import losses as reference_losses
from .. import recurrent as reference_recurrent
from ..batches import ImageBatches
from ..train import TrainingStep
from . import batches, bottlenecks, cuda_graphs, layers, losses, recurrent

FAST_VERSIONS = {
    **{getattr(reference, name): getattr(fast, name) for reference, fast, names in (
        (reference_layers, layers, ("Dense", "ReLU", "BatchNorm", "ConvBlock", "Centre")),
        (reference_recurrent, recurrent, ("LSTM", "SentenceEncoder", "SentenceDecoder", "SideBySide")),
        (reference_bottlenecks, bottlenecks, [kind.__name__ for kind in reference_bottlenecks.KINDS.values()]),
    ) for name in names},
    ImageBatches: batches.ImageBatches,
    TrainingStep: cuda_graphs.TrainingStep,
}
FAST_LOSSES = {
    reference_losses.bce_with_logits: losses.BinaryCrossEntropy,
    reference_losses.squared_error_with_logits: losses.SquaredError,
    reference_losses.cross_entropy_with_logits: losses.CrossEntropy,
}
CONTAINERS = (reference_layers.Sequential, reference_recurrent.SentenceEncoder, reference_recurrent.SentenceDecoder)


def fast_version(part):
    """The fast version of a part, with the same settings, parameters and state.

    In a container, each layer is replaced. A layer without a fast version is wrapped; any other part is copied.
    """
    if isinstance(part, reference_losses.Loss):
        return FAST_LOSSES[part.function]() if part.function in FAST_LOSSES else copy.copy(part)
    kind = FAST_VERSIONS.get(type(part)) if layers.is_supported(part) else None
    if kind is None:
        if isinstance(part, reference_layers.Layer) and type(part) not in CONTAINERS:
            return layers.WrappedLayer(part)
        kind = type(part)
    fast = kind.__new__(kind)
    vars(fast).update(vars(part))
    if type(part) in CONTAINERS:
        fast.layers = [fast_version(layer) for layer in part.layers]
    if kind is not type(part):
        fast.prepare()
    return fast
