"""Trained models as ONNX files, which other runtimes, such as onnxruntime, run without this library.

    of images     encoder.onnx        images uint8 (N, H, W, C) -> code (N, K)
                  decoder.onnx        code (N, K) -> images uint8 (N, H, W, C)
    of sentences  encoder.onnx        tokens int64 (N, T), lengths int32 (N,) -> code (N, K)
                  decoder_start.onnx  code (N, K) -> state (N, 2U), context (N, 4U)
                  decoder_step.onnx   token int64 (N,), state (N, 2U), context (N, 4U) -> logits (N, V), next_state (N, 2U)

A code is bits, uint8 0 or 1, or float32 for the vanilla bottleneck; all other tensors are float32. A state is h and c
side by side; context exists with code_every_step only; START is never written. https://onnx.ai/onnx/operators, opset 17.
"""

from pathlib import Path
from typing import Any

import numpy as np

from . import __version__, backend
from .annotations import FilePath
from .bottlenecks import KINDS, Annealed
from .checkpoint import write_atomically
from .errors import MissingPackage
from .layers import BatchNorm, ConvBlock, Dense, Layer, ReLU, Sequential
from .model_files import require_finite
from .models import Autoencoder, CNNAutoencoder, MLPAutoencoder, Seq2SeqAutoencoder
from .tokens import ALPHABET, ENCODER_TOKENS, END, START
from .transform_coding import (
    EPS,
    SCALE,
    AddBranch,
    Branch,
    Logit,
    Picture,
    SuccessiveApproximation,
    TransformAutoencoder,
    slices,
)

__all__ = ["export_onnx"]

FILES = ("encoder.onnx", "decoder.onnx", "decoder_start.onnx", "decoder_step.onnx")
OPSET, IR_VERSION = 17, 8  # Of 2022, so that runtimes older than the installed `onnx` read the files too.
FLOAT, UINT8, INT32, INT64 = 1, 2, 6, 7  # The numbers of dtypes in onnx.TensorProto.
ACTIVATIONS = {"sigmoid": ("Sigmoid",), "relu": ("Relu",), "linear": (), "relu-sigmoid": ("Relu", "Sigmoid")}


def export_onnx(model: Autoencoder, directory: FilePath) -> list[Path]:
    """Write the model's ONNX files to the directory, each atomically, replacing existing ones. Returns their paths.

    Their metadata has the model_id, the bottleneck's kind, tinyqae's version and, for sentences, the meaning of the tokens.
    float64 becomes float32. MissingPackage without `onnx`; TypeError for a user-defined model or bottleneck;
    CheckpointError for weights that are NaN or infinite.
    """
    require_finite(model.state_arrays())
    kinds = {*KINDS.values(), *(type(model.engine.build(kind())) for kind in KINDS.values())}
    own = MLPAutoencoder | CNNAutoencoder | TransformAutoencoder | Seq2SeqAutoencoder
    if not isinstance(model, own) or type(model.bottleneck) not in kinds:
        raise TypeError(f"{type(model).__name__}({model.bottleneck!r}): only tinyqae's own classes can be exported")
    metadata = {"tinyqae": __version__, "model_id": model.model_id(), "bottleneck": model.bottleneck.kind}
    if isinstance(model, Seq2SeqAutoencoder):
        graphs = [_sentence_encoder(model), *_sentence_decoder(model)]
        metadata |= {
            "alphabet": ALPHABET,
            "start": str(START),
            "end": str(END),
            "max_length": str(model.max_length),
            "pad_to": str(model.pad_to),
        }
    else:
        graphs = _image_graphs(model)
    return [graph.write(Path(directory), metadata) for graph in graphs]


