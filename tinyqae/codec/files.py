"""Compress pictures and texts to the bytes of a .tqae file with a trained model, and decompress them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import Autoencoder
from ..annotations import Function, Shape
from ..errors import CodecError
from ..models.images import ImageAutoencoder
from ..progress import tqdm
from . import lines as text_lines
from . import pictures
from .blocks import checksum
from .container import IMAGES, MODEL_ID_BYTES, TEXTS, Container, from_bytes, to_bytes
from .models import name_of, parents_of
from .payload import CODED, decode_bits, encode_bits

_PART = 2000  # examples per update of the progress bar
_MANY = 5000  # number of codes from which a shipped model's stored parents are as good as newly chosen ones
_MAX_BITS = 1 << 30  # in memory, where encoding takes two bytes per bit

Content = np.ndarray | Sequence[np.ndarray] | str


@dataclass(frozen=True)
class Unpacked:
    """The decompressed contents of a .tqae file.

    Attributes:
        content: uint8 (N, H, W, C) where every code is an image of the model's own size; a list of pictures, uint8
            (H, W, C), of any size; or a str.
        names: of the pictures, a tuple of str, or None.
        verbatim: the number of lines of a text that are stored verbatim, not coded.
        matches: whether a text is decoded exactly as on the machine that wrote the file; True for pictures.
    """

    content: Any
    names: tuple[str, ...] | None = None
    verbatim: int = 0
    matches: bool = True


def compress(content: Content, model: Autoencoder, *, names: Sequence[str] | None = None, progress: bool = False) -> bytes:
    """Compress `content` to the bytes of a .tqae file.

    Args:
        content: images, a uint8 array (N, H, W, C) or (N, H, W); or a list of pictures, uint8 arrays (H, W), (H, W, 1) or
            (H, W, 3), of any sizes, which are cut into tiles of the model's size; or a text, a str, whose lines of
            a to z, 0 to 9 and spaces are coded, lossily, while all others are stored verbatim.
        model: a trained Autoencoder whose codes are bits (any bottleneck but vanilla), of images or sentences.
        names: file names for the pictures, a list of str, or None.
        progress: show a progress bar on standard error.

    Raises:
        TypeError, ValueError: content is none of these or does not fit this model, or the model's codes are floats.
    """
    if not model.bottleneck.is_binary:
        raise ValueError("the model is vanilla, so its codes are floats; a .tqae file holds bits: use any other bottleneck")
    lines, extra = None, b""
    examples: Any
    if isinstance(model, ImageAutoencoder):
        examples, extra = _images(content, model, names)
    elif not isinstance(content, str):
        raise TypeError(f"content is {type(content).__name__}; a sentence model compresses a str")
    elif names is not None:
        raise ValueError("names are for pictures; omit them for a text")
    else:
        lines = text_lines.take_apart(content, model.pad_to or model.max_length)  # type: ignore[attr-defined]
        examples = lines.coded
    if len(examples) * model.latent_size > _MAX_BITS:
        raise ValueError(
            f"{len(examples)} codes of {model.latent_size} bits are more than the {_MAX_BITS} bits that a file "
            "holds; compress the content in several parts"
        )
    bits = _in_parts(model.encode, examples, np.empty((len(examples), model.latent_size), np.bool_), "encode", progress)
    if lines is not None:
        extra = text_lines.to_extra(lines, text_lines.put_together(lines, _decode(model, bits, progress)))
    kind, shape, identity = IMAGES if lines is None else TEXTS, code_shape(model), model_id(model)
    # A list of parents must be worth the space it takes in the file: for few codes a shorter one is chosen.
    method, payload = encode_bits(bits, shape, parents_of(identity) if len(bits) >= _MANY else None)
    return to_bytes(Container(identity, kind, method, len(bits), shape, extra, payload))


def unpack(data: bytes, model: Autoencoder, *, progress: bool = False) -> Unpacked:
    """Decompress the bytes of a .tqae file with the model that made it. CodecError for a corrupted file, one made with
    another model, or one that declares more than pictures.MAX_VALUES values.
    """
    container, own, shape = from_bytes(data), model_id(model), code_shape(model)
    kind, count, extra = container.kind, container.count, container.extra
    if container.model_id != own:
        raise CodecError(
            f"this .tqae file was made with the model {_called(container.model_id)}, and cannot be read with {_called(own)}"
        )
    if container.shape != shape or (kind == IMAGES) != isinstance(model, ImageAutoencoder):
        raise CodecError(f"this .tqae file is damaged: its codes have shape {container.shape}, the model's {shape}")
    if kind == TEXTS:
        lines, written = text_lines.from_extra(extra, count)
    else:
        height, width, channels = model.input_shape  # type: ignore[attr-defined]  # It is a model of images.
        values = count * height * width * channels
        if values > pictures.MAX_VALUES:
            raise CodecError(
                f"this .tqae file declares {count} images with {values} values; the limit is {pictures.MAX_VALUES}"
            )
        sizes, names = pictures.from_extra(extra, count, (height, width)) if extra else (None, None)
    decoded = _decode(model, decode_bits(container.payload, container.method, count, shape), progress)
    if kind == TEXTS:
        text = text_lines.put_together(lines, decoded)
        return Unpacked(text, verbatim=len(lines.verbatim), matches=checksum(text.encode()) == written)
    return Unpacked(decoded) if sizes is None else Unpacked(pictures.join(decoded, sizes), names)


def decompress(data: bytes, model: Autoencoder, *, progress: bool = False) -> Any:
    """The content of a .tqae file: `unpack(data, model).content`."""
    return unpack(data, model, progress=progress).content


def contents(data: bytes) -> dict[str, Any]:
    """The metadata of a .tqae file, read without a model: a dict of plain values.

    "kind" ("images" or "text"), "count" of codes, "bits" of each, "method" ("packed" or "coded"), "model_id" (hexadecimal),
    "model" (the name of a shipped model, or None); for images "pictures", "sizes" of the first ten, "pixels" of all, [] and
    None if all have the model's size; for text "lines" and "verbatim_lines". CodecError for a corrupted file.
    """
    container = from_bytes(data)
    found = {
        "kind": "images" if container.kind == IMAGES else "text",
        "count": container.count,
        "bits": int(np.prod(container.shape)),
        "method": "coded" if container.method == CODED else "packed",
        "model_id": container.model_id.hex(),
        "model": name_of(container.model_id),
    }
    if container.kind == TEXTS:
        lines, _ = text_lines.from_extra(container.extra, container.count)
        return {**found, "lines": container.count + len(lines.verbatim), "verbatim_lines": len(lines.verbatim)}
    if not container.extra:
        return {**found, "pictures": container.count, "sizes": [], "pixels": None}
    sizes, _ = pictures.from_extra(container.extra, container.count)
    return {
        **found,
        "pictures": len(sizes),
        "sizes": [list(size) for size in sizes[:10]],
        "pixels": sum(height * width for height, width in sizes),
    }


def code_shape(model: Autoencoder) -> Shape:
    """The layout of a model's codes, as payload.py expects it: (h, w, c) for a map, or (L,)."""
    shape = model.decoder.input_shape if isinstance(model, ImageAutoencoder) else ()
    return tuple(shape) if len(shape) == 3 else (model.latent_size,)


