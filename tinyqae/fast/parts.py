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
    **{
        getattr(reference_layers, name): getattr(layers, name)
        for name in ("Dense", "ReLU", "BatchNorm", "ConvBlock", "Centre")
    },
    **{
        getattr(reference_recurrent, name): getattr(recurrent, name)
        for name in ("LSTM", "SentenceEncoder", "SentenceDecoder", "SideBySide")
    },
    **{kind: getattr(bottlenecks, kind.__name__) for kind in reference_bottlenecks.KINDS.values()},
    ImageBatches: batches.ImageBatches,
    TrainingStep: cuda_graphs.TrainingStep,
}
CONTAINERS = (reference_layers.Sequential, reference_recurrent.SentenceEncoder, reference_recurrent.SentenceDecoder)


def fast_version(part):
    """The fast version of a part, with the same settings, parameters and state.

    In a container, each layer is replaced. A layer without a fast version is wrapped; any other part is copied.
    """
    if isinstance(part, reference_losses.Loss):
        arguments = losses.FAST_LOSSES.get(part.function)
        return losses.BufferedLoss(*arguments) if arguments else copy.copy(part)
    kind = FAST_VERSIONS.get(type(part)) if layers.is_supported(part) else None
    is_container = type(part) in CONTAINERS
    if kind is None and isinstance(part, reference_layers.Layer) and not is_container:
        return layers.WrappedLayer(part)
    fast = copy.copy(part)
    if is_container:
        fast.layers = [fast_version(layer) for layer in part.layers]
    if kind is not None:
        fast.__class__ = kind
        if hasattr(fast, "prepare"):
            fast.prepare()
    return fast
