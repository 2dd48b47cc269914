"""The study's own pictures: each function returns its picture as a Figure, and writes it where it is told to."""

import pytest
from matplotlib.figure import Figure

from benchmarks.report import TABLES, page_pictures, plots
from benchmarks.report.rows import QUANTS

ROWS = [{"epoch": epoch, "lr": 0.1, "reconstruction": 1 / epoch, "commit": 0.1, "seconds": 1.0} for epoch in (1, 2, 3)]
POINTS = [("naive", 8, 10.0, None), ("naive", 16, 11.0, None), ("commit", 8, 11.0, 0.1), ("commit", 16, 11.01, None)]


@pytest.mark.parametrize(
    "draw, content, titles",
    [
        (plots.loss_sheet, [("first", ROWS)], ["first (dashed: commit loss)", "", "", "", ""]),
        (plots.rate_and_quality, [("MNIST", "image", "PSNR, dB", POINTS)], ["MNIST"]),
    ],
)
def test_it_returns_the_figure_and_writes_it_where_it_is_told_to(draw, content, titles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figure = draw(content)
    assert type(figure) is Figure and [axes.get_title() or axes.get_title(loc="left") for axes in figure.axes] == titles
    assert list(tmp_path.iterdir()) == []
    draw(content, path=tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_each_line_has_its_name_at_its_end_and_names_do_not_overlap():
    (axes,) = plots.rate_and_quality([("MNIST", "image", "PSNR, dB", POINTS)]).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("bits per image, log scale", "PSNR, dB") and axes.get_legend() is None
    naive, commit = axes.texts
    assert [(text.get_text(), text.xy) for text in axes.texts] == [("naive", (16, 11.0)), ("commit", (16, 11.01))]
    points = axes.figure.dpi / 72
    low, high = (axes.transData.transform(text.xy)[1] + text.get_position()[1] * points for text in (naive, commit))
    assert high - low > naive.get_fontsize() * points


def test_a_term_of_the_bottleneck_has_an_axis_of_its_own():
    left, *_, right = plots.loss_sheet([("first", ROWS)]).axes
    assert left.get_ylabel() == "reconstruction loss" and list(left.lines[0].get_ydata()) == [1, 1 / 2, 1 / 3]
    assert list(right.lines[0].get_ydata()) == [0.1, 0.1, 0.1]


def test_the_panels_hold_the_plain_rows_of_the_report_s_bottlenecks():
    table = TABLES[1]
    rows = [
        {"label": label, "quant": label.split()[0], "size": 50, "bits": 50, "held_out": {"psnr": (17.0, 0.1)}}
        for label in (*(f"{quant} 50" for quant in QUANTS), "entropy 50", "commit 50, weight 3")
    ]
    published = {1: {"data": "MNIST; 60000 training images", "tables": {"default": rows}}}
    ((title, item, quality, points),) = page_pictures.rate_panels({1: table}, published, "default")
    assert (title, item, quality) == ("MLP on MNIST", "image", "held-out PSNR, dB (higher is better)")
    assert points == [(quant, 50, 17.0, 0.1) for quant in QUANTS]
