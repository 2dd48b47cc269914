"""The pictures that runs, benchmarks and the reproduction show. Each function draws one and writes it to `path`, a PNG file
that is written whole or not at all, or an open binary file.
"""
import io

import numpy as np
from matplotlib.figure import Figure

from .checkpoint import write_atomically

INK, ACCENT, MUTED = "#1b1b1b", "#c8553d", "#8a8a8a"
PER_LINE = 4
COLORS = {"vanilla": "#8a8a8a", "naive": "#c9a227", "fence": "#3b7a57", "commit": ACCENT, "clipped": "#4c72b0",
          "stochastic": "#8172b3", "annealed": "#2a9d8f", "entropy": "#937860"}
WAY_COLORS = {"threshold": INK, "straight-through": ACCENT, "flips": "#4c72b0", "no threshold": "#b5b5b5"}
LABELS = {"reconstruction": "reconstruction loss", "fence": "fence loss (unweighted)", "commit": "commit loss (unweighted)",
          "entropy": "entropy loss (unweighted)", "val_psnr": "validation PSNR, dB", "val_loss": "validation loss",
          "val_exact": "validation, exact sentences"}


def subplots(lines, columns, width, height, sharey=False):
    """(figure of so many inches, its axes (lines, columns))."""
    # Not by pyplot, which takes as long to load as all else here, and keeps figures for windows that nobody opens.
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(lines, columns, sharey=sharey, squeeze=False)


