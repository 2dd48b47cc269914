"""The plot of the results: held-out PSNR against bits per pixel, ours beside the codecs'."""

from benchmarks.report.plots import OUTLINE, label_lines
from benchmarks.report.rows import TRANSFORM
from tinyqae.plots import ACCENT, plain, save, subplots

from .curves import QUALITY, WAYS, commits, frontier, is_image_set, measured, quality_at

CODEC_COLORS = {"JPEG": "#4c72b0", "JPEG 2000": "#8172b3", "WebP": "#2a9d8f", "AVIF": "#937860"}
OUR_RATE, POINTS, THEIR_RATE = WAYS["sheet"]
"""All images in one file: of the ways of counting, the one that suits the codecs best."""
BEYOND = 4.5
"""Factor by which the codecs' lines extend beyond our largest rate."""
ROOM = 12
"""Factor by which the axis extends beyond our smallest rate, for the names of our lines."""


def draw(path, results):
    """Plot a panel for each set of images: the codecs as thin lines, commit as points, connected by architecture."""
    parts = [part for part in results["sets"].values() if is_image_set(part)]
    figure, (all_axes,) = subplots(1, len(parts), 6.2 * len(parts), 4.8)
    figure.suptitle(
        "Commit against standard codecs, all held-out images in one file (decoder not counted)",
        fontsize=12,
        x=0.01,
        ha="left",
    )
    for part, axes in zip(parts, all_axes, strict=True):
        rates = [rate for points in commit_lines(part).values() for rate, *_ in points]
        axes.set_xlim(min(rates) / ROOM, max(rates) * BEYOND * 3)  # Room for the codecs' names.
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        height, width, channels = part["shape"]
        color = "gray" if channels == 1 else "color"
        axes.set_title(f"{part['name']}: {part['held_out']:,} images, {height}x{width}, {color}", fontsize=11, loc="left")
        axes.set_xlabel("bits per pixel (lower is better), log scale", fontsize=10)
        axes.set_ylabel("held-out PSNR, dB (higher is better)", fontsize=10)
        plain(axes)
    figure.tight_layout()
    for part, axes in zip(parts, all_axes, strict=True):
        codecs = _draw_codecs(axes, part)
        ours = _draw_ours(axes, part)
        label_lines(axes, codecs, fontsize=9)
        label_lines(axes, ours, fontsize=9, side="left")
    return save(figure, path, trim=False)


def commit_lines(part):
    """{name: [(bits per pixel, PSNR, bits per image)] by rate}, an entry for each architecture."""
    models, lines = commits(part), {}
    sizes = [model["label"].removeprefix("commit ").split(", ")[0] for model in models]
    deep = any("," in size for size in sizes)
    for model, size in zip(models, sizes, strict=True):
        hidden = size.rpartition(",")[0]
        name = "commit" + (f", hidden layer of {hidden}" if hidden else ", no hidden layer" * deep)
        name += ", transform code" * model["label"].endswith(TRANSFORM)
        lines.setdefault(name, []).append((model["rates"][OUR_RATE], model[QUALITY], model["bits"]))
    return {name: sorted(points) for name, points in lines.items()}


def _draw_codecs(axes, part):
    """Draw the codecs' lines; return their labels for label_lines, at the right edge or where the line ends."""
    labels, left = [], axes.get_xlim()[0]
    right = BEYOND * max(rate for points in commit_lines(part).values() for rate, *_ in points)
    for name, codec in measured(part).items():
        curve = frontier(codec[POINTS], THEIR_RATE)
        if not curve or curve[0][0] > right:
            continue
        edges = {rate: quality_at(curve, rate) for rate in (left, right) if curve[0][0] < rate < curve[-1][0]}
        inside = sorted([*edges.items(), *(point for point in curve if left < point[0] < right)])
        axes.plot(*zip(*inside, strict=True), color=CODEC_COLORS[name], linewidth=1.2)
        labels.append((*inside[-1], name, CODEC_COLORS[name]))
    return labels


def _draw_ours(axes, part):
    """Draw our lines, with the bits per image below or above each point; return their labels, at the left ends."""
    labels = []
    for i, (name, points) in enumerate(commit_lines(part).items()):
        rates, qualities, bits = zip(*points, strict=True)
        axes.plot(rates, qualities, color=ACCENT, marker="o", markersize=6, linewidth=2)
        for k, (rate, quality, count) in enumerate(points):
            axes.annotate(
                f"{count} bits" if k == 0 else count,
                (rate, quality),
                xytext=(0, 7 if i else -15),
                ha="center",
                textcoords="offset points",
                fontsize=8,
                color=ACCENT,
                path_effects=OUTLINE,
            )
        labels.append((rates[0], qualities[0], name, ACCENT))
    return labels