def model_id(model: Autoencoder) -> bytes:
    """The bytes that identify the model in a .tqae file."""
    return bytes.fromhex(model.model_id())[:MODEL_ID_BYTES]


def _called(identity: bytes) -> str:
    name = name_of(identity)
    return f"{name} ({identity.hex()})" if name else identity.hex()


def _images(content: Content, model: ImageAutoencoder, names: Sequence[str] | None) -> tuple[np.ndarray, bytes]:
    """(uint8 (N, h, w, C), extra bytes)."""
    own = model.input_shape
    if isinstance(content, np.ndarray) and content.ndim in (3, 4):
        images = content[..., np.newaxis] if content.ndim == 3 else content
        if images.dtype == np.uint8 and images.shape[1:] == own and names is None:
            return images, b""
        content = list(images)
    if not isinstance(content, list | tuple):
        raise TypeError(
            f"content is {type(content).__name__}; an image model compresses a uint8 array (N, H, W, C) or a "
            "list of pictures"
        )
    if names is not None and len(names) != len(content):
        raise ValueError(f"names has {len(names)} names for {len(content)} pictures")
    tiles = pictures.cut(content, own, names)
    sizes = tuple(picture.shape[:2] for picture in content)
    return tiles, b"" if names is None and set(sizes) <= {own[:2]} else pictures.to_extra(sizes, names)


def _decode(model: Autoencoder, bits: np.ndarray, progress: bool) -> Any:
    """Decode all codes: uint8 (N, h, w, C), or a list of str."""
    if isinstance(model, ImageAutoencoder):
        return _in_parts(model.decode, bits, np.empty((len(bits), *model.input_shape), np.uint8), "decode", progress)
    return _in_parts(model.decode, bits, [""] * len(bits), "decode", progress)


def _in_parts(function: Function, examples: Any, results: Any, what: str, progress: bool) -> Any:
    """Overwrite `results` with function(examples), with a progress bar. Returns `results`."""
    with tqdm(total=len(examples), desc=what, unit=" codes", disable=not progress, leave=False) as bar:
        for start in range(0, len(examples), _PART):
            part = slice(start, start + _PART)
            results[part] = function(examples[part])
            bar.update(len(examples[part]))
    return results