def _save(figure, path, trim=True):
    """Write the figure as PNG without a creation date or version, so that equal pictures are equal files. Trimming its
    margins means to draw it twice.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150, facecolor="white", bbox_inches="tight" if trim else None,
                   metadata={"Software": None})
    if hasattr(path, "write"):
        path.write(picture.getvalue())
    else:
        write_atomically(path, lambda file: file.write(picture.getvalue()))


def show_images(axes, rows, gap=2):
    """Draw a grid on `axes`: `rows` is a list of image stacks (K, H, W, C), bytes, one stack a row of the grid."""
    count, height, width, channels = rows[0].shape
    sheet = np.full((len(rows) * (height + gap) - gap, count * (width + gap) - gap, channels), 255, np.uint8)
    for i, row in enumerate(rows):
        for k, picture in enumerate(row):
            top, left = i * (height + gap), k * (width + gap)
            sheet[top:top + height, left:left + width] = picture
    axes.imshow(sheet.squeeze(), cmap="gray" if channels == 1 else None, vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([i * (height + gap) + height / 2 for i in range(len(rows))])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def reconstructions(path, title, labelled_rows):
    """Originals over reconstructions. labelled_rows: list of (label, images (K, H, W, C) bytes)."""
    count = len(labelled_rows[0][1])
    figure, ((axes,),) = subplots(1, 1, 0.75 * count + 1.6, 0.78 * len(labelled_rows) + 0.5)
    show_images(axes, [images for _, images in labelled_rows])
    axes.set_yticklabels([label for label, _ in labelled_rows], fontsize=9)
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    _save(figure, path)


def latent_histograms(path, title, latents, panels=5):
    """The values before the threshold at several epochs, one panel each. latents: History.latents."""
    chosen = sorted({round(i) for i in np.linspace(0, len(latents) - 1, min(panels, len(latents)))})
    figure, all_axes = subplots(1, len(chosen), 2.3 * len(chosen), 2.3, sharey=True)
    shares = [np.array(latents[i][1]) / sum(latents[i][1]) for i in chosen]
    for axes, i, share in zip(all_axes[0], chosen, shares, strict=True):
        edges = np.linspace(0, 1, len(share) + 1)
        axes.stairs(share, edges, fill=True, color=ACCENT)
        axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        epoch = latents[i][0]
        axes.set_title("before training" if epoch == 0 else f"after epoch {epoch}", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0][0].set_ylabel("share of all values")
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.supxlabel("value before the threshold; dotted: the threshold", fontsize=8)
    figure.tight_layout()
    _save(figure, path)


def training_curves(path, title, rows):
    """Every loss term and validation figure by epoch, one panel each. rows: History.rows."""
    names = [name for name in rows[0] if name not in ("epoch", "lr", "seconds")]
    figure, all_axes = subplots(1, len(names), 3.3 * len(names), 2.6)
    epochs = [row["epoch"] for row in rows]
    for axes, name in zip(all_axes[0], names, strict=True):
        axes.plot(epochs, [row[name] for row in rows], color=ACCENT, marker="." if len(rows) < 30 else None)
        axes.set_title(LABELS[name], fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.tight_layout()
    _save(figure, path)


def _sheet(count, width, height):
    """(figure, axes of `count` small panels)."""
    lines = -(-count // PER_LINE)
    figure, all_axes = subplots(lines, PER_LINE, width * PER_LINE, height * lines)
    figure.subplots_adjust(left=0.04, right=0.96, bottom=0.3 / lines, top=1 - 0.2 / lines, hspace=0.6, wspace=0.35)
    for axes in all_axes.flat[count:]:
        axes.axis("off")
    return figure, all_axes.flat[:count]


def latent_strips(path, labelled):
    """How the values before the threshold spread out over training, a panel for each row: epochs from left to right,
    values from 0 to 1 upwards, the darker the more of them. labelled: list of (label, History.latents).
    """
    figure, all_axes = _sheet(len(labelled), 2.5, 1.5)
    for axes, (label, latents) in zip(all_axes, labelled, strict=True):
        counts = np.array([counts for _, counts in latents], float)
        # The root, since a few bins hold most values once the bits are decided.
        axes.imshow(np.sqrt(counts / counts.sum(axis=1, keepdims=True)).T, aspect="auto", origin="lower", cmap="magma_r",
                    vmin=0, vmax=1, extent=(-0.5, len(latents) - 0.5, 0, 1), interpolation="nearest")
        axes.axhline(0.5, color=INK, linewidth=0.6, linestyle=":")
        axes.set_title(label, fontsize=8)
        axes.set_yticks([0, 0.5, 1], ["0", "½", "1"], fontsize=7)
        axes.tick_params(axis="x", labelsize=7)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path, trim=False)


def loss_sheet(path, labelled):
    """Every loss term by epoch, a panel for each row: the reconstruction loss on the left axis, the bottleneck's own term,
    if there is one, on the right. labelled: list of (label, History.rows).
    """
    figure, all_axes = _sheet(len(labelled), 2.7, 1.6)
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
        axes.set_title(label + "".join(f" (dashed: {name})" for name in added), fontsize=8)
        axes.tick_params(labelsize=6)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines["top"].set_visible(False)
    _save(figure, path, trim=False)


def rate_and_quality(path, panels):
    """Quality against bits, a panel for each table, a mark for each row and a line for each bottleneck. panels: list of
    (title, label of the quality, points), points: list of (bottleneck, bits, mean, standard deviation or None).
    """
    figure, all_axes = subplots(1, len(panels), 4.8 * len(panels), 3.4)
    for axes, (title, ylabel, points) in zip(all_axes[0], panels, strict=True):
        for quant in dict.fromkeys(point[0] for point in points):
            own = sorted(point[1:] for point in points if point[0] == quant)
            bits, means, deviations = zip(*own, strict=True)
            axes.errorbar(bits, means, [deviation or 0 for deviation in deviations], color=COLORS[quant], marker="o",
                          markersize=4, capsize=2, linewidth=1, label=quant)
        axes.set_xscale("log", base=2)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("bits an item (vanilla: 32 a number)", fontsize=8)
        axes.set_ylabel(ylabel, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.tight_layout()
    _save(figure, path)


def encoder_gradients(path, labelled):
    """What the encoder's gradient is with and without the straight-through estimator: norms by layer, cosines with the
    others, and what a step along it does to the loss. A line of three panels each. labelled: list of (label,
    gradients.EncoderGradients).
    """
    figure, lines = subplots(len(labelled), 3, 11, 2.9 * len(labelled))
    for (norms, cosines, steps), (label, found) in zip(lines, labelled, strict=True):
        _norms_by_layer(norms, found)
        norms.set_title(f"{label}: norm of the encoder's gradient", fontsize=8)
        pairs = [("straight-through", "flips"), ("no threshold", "flips"), ("straight-through", "no threshold")]
        values = [found.cosines[a][b] or 0 for a, b in pairs]
        bars = cosines.barh([f"{a}\nand {b}" for a, b in pairs][::-1], values[::-1], color=MUTED, height=0.5)
        cosines.bar_label(bars, [f"{value:.2f}" for value in values[::-1]], fontsize=7, padding=2)
        cosines.set_xlim(min(0, *values), 1.15)
        cosines.set_title("cosine between two of them", fontsize=8)
        for way, changes in found.changes.items():
            steps.plot(found.steps, changes, color=WAY_COLORS[way], linewidth=1.2, label=way,
                       linestyle="--" if way == "flips" else "-")
        steps.axhline(0, color=WAY_COLORS["threshold"], linewidth=0.8)
        # Far steps ruin the model, which would flatten all else.
        deepest = min(min(changes) for changes in found.changes.values()) if found.changes else -1
        steps.set_ylim(1.2 * deepest, -0.8 * deepest)
        steps.set_xscale("log")
        steps.set_title("change of the loss after a step along it", fontsize=8)
        steps.set_xlabel("step, as a share of the weights' norm", fontsize=7)
        steps.legend(fontsize=6, frameon=False)
    for axes in lines.flat:
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    _save(figure, path)


def _norms_by_layer(axes, found):
    width = 0.8 / len(found.norms)
    positions = np.arange(len(found.layers))
    for i, (way, norms) in enumerate(found.norms.items()):
        bars = axes.bar(positions + (i - (len(found.norms) - 1) / 2) * width, norms, width, color=WAY_COLORS[way], label=way)
        if not any(norms):
            axes.bar_label(bars, ["0"] * len(norms), fontsize=7, color=WAY_COLORS[way])
    axes.set_xticks(positions, found.layers)
    axes.set_ylim(0, 1.35 * max(map(max, found.norms.values())))
    axes.legend(fontsize=6, frameon=False, ncols=2, loc="upper left")


def commit_weights(path, weights, panels):
    """Figures against the weight of the commit loss, on a logarithmic axis with 0 at its left end.

    weights: ascending, 0 or more. panels: list of (title, means, standard deviations or None for one seed), one of each
    for a weight.
    """
    smallest = min(weight for weight in weights if weight > 0)
    positions = [np.log10(weight) if weight else np.log10(smallest) - 1 for weight in weights]
    figure, all_axes = subplots(1, len(panels), 2.9 * len(panels), 2.6)
    for axes, (title, means, deviations) in zip(all_axes[0], panels, strict=True):
        axes.errorbar(positions, means, [deviation or 0 for deviation in deviations], color=ACCENT, marker="o", markersize=4,
                      capsize=2, linewidth=1)
        if not any(means):
            axes.set_ylim(-0.05, 1)
        axes.set_xticks(positions, [f"{weight:g}" for weight in weights], fontsize=7, rotation=45)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("weight of the commit loss", fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.tight_layout()
    _save(figure, path)
