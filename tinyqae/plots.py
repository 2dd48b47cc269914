"""The plots that runs, examples, benchmarks and notebooks show. Each function returns one as a matplotlib Figure, which a
notebook displays after `%matplotlib inline`. Given a `path`, it also writes the plot as PNG: to a file, atomically, or to an
open binary file.
"""

import math

import numpy as np
from matplotlib.figure import Figure

from .checkpoint import write_atomically
from .history import undecided
from .metrics.image import psnr

__all__ = [
    "code_bitmap",
    "commit_weights",
    "encoder_gradients",
    "latent_histograms",
    "latent_strips",
    "plain",
    "reconstructions",
    "save",
    "sheet",
    "subplots",
    "training_curves",
]

INK, ACCENT, MUTED = "#1b1b1b", "#c8553d", "#8a8a8a"
PER_LINE = 4
WAYS = {
    "threshold": ("true derivative: 0", INK),
    "straight-through": ("straight-through estimator (STE)", ACCENT),
    "flips": ("reference: exact flip differences", "#4c72b0"),
    "no threshold": ("no threshold (decoder sees a)", "#b5b5b5"),
}
"""Label and color of each of gradients.WAYS."""
LABELS = {
    "reconstruction": ("reconstruction loss", None),
    "fence": ("fence loss, unweighted", "mean of min(a, 1 - a)"),
    "commit": ("commitment loss, unweighted", "mean of (b - a)²"),
    "entropy": ("entropy loss, unweighted", "nats"),
    "val_psnr": ("validation PSNR", "dB"),
    "val_loss": ("validation loss", "nats per character"),
    "val_exact": ("exact validation sentences", "share"),
}
"""Name and unit of each column of History.rows."""
HIGHER_IS_BETTER = ("val_psnr", "val_exact")


def subplots(lines, columns, width, height, sharey=False):
    """(figure of width x height inches, its axes (lines, columns))."""
    # Not with pyplot, which takes as long to load as everything else here, and keeps figures for windows that never open.
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(lines, columns, sharey=sharey, squeeze=False)


def save(figure, path, title=None, trim=True):
    """Return the figure; also write it unless path is None, as PNG without a creation date or version, so that equal
    plots are equal files. title: put above all panels first. trim: cut its margins, which draws it twice.
    """

    def draw(file):
        figure.savefig(
            file,
            format="png",
            dpi=150,
            facecolor="white",
            bbox_inches="tight" if trim else None,
            metadata={"Software": None},
        )

    if title is not None:
        figure.suptitle(title, fontsize=10, x=0.01, ha="left", color=INK, parse_math=False)
        figure.tight_layout()
    if hasattr(path, "write"):
        draw(path)
    elif path is not None:
        write_atomically(path, draw)
    return figure


