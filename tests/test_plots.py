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

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
LATENTS = [(epoch, RANDOM.integers(1, 50, 40).tolist()) for epoch in range(4)]
ROWS = [{"epoch": epoch, "lr": 0.1, "reconstruction": 1 / epoch, "commit": 0.1, "seconds": 1.0, "val_psnr": 10.0 + epoch}
        for epoch in (1, 2, 3)]
COMPARED = SimpleNamespace(layers=["Dense 4 x 2", "BatchNorm"], steps=[0.01, 0.1],
                           norms={way: [i, 2 * i] for i, way in enumerate(WAYS)},
                           cosines={a: dict.fromkeys(WAYS, 0.5) for a in WAYS},
                           changes={way: [-0.1, 0.2] for way in WAYS[1:]})

# function: (its arguments, titles of its panels)
CASES = {
    "reconstructions": (("all", [("original", IMAGES), ("from the code", IMAGES)]), ["all"]),
    "latent_histograms": (("all", LATENTS, 3), ["before training", "after epoch 2", "after epoch 3"]),
    "training_curves": (("all", ROWS), ["reconstruction loss", "commit loss (unweighted)", "validation PSNR, dB"]),
    "latent_strips": (([("first", LATENTS), ("second", LATENTS)],), ["first", "second", "", ""]),
    "encoder_gradients": (([("trained", COMPARED)],),
                          ["trained: norm of the encoder's gradient", "cosine between two of them",
                           "change of the loss after a step along it"]),
    "commit_weights": (([0, 0.1, 1], [("PSNR", [1, 2, 3], [0.1, None, 0.1])]), ["PSNR"]),
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


def test_every_function_that_takes_a_path_is_tested_here():
    functions = inspect.getmembers(plots, lambda value: inspect.isfunction(value) and value.__module__ == plots.__name__)
    drawing = {name for name, function in functions if "path" in inspect.signature(function).parameters}
    assert drawing - {"save"} == set(CASES)
