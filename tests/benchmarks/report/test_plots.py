"""The study's own pictures: each function returns its picture as a Figure, and writes it where it is told to."""
import pytest
from matplotlib.figure import Figure

from benchmarks.report import plots

ROWS = [{"epoch": epoch, "lr": 0.1, "reconstruction": 1 / epoch, "commit": 0.1, "seconds": 1.0} for epoch in (1, 2, 3)]


@pytest.mark.parametrize("draw, content, titles", [
    (plots.loss_sheet, [("first", ROWS)], ["first (dashed: commit)", "", "", "", ""]),
    (plots.rate_and_quality, [("MNIST", "PSNR", [("naive", 8, 10.0, None), ("commit", 8, 11.0, 0.1)])], ["MNIST"]),
])
def test_it_returns_the_figure_and_writes_it_where_it_is_told_to(draw, content, titles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figure = draw(content)
    assert type(figure) is Figure and [axes.get_title() for axes in figure.axes] == titles
    assert list(tmp_path.iterdir()) == []
    draw(content, path=tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