def plain(axes):
    """Remove the frame and add a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(which="both", labelsize=8)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def reconstructions(title, labelled_rows, codes=None, path=None):
    """Originals, the codes if given, and reconstructions, with the PSNR of each below it.

    Args:
        labelled_rows: list of (label, images (K, H, W, C) bytes), the originals first.
        codes: bits (K, bits) or None.
    """
    (label, originals), *decoded = labelled_rows
    rows = [(label, originals, None)] + [(label, images, psnr(originals, images)) for label, images in decoded]
    if codes is not None:
        rows.insert(1, (f"code, {codes.shape[1]} bits\n(black: 1)", np.stack([code_bitmap(code) for code in codes]), None))
    shapes = [np.array(images.shape[1:3]) / max(images.shape[1:3]) for _, images, _ in rows]
    heights = [tall + (0.08 if figures is None else 0.28) for (tall, _), (*_, figures) in zip(shapes, rows, strict=True)]
    figure, ((axes,),) = subplots(1, 1, 0.8 * len(originals) + 1.6, 0.8 * sum(heights) + 0.6)
    tops = np.cumsum([0, *heights])
    for (_, images, figures), (tall, wide), top in zip(rows, shapes, tops, strict=False):
        for k, image in enumerate(images):
            left = 1.08 * k + (1 - wide) / 2
            axes.imshow(
                image.squeeze(),
                cmap="gray" if image.shape[-1] == 1 else None,
                vmin=0,
                vmax=255,
                interpolation="nearest",
                extent=(left, left + wide, top + tall, top),
            )
            if figures is not None:
                axes.text(1.08 * k + 0.5, top + tall + 0.03, f"{figures[k]:.1f} dB", ha="center", va="top", fontsize=8)
    axes.set(xlim=(0, 1.08 * len(originals) - 0.08), ylim=(tops[-1], 0), xticks=[])
    middles = [top + tall / 2 for top, (tall, _) in zip(tops, shapes, strict=False)]
    axes.set_yticks(middles, [label for label, *_ in rows], fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10, loc="left", color=INK, parse_math=False)
    axes.set_xlabel("below each image: its PSNR against the original in dB (higher is better)", fontsize=9, loc="left")
    return save(figure, path)


def code_bitmap(code):
    """Bits (K,) as an image of bytes (height, width, 1), as square as K allows, with gaps: 1 black, 0 light gray."""
    height = max(d for d in range(1, math.isqrt(len(code)) + 1) if len(code) % d == 0)
    if 4 * height * height < len(code):  # Long and thin, as for a prime: leave some cells empty.
        height = math.isqrt(len(code))
    cells = np.full((height, -(-len(code) // height)), 255, np.uint8)
    cells.flat[: len(code)] = np.where(code, 27, 215)
    image = np.kron(cells, np.ones((12, 12), np.uint8))
    image[::12], image[:, ::12] = 255, 255
    return image[..., None]


def latent_histograms(title, latents, panels=5, path=None):
    """The activations at several epochs, one panel each. latents: History.latents."""
    # Most happens in the first epochs.
    chosen = sorted({0, *(round(i) for i in np.geomspace(1, max(1, len(latents) - 1), panels - 1)), len(latents) - 1})
    figure, all_axes = subplots(1, len(chosen), 2.4 * len(chosen) + 0.4, 2.9, sharey=True)
    for axes, (epoch, counts) in zip(all_axes[0], (latents[i] for i in chosen), strict=True):
        axes.stairs(100 * np.array(counts) / sum(counts), np.linspace(0, 1, len(counts) + 1), fill=True, color=ACCENT)
        axes.axvline(0.5, color=INK, linewidth=1, linestyle="--")
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        axes.set_title(
            f"{f'after epoch {epoch}' if epoch else 'before training'}\n{undecided([(epoch, counts)]):.0%} between ¼ and ¾",
            fontsize=9,
        )
        axes.set_xlabel("activation a", fontsize=9)
        plain(axes)
    first = all_axes[0][0]
    first.set_ylabel("share of activations, %", fontsize=9)
    first.margins(y=0.15)
    first.annotate(
        "threshold",
        (0.5, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(3, 0),
        textcoords="offset points",
        va="top",
        fontsize=8,
    )
    return save(figure, path, f"{title}\nActivations before the threshold (½, dashed), over training")


def training_curves(title, rows, unit, path=None):
    """Every loss term and validation metric by epoch, a panel each. rows: History.rows; unit: of the reconstruction loss."""
    names = [name for name in rows[0] if name not in ("epoch", "lr", "seconds")]
    figure, all_axes = subplots(1, len(names), 3.6 * len(names), 3.3)
    epochs = [row["epoch"] for row in rows]
    for axes, name in zip(all_axes[0], names, strict=True):
        values, (label, own_unit) = [row[name] for row in rows], LABELS[name]
        axes.plot(epochs, values, color=ACCENT, marker="." if len(rows) < 30 else None)
        better = "higher" if name in HIGHER_IS_BETTER else "lower"
        logarithmic = better == "lower" and max(values) > 3 * min(values) > 0
        axes.set_title(f"last epoch: {values[-1]:.4g}" + " (log scale)" * logarithmic, fontsize=9)
        if logarithmic:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:.2g}")
        axes.set_ylabel(f"{label},\n{own_unit or unit} ({better} is better)", fontsize=9)
        axes.set_xlabel("epoch", fontsize=9)
        axes.xaxis.get_major_locator().set_params(integer=True)
        plain(axes)
    return save(figure, path, f"{title}\nTraining losses and validation after each epoch")


def sheet(title, count, width, height, ylabel):
    """(figure, axes of `count` small panels by epoch, the outer ones with axis labels)."""
    lines = -(-count // PER_LINE)
    total = height * lines + 0.4
    figure, all_axes = subplots(lines, PER_LINE, width * PER_LINE, total)
    figure.subplots_adjust(left=0.06, right=0.96, bottom=0.42 / total, top=1 - 0.6 / total, hspace=0.6, wspace=0.35)
    figure.suptitle(title, fontsize=10, x=0.01, y=1 - 0.08 / total, ha="left", color=INK)
    for axes in all_axes.flat[count:]:
        axes.axis("off")
    for axes in all_axes[:, 0]:
        axes.set_ylabel(ylabel, fontsize=8)
    for axes in all_axes.flat[max(0, count - PER_LINE) : count]:
        axes.set_xlabel("epoch", fontsize=8)
    return figure, all_axes.flat[:count]


def latent_strips(labelled, path=None):
    """How the activations spread out over training, a panel for each of labelled: list of (label, History.latents)."""
    figure, all_axes = sheet(
        "Activations over training: the darker, the more have this value; dashed: the threshold",
        len(labelled),
        2.6,
        1.8,
        "activation a",
    )
    for axes, (label, latents) in zip(all_axes, labelled, strict=True):
        counts = np.array([counts for _, counts in latents], float)
        # The square root, since a few bins hold most values once the bits are decided.
        axes.imshow(
            np.sqrt(counts / counts.sum(axis=1, keepdims=True)).T,
            aspect="auto",
            origin="lower",
            cmap="magma_r",
            vmin=0,
            vmax=0.7,
            extent=(-0.5, len(latents) - 0.5, 0, 1),
            interpolation="nearest",
        )
        axes.axhline(0.5, color=INK, linewidth=0.6, linestyle="--")
        axes.set_title(label, fontsize=9)
        axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
        axes.tick_params(labelsize=7)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return save(figure, path, trim=False)


def encoder_gradients(labelled, path=None):
    """The encoder's gradients at several points in training, one row each: the size of each gradient, its agreement with the
    reference, and the effect of a step along it. labelled: list of (label, gradients.EncoderGradients).
    """
    figure, lines = subplots(len(labelled), 3, 13, 3 * len(labelled) + 0.7)
    for (norms, agreement, steps), (label, found) in zip(lines, labelled, strict=True):
        _norms_by_layer(norms, found)
        _agreement(agreement, found)
        for way, changes in found.changes.items():
            steps.plot(
                found.steps,
                changes,
                color=WAYS[way][1],
                linewidth=2.4 if way == "flips" else 1.4,
                linestyle=":" if way == "flips" else "-",
            )
        steps.axhline(0, color=INK, linewidth=1)
        deepest = min(min(changes) for changes in found.changes.values()) if found.changes else -1
        steps.set_ylim(1.2 * deepest, -0.8 * deepest)  # Large steps ruin the model, which would flatten the rest.
        steps.set_xscale("log")
        steps.set_xlim(1e-5, 1)
        steps.set_xlabel("length of the step / norm of the weights", fontsize=9)
        steps.set_ylabel("change of the reconstruction loss\n(lower is better)", fontsize=9)
        for axes in (norms, agreement, steps):
            plain(axes)
        norms.set_title(label, fontsize=10, loc="left", fontweight="bold")
        agreement.set_title("agreement with the reference", fontsize=10, loc="left")
        steps.set_title(f"loss ({found.loss:.3f} now) after a step downhill", fontsize=10, loc="left")
    figure.suptitle(
        "What the encoder learns from: gradients of the reconstruction loss with respect to its weights\n"
        "Reference: exact flip differences, what flipping each bit alone does to the loss",
        fontsize=11,
        x=0.01,
        ha="left",
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.25 / figure.get_figheight()))
    figure.legend(
        *lines[0][0].get_legend_handles_labels(),
        fontsize=10,
        frameon=False,
        ncols=4,
        loc="upper left",
        bbox_to_anchor=(0, 1 - 0.42 / figure.get_figheight()),
    )
    return save(figure, path)


def _norms_by_layer(axes, found):
    width = 0.8 / len(found.norms)
    positions = np.arange(len(found.layers))
    for i, (way, norms) in enumerate(found.norms.items()):
        label, color = WAYS[way]
        bars = axes.bar(positions + (i - (len(found.norms) - 1) / 2) * width, norms, width, color=color, label=label)
        if not any(norms):
            axes.bar_label(bars, ["0"] * len(norms), fontsize=8, color=color)
    axes.set_xticks(positions, found.layers)
    axes.set_ylabel("norm of the gradient, by layer", fontsize=9)


def _agreement(axes, found):
    """Cosines with the reference; wrong signs bit by bit, where they were counted."""
    ways = ("no threshold", "straight-through")
    values = [found.cosines[way]["flips"] or 0 for way in ways]
    bars = axes.barh(["no\nthreshold", "STE"], values, color=[WAYS[way][1] for way in ways], height=0.5)
    axes.bar_label(
        bars,
        [
            f"{value:.2f}"
            + (f", wrong sign\nfor {found.wrong_signs[way]:.0%} of the bits" if way in found.wrong_signs else "")
            for way, value in zip(ways, values, strict=True)
        ],
        fontsize=9,
        padding=3,
    )
    axes.set_xlim(min(0, *values), 1.6)
    axes.set_xticks([0, 0.5, 1])
    axes.set_xlabel("cosine between the gradients (1: same direction)", fontsize=9)


def commit_weights(weights, panels, naive=None, path=None):
    """Metrics against the weight of the commitment loss, on a logarithmic axis with 0 at its left end.

    Args:
        weights: ascending.
        panels: list of (title, means, standard deviations or None), with one value per weight.
        naive: its value in each panel.
    """
    smallest = min(weight for weight in weights if weight > 0)
    positions = [np.log10(weight) if weight else np.log10(smallest) - 1 for weight in weights]
    figure, all_axes = subplots(1, len(panels), 3.3 * len(panels), 3.1)
    for i, (axes, (title, means, deviations)) in enumerate(zip(all_axes[0], panels, strict=True)):
        axes.errorbar(positions, means, [d or 0 for d in deviations], color=ACCENT, marker="o", markersize=4, capsize=2)
        if naive is not None:
            axes.axhline(naive[i], color=MUTED, linestyle="--", linewidth=1)
            axes.annotate(
                "naive",
                (1, naive[i]),
                xycoords=("axes fraction", "data"),
                xytext=(0, 2),
                ha="right",
                textcoords="offset points",
                fontsize=8,
                color=MUTED,
            )
        if not any(means):
            axes.set_ylim(-0.05, 1)
        axes.set_xticks(positions, [f"{weight:g}" for weight in weights], rotation=45)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("weight of the commitment loss", fontsize=9)
        plain(axes)
    return save(figure, path, "What the weight of the commitment loss does (0: straight-through estimator alone)")
