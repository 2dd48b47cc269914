"""The pictures that runs and benchmarks write. Each function draws one and writes it whole to a PNG file."""
import io

import matplotlib
import numpy as np

from .checkpoint import write_atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen before pyplot is imported)

INK, ACCENT, MUTED = "#1b1b1b", "#c8553d", "#8a8a8a"


def _save(figure, path):
    """Write the figure as PNG without a creation date or version, so that equal pictures are equal files."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150, facecolor="white", bbox_inches="tight",
                   metadata={"Software": None})
    plt.close(figure)
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
    figure, axes = plt.subplots(figsize=(0.75 * count + 1.6, 0.78 * len(labelled_rows) + 0.5))
    show_images(axes, [images for _, images in labelled_rows])
    axes.set_yticklabels([label for label, _ in labelled_rows], fontsize=9)
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    _save(figure, path)


def latent_histograms(path, title, latents, panels=5):
    """The values before the threshold at several epochs, one panel each. latents: History.latents."""
    chosen = sorted({round(i) for i in np.linspace(0, len(latents) - 1, min(panels, len(latents)))})
    figure, all_axes = plt.subplots(1, len(chosen), figsize=(2.3 * len(chosen), 2.3), sharey=True, squeeze=False)
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
    figure, all_axes = plt.subplots(1, len(names), figsize=(3.3 * len(names), 2.6), squeeze=False)
    epochs = [row["epoch"] for row in rows]
    labels = {"reconstruction": "reconstruction loss", "fence": "fence loss (unweighted)",
              "commit": "commit loss (unweighted)", "val_psnr": "validation PSNR, dB",
              "val_loss": "validation loss", "val_exact": "validation, exact sentences"}
    for axes, name in zip(all_axes[0], names, strict=True):
        axes.plot(epochs, [row[name] for row in rows], color=ACCENT, marker="." if len(rows) < 30 else None)
        axes.set_title(labels[name], fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    figure.tight_layout()
    _save(figure, path)