class _Graph:
    """An ONNX graph to which operators are added one by one. A tensor is identified by its name, a string."""

    def __init__(self, name: str):
        try:
            import onnx
        except ImportError as error:
            raise MissingPackage("to write ONNX files, pip install 'tinyqae[onnx]' (onnx)", name="onnx") from error
        self.proto, self.helper, self.to_tensor = onnx.GraphProto(name=name), onnx.helper, onnx.numpy_helper.from_array
        self.branches: dict[int, str] = {}  # The output of each layer Branch, by its id().

    def input(self, name: str, dtype: int, *shape: int | str) -> str:
        """Declare an input (N, *shape), in which a string names an axis of any length. Returns the name."""
        self.proto.input.append(self.helper.make_tensor_value_info(name, dtype, ("N", *shape)))
        return name

    def output(self, name: str, tensor: str, dtype: int, *shape: int) -> None:
        """Declare that the tensor, converted to dtype, is the output (N, *shape) of this name."""
        self.proto.node.append(self.helper.make_node("Cast", [tensor], [name], to=dtype))
        self.proto.output.append(self.helper.make_tensor_value_info(name, dtype, ("N", *shape)))

    def add(self, operator: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add an operator. Returns its output, or a list of several. inputs: tensors; arrays and numbers as constants."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        results = [f"{operator}_{len(self.proto.node)}_{i}" for i in range(outputs)]
        self.proto.node.append(self.helper.make_node(operator, names, results, **attributes))
        return results if outputs > 1 else results[0]

    def write(self, directory: Path, metadata: dict[str, str]) -> Path:
        """Write the graph to a file named after it."""
        opsets, path = [self.helper.make_opsetid("", OPSET)], directory / f"{self.proto.name}.onnx"
        model = self.helper.make_model(self.proto, opset_imports=opsets, ir_version=IR_VERSION)
        self.helper.set_model_props(model, metadata)
        write_atomically(path, lambda file: file.write(model.SerializeToString()))
        return path

    def _constant(self, values: Any) -> str:
        array, name = np.asarray(backend.to_host(values)), f"constant_{len(self.proto.initializer)}"
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        self.proto.initializer.append(self.to_tensor(array, name))
        return name


def _image_graphs(model: MLPAutoencoder | CNNAutoencoder | TransformAutoencoder) -> list[_Graph]:
    encoder, decoder = _Graph("encoder"), _Graph("decoder")
    x = encoder.add("Cast", encoder.input("images", UINT8, *model.input_shape), to=FLOAT)
    x = encoder.add("Mul", x, 1 / 255)
    x = x if model.mean_image is None else encoder.add("Sub", x, model.mean_image)
    _output_code(encoder, model, encoder.add("Flatten", _sequential(encoder, model.encoder, x)))
    pixels = decoder.add("Sigmoid", _sequential(decoder, model.decoder, _input_code(decoder, model)))
    levels = decoder.add("Round", decoder.add("Mul", pixels, 255.0))  # Half to even, as np.rint.
    images = decoder.add("Reshape", levels, np.array((0, *model.input_shape)))
    decoder.output("images", images, UINT8, *model.input_shape)
    return [encoder, decoder]


def _sentence_encoder(model: Seq2SeqAutoencoder) -> _Graph:
    graph, (lstm,), u = _Graph("encoder"), model.encoder.layers, model.units
    tokens = graph.add("Transpose", graph.input("tokens", INT64, "T"), perm=(1, 0))
    onehot = graph.add("OneHot", tokens, np.array(ENCODER_TOKENS), np.array([0, 1], np.float32))
    # Weights (1, 4U, F), gates in the order i, o, f, c, and a second bias, here 0.
    wx, wh, b = (
        backend.to_host(lstm.params[name]).reshape(-1, 4, u)[:, [0, 3, 1, 2]].reshape(-1, 4 * u).T[None]
        for name in ("wx", "wh", "b")
    )
    # In reverse, it starts at the end of each sentence, not of the padding.
    _, h, c = graph.add(
        "LSTM",
        onehot,
        wx,
        wh,
        np.pad(b[..., 0], ((0, 0), (0, 4 * u))),
        graph.input("lengths", INT32),
        outputs=3,
        hidden_size=u,
        direction="reverse" if model.reverse else "forward",
    )
    h, c = (graph.add("Squeeze", state, np.array([0])) for state in (h, c))
    if model.dense_states:
        h, c = _layer(graph, model.dense_h, h), _layer(graph, model.dense_c, c)
    joined = graph.add("Concat", h, c, axis=1)
    _output_code(graph, model, _layer(graph, model.norm, joined) if model.norm else joined)
    return graph


def _sentence_decoder(model: Seq2SeqAutoencoder) -> list[_Graph]:
    """The start, and a step with the formulas of ops/lstm.py, since ONNX's LSTM has no input for the context."""
    (lstm, dense), u, start, step = model.decoder.layers, model.units, _Graph("decoder_start"), _Graph("decoder_step")
    code = _input_code(start, model)
    start.output("state", _layer(start, model.to_state, code) if model.to_state else code, FLOAT, 2 * u)
    p = step.add("Gather", lstm.params["wx"] + lstm.params["b"], step.input("token", INT64))
    h, c = step.add("Split", step.input("state", FLOAT, 2 * u), outputs=2, axis=1)
    p = step.add("Add", p, step.add("MatMul", h, lstm.params["wh"]))
    if model.to_context:
        start.output("context", _layer(start, model.to_context, code), FLOAT, 4 * u)
        p = step.add("Add", p, step.input("context", FLOAT, 4 * u))
    p_i, p_f, p_g, p_o = step.add("Split", p, outputs=4, axis=1)
    i, f, o = (step.add("Sigmoid", gate) for gate in (p_i, p_f, p_o))
    c = step.add("Add", step.add("Mul", f, c), step.add("Mul", i, step.add("Tanh", p_g)))
    h = step.add("Mul", o, step.add("Tanh", c))
    step.output("logits", _layer(step, dense, h), FLOAT, dense.units)
    step.output("next_state", step.add("Concat", h, c, axis=1), FLOAT, 2 * u)
    return [start, step]


def _output_code(graph: _Graph, model: Autoencoder, h: str) -> None:
    """The output `code` from h (N, K), the bottleneck's input."""
    bottleneck = model.bottleneck
    a = graph.add("Mul", h, bottleneck.current_slope) if isinstance(bottleneck, Annealed) else h
    for operator in ACTIVATIONS[bottleneck.activation]:
        a = graph.add(operator, a)
    code = graph.add("Greater", a, 0.5) if bottleneck.is_binary else a
    graph.output("code", code, UINT8 if bottleneck.is_binary else FLOAT, model.latent_size)


def _input_code(graph: _Graph, model: Autoencoder) -> str:
    """The decoder's input (N, K), from the graph's input `code`."""
    code = graph.input("code", UINT8 if model.bottleneck.is_binary else FLOAT, model.latent_size)
    code = graph.add("Cast", code, to=FLOAT)
    return graph.add("Sub", graph.add("Mul", code, 2.0), 1.0) if model.bottleneck.signed else code


def _sequential(graph: _Graph, part: Sequential, x: str) -> str:
    """A stack of layers. tinyqae's take NHWC, ONNX's NCHW."""
    x = graph.add("Reshape", x, np.array((0, *part.input_shape)))  # 0: N.
    x = graph.add("Transpose", x, perm=(0, 3, 1, 2)) if len(part.input_shape) == 3 else x
    for layer in part.layers:
        x = _layer(graph, getattr(layer, "layer", layer), x)  # The fast engine wraps those that it has no version of.
    return graph.add("Transpose", x, perm=(0, 2, 3, 1)) if len(part.output_shape) == 3 else x


def _layer(graph: _Graph, layer: Layer, x: str) -> str:
    """A layer at inference. x (N, D) or (N, C, H, W)."""
    params, state = layer.params, layer.state
    if isinstance(layer, Dense):
        return graph.add("Gemm", x, params["w"], params["b"])
    if isinstance(layer, ReLU):
        return graph.add("Relu", x)
    if isinstance(layer, SuccessiveApproximation):
        return _successive(graph, layer, x)
    if isinstance(layer, Picture):
        x = graph.add("Reshape", graph.add("Div", x, float(SCALE)), np.array((0, *layer.output_shape)))
        return graph.add("Transpose", x, perm=(0, 3, 1, 2))
    if isinstance(layer, Branch):
        graph.branches[id(layer)] = x
    if isinstance(layer, AddBranch):
        return graph.add("Add", x, graph.branches[id(layer.branch)])
    if isinstance(layer, Logit):
        p = graph.add("Clip", x, EPS, 1 - EPS)
        return graph.add("Log", graph.add("Div", p, graph.add("Sub", 1.0, p)))
    if isinstance(layer, ConvBlock):
        x = graph.add("Resize", x, "", np.array([1, 1, 2, 2], np.float32)) if layer.upsample else x
        x = graph.add("Conv", x, params["w"].transpose(3, 2, 0, 1), params.get("b", ""), pads=[layer.kernel // 2] * 4)
    if isinstance(layer, BatchNorm | ConvBlock) and "gamma" in params:
        x = graph.add(
            "BatchNormalization", x, params["gamma"], params["beta"], state["mean"], state["variance"], epsilon=layer.eps
        )
    if isinstance(layer, ConvBlock):
        x = graph.add("Relu", x) if layer.relu else x
        x = graph.add("MaxPool", x, kernel_shape=(2, 2), strides=(2, 2)) if layer.pool else x
    return x


def _successive(graph: _Graph, layer: SuccessiveApproximation, x: str) -> str:
    """successive_forward: a stage after the other."""
    f = layer.params["f"]
    parts = (
        graph.add("Split", x, np.array(layer.stages), outputs=len(layer.stages), axis=1) if len(layer.stages) > 1 else [x]
    )
    bits: list[str] = []
    for i, (earlier, now) in enumerate(slices(layer.stages)):
        if bits:
            parts[i] = graph.add("Sub", parts[i], graph.add("MatMul", graph.add("Concat", *bits, axis=1), f[earlier, now]))
        bits.append(
            graph.add("Sub", graph.add("Mul", graph.add("Cast", graph.add("Greater", parts[i], 0.0), to=FLOAT), 2.0), 1.0)
        )
    return graph.add("Concat", *parts, axis=1)
