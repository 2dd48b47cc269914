"""tinyqae.plots: each function returns its picture as a Figure, and writes it only where it is told to."""

import inspect
import io
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from tinyqae import plots
from tinyqae.gradients import WAYS
from tinyqae.history import undecided
from tinyqae.metrics.image import psnr

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
LATENTS = [(epoch, RANDOM.integers(1, 50, 40).tolist()) for epoch in range(4)]
ROWS = [
    {"epoch": epoch, "lr": 0.1, "reconstruction": 1.8 / epoch**2, "commit": 0.1, "seconds": 1.0, "val_psnr": 10.0 + epoch}
    for epoch in (1, 2, 3)
]
COMPARED = SimpleNamespace(
    layers=["Dense 4 x 2", "BatchNorm"],
    steps=[0.01, 0.1],
    loss=0.5,
    wrong_signs={"straight-through": 0.25},
    norms={way: [i, 2 * i] for i, way in enumerate(WAYS)},
    cosines={a: dict.fromkeys(WAYS, 0.5) for a in WAYS},
    changes={way: [-0.1, 0.2] for way in WAYS[1:]},
)

# function: (its arguments, titles of its panels)
CASES = {
    "reconstructions": (("all", [("original", IMAGES), ("decoded", 255 - IMAGES)], RANDOM.random((3, 6)) > 0.5), ["all"]),
    "latent_histograms": (
        ("all", LATENTS, 3),
        [
            f"before training\n{undecided(LATENTS[:1]):.0%} between ¼ and ¾",
            f"after epoch 1\n{undecided(LATENTS[:2]):.0%} between ¼ and ¾",
            f"after epoch 3\n{undecided(LATENTS):.0%} between ¼ and ¾",
        ],
    ),
    "training_curves": (
        ("all", ROWS, "nats per pixel"),
        ["last epoch: 0.2 (log scale)", "last epoch: 0.1", "last epoch: 13"],
    ),
    "latent_strips": (([("first", LATENTS), ("second", LATENTS)],), ["first", "second", "", ""]),
    "encoder_gradients": (
        ([("trained", COMPARED)],),
        ["trained", "agreement with the reference", "loss (0.500 now) after a step downhill"],
    ),
    "commit_weights": (([0, 0.1, 1], [("PSNR", [1, 2, 3], [0.1, None, 0.1])], [1.5]), ["PSNR"]),
}


@pytest.fixture(params=CASES)
def case(request, tmp_path, monkeypatch):
    """(function, arguments, titles of the panels), in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return getattr(plots, request.param), *CASES[request.param]


def titles_of(figure):
    return [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes]


def test_it_returns_the_figure_and_writes_nothing_without_a_path(case, tmp_path):
    draw, arguments, titles = case
    opened = pyplot.get_fignums()
    figure = draw(*arguments)
    assert type(figure) is Figure
    assert titles_of(figure) == titles
    assert list(tmp_path.iterdir()) == []
    assert pyplot.get_fignums() == opened  # pyplot would keep the figure


def test_it_writes_the_same_png_to_a_path_and_to_an_open_file(case, tmp_path):
    draw, arguments, _ = case
    path, file = tmp_path / "picture.png", io.BytesIO()
    figures = [draw(*arguments, path=path), draw(*arguments, path=file)]
    assert all(type(figure) is Figure for figure in figures)
    assert path.read_bytes() == file.getvalue()
    assert file.getvalue().startswith(b"\x89PNG\r\n\x1a\n")
    assert [one.name for one in tmp_path.iterdir()] == ["picture.png"]


def test_a_picture_that_cannot_be_written_whole_leaves_the_old_file(case, tmp_path, monkeypatch):
    draw, arguments, _ = case
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="No space left on device"):
        draw(*arguments, path=path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def words_in(axes):
    return [text.get_text() for text in axes.texts]


def axis_names(axes):
    return axes.get_xlabel(), axes.get_ylabel()


def test_every_reconstruction_has_its_psnr_below_it():
    decoded = RANDOM.integers(0, 256, IMAGES.shape, dtype=np.uint8)
    (axes,) = plots.reconstructions("all", [("original", IMAGES), ("decoded", decoded)]).axes
    assert words_in(axes) == [f"{value:.1f} dB" for value in psnr(IMAGES, decoded)]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "decoded"]
    assert len(axes.images) == 6


@pytest.mark.parametrize(("bits", "shape"), [(50, (5, 10)), (256, (16, 16)), (10, (2, 5)), (97, (9, 11)), (1, (1, 1))])
def test_a_code_is_shown_as_a_bitmap_that_is_nearly_square(bits, shape):
    code = RANDOM.random(bits) > 0.5
    bitmap = plots.code_bitmap(code)[..., 0]
    cells = bitmap[6::12, 6::12]
    assert cells.shape == shape
    assert (cells.flat[:bits] == np.where(code, 27, 215)).all() and (cells.flat[bits:] == 255).all()


def test_the_codes_stand_between_the_originals_and_what_is_decoded_from_them():
    codes = RANDOM.random((3, 50)) > 0.5
    (axes,) = plots.reconstructions("all", [("original", IMAGES), ("decoded", IMAGES)], codes).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "code, 50 bits\n(black: 1)", "decoded"]
    assert (axes.images[3].get_array() == plots.code_bitmap(codes[0])[..., 0]).all()
    assert words_in(axes) == ["inf dB"] * 3


def test_every_axis_says_what_it_is_its_unit_and_what_is_better():
    reconstruction, commit, validation = map(axis_names, plots.training_curves("all", ROWS, "nats per pixel").axes)
    assert reconstruction == ("epoch", "reconstruction loss,\nnats per pixel (lower is better)")
    assert commit == ("epoch", "commitment loss, unweighted,\nmean of (b - a)² (lower is better)")
    assert validation == ("epoch", "validation PSNR,\ndB (higher is better)")
    first, *others = map(axis_names, plots.latent_histograms("all", LATENTS).axes)
    assert first == ("activation a", "share of activations, %") and set(others) == {("activation a", "")}
    strips = plots.latent_strips([(str(i), LATENTS) for i in range(5)]).axes
    assert [axis_names(axes) for axes in strips] == [
        ("", "activation a"),
        *[("epoch", "")] * 3,
        ("epoch", "activation a"),
        *[("", "")] * 3,
    ]
    assert all("" not in axis_names(axes)[:1] for axes in plots.encoder_gradients([("trained", COMPARED)]).axes[1:])


def test_the_gradients_are_compared_with_the_exact_flip_differences():
    figure = plots.encoder_gradients([("untrained", COMPARED), ("trained", COMPARED)])
    assert "Reference: exact flip differences" in figure.get_suptitle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [words for words, _ in plots.WAYS.values()]
    assert figure.axes[0].get_title(loc="left") == "untrained" and figure.axes[3].get_title(loc="left") == "trained"
    # Where the signs were not counted, as in older results, the cosine stands alone.
    assert words_in(figure.axes[1])[-2:] == ["0.50", "0.50, wrong sign\nfor 25% of the bits"]


def test_every_function_that_takes_a_path_is_tested_here():
    functions = inspect.getmembers(plots, lambda value: inspect.isfunction(value) and value.__module__ == plots.__name__)
    drawing = {name for name, function in functions if "path" in inspect.signature(function).parameters}
    assert drawing - {"save"} == set(CASES)
