"""The study's own plots, in the style of tinyqae/plots.py: each function returns a Figure, and also writes it if `path` is
given.
"""

from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator

from tinyqae.plots import ACCENT, INK, MUTED, plain, save, sheet, subplots

COLORS = {"vanilla": MUTED, "naive": "#c9a227", "fence": "#3b7a57", "commit": ACCENT}
OUTLINE = [withStroke(linewidth=3, foreground="white")]
"""Keeps text readable where it crosses a line."""


def loss_sheet(labelled, path=None):
    """Plot loss terms by epoch, a panel for each row: the reconstruction loss on the left axis, the bottleneck's own
    term, if there is one, on the right. labelled: list of (label, History.rows).
    """
    figure, all_axes = sheet(
        "Training losses (lower is better); dashed, right axis: the bottleneck's own loss, unweighted",
        len(labelled),
        2.7,
        1.8,
        "reconstruction loss",
    )
    for axes, (label, rows) in zip(all_axes, labelled, strict=True):
        epochs = [row["epoch"] for row in rows]
        marker = "." if len(rows) < 10 else None
        axes.plot(epochs, [row["reconstruction"] for row in rows], color=INK, marker=marker)
        added = [name for name in rows[0] if name in ("fence", "commit", "entropy")]
        for name in added:
            right = axes.twinx()
            right.plot(epochs, [row[name] for row in rows], color=ACCENT, linestyle="--", marker=marker)
            right.tick_params(labelsize=6, colors=ACCENT)
            right.spines["top"].set_visible(False)
        axes.set_title(label + "".join(f" (dashed: {name} loss)" for name in added), fontsize=8)
        axes.tick_params(labelsize=6)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines["top"].set_visible(False)
    return save(figure, path, trim=False)


def rate_and_quality(panels, path=None):
    """Plot quality against bits, a panel for each table and a line for each bottleneck, with its name at its end. panels:
    list of (title, item, label of the quality, points); item: what the bits are for, such as "image"; points: list of
    (bottleneck, bits, mean, standard deviation or None).
    """
    figure, (all_axes,) = subplots(1, len(panels), 5.2 * len(panels), 4)
    figure.suptitle(
        "Held-out quality against the size of the code in bits (error bars: standard deviation over seeds; "
        "vanilla stores 32-bit floats)",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    labels = []
    for axes, (title, item, ylabel, points) in zip(all_axes, panels, strict=True):
        ends = []
        for quant in dict.fromkeys(point[0] for point in points):
            bits, means, deviations = zip(*sorted(point[1:] for point in points if point[0] == quant), strict=True)
            axes.errorbar(
                bits,
                means,
                [deviation or 0 for deviation in deviations],
                color=COLORS[quant],
                marker="o",
                markersize=5,
                capsize=2,
                linewidth=1.6,
            )
            ends.append((bits[-1], means[-1], quant, COLORS[quant]))
        labels.append(ends)
        axes.set_xscale("log")
        every = sorted({point[1] for point in points})
        axes.set_xlim(every[0] / 1.5, every[-1] * 5)  # Room for the names.
        axes.set_xticks(every, every, rotation=45)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_xlabel(f"bits per {item}, log scale", fontsize=10)
        axes.set_ylabel(ylabel, fontsize=9)
        plain(axes)
    figure.tight_layout()
    for axes, ends in zip(all_axes, labels, strict=True):
        label_lines(axes, ends, fontsize=10)
    return save(figure, path)


def label_lines(axes, labels, fontsize, side="right"):
    """Write names at the ends of lines, in their colors, without overlaps. labels: list of (x, y, name, color). side: the
    side of (x, y) to write on. Call this when the axes have their final position and limits.
    """
    labels = sorted(labels, key=lambda label: label[1])
    axes.get_ylim()  # Matplotlib updates the limits when they are queried.
    pixels = [axes.transData.transform((x, y))[1] for x, y, *_ in labels]
    gap = 1.15 * fontsize * axes.figure.dpi / 72
    places = list(pixels)
    for _ in range(100):
        for i, (low, high) in enumerate(zip(places, places[1:], strict=False)):
            lacking = max(0, gap - (high - low)) / 2
            places[i], places[i + 1] = places[i] - lacking, places[i + 1] + lacking
    right = side == "right"
    for (x, y, name, color), pixel, place in zip(labels, pixels, places, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(7 if right else -7, (place - pixel) * 72 / axes.figure.dpi),
            va="center",
            ha="left" if right else "right",
            textcoords="offset points",
            fontsize=fontsize,
            color=color,
            path_effects=OUTLINE,
        )
