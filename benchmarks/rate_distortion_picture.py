"""The picture that rate_distortion.py draws of its figures."""
import io

from matplotlib import colormaps
from rate_distortion_curves import QUALITY, compare, frontier, is_image_set, measured, pixels, rate_words

from tinyqae.checkpoint import write_atomically
from tinyqae.plots import INK, subplots

MARKED = {"vanilla": ("#8a8a8a", "s"), "naive": ("#c9a227", "v"), "fence": ("#3b7a57", "^"), "commit": ("#c8553d", "o"),
          "clipped": ("#b07aa1", "D"), "stochastic": ("#b07aa1", "P"), "annealed": ("#b07aa1", "X"),
          "entropy": ("#b07aa1", "*")}
CODEC_COLORS = {"JPEG": "#4c72b0", "JPEG 2000": "#8172b3", "WebP": "#2a9d8f", "AVIF": "#937860", "PNG": "#1b1b1b"}
WAY_BARS = {"payload": ("payload", "#c8553d"), "file": ("a file each", "#e3a08f"), "sheet": ("all in one file", "#8a8a8a")}


def draw(path, results):
    """A column for each set of images: against bits per pixel PSNR, SSIM, and by how much we are ahead; and at the bottom
    what a picture costs with its share of the decoder.
    """
    parts = [part for part in results["sets"].values() if is_image_set(part)]
    figure, all_axes = subplots(4, len(parts), 7 * len(parts), 18)
    for part, column in zip(parts, all_axes.T, strict=True):
        for axes, quality, name in zip(column, (QUALITY, "ssim"), ("PSNR, dB", "SSIM"), strict=False):
            _draw_codecs(axes, part, quality)
            _draw_models(axes, part, quality)
            axes.set_ylabel(name)
        column[1].set_xlabel("bits per pixel; lines: codecs, solid as payload, dashed as files, dotted on one sheet;\n"
                             "markers: ours, filled as coded payload, hollow as one file an image", fontsize=9)
        _draw_gains(column[2], part)
        _draw_costs(column[3], part)
        for axes in column:
            if axes is not column[2]:
                axes.set_xscale("log")
            axes.grid(alpha=0.25, which="both", linewidth=0.5)
            axes.spines[["top", "right"]].set_visible(False)
        column[1].set_xlim(column[0].get_xlim())
        column[0].set_title(f"{part['name']}, {part['held_out']} held-out images", fontsize=11, loc="left", color=INK)
        column[0].legend(fontsize=8, ncols=2, loc="upper left")
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130, facecolor="white", metadata={"Software": None})
    write_atomically(path, lambda file: file.write(picture.getvalue()))


def _draw_codecs(axes, part, quality):
    for name, codec in measured(part).items():
        for points, rate, style, label in (("points", "payload", "-", name), ("points", "file", "--", None),
                                           ("sheet", "file", ":", None)):
            curve = frontier(codec[points], rate, quality)
            if not curve and codec[points]:  # exact: of infinite PSNR
                axes.axvline(codec[points][0]["rates"][rate], linestyle=style, color=CODEC_COLORS[name], linewidth=1,
                             label=label and f"{name} (exact)")
            if curve:
                axes.plot(*zip(*curve, strict=True), style, color=CODEC_COLORS[name], label=label, linewidth=1.3,
                          marker=".", markersize=4)


def _draw_models(axes, part, quality):
    named = set()
    for m in part["models"]:
        color, marker = MARKED[m["quant"]]
        rate = m["rates"].get("coded", m["rates"]["packed"])
        axes.plot(rate, m[quality], marker, color=color, markersize=6, linestyle="",
                  label=None if m["quant"] in named else m["quant"])
        named.add(m["quant"])
        if "single" in m["rates"]:
            axes.plot(m["rates"]["single"], m[quality], marker, color=color, markersize=6, fillstyle="none", linestyle="")
        if m["quant"] in ("commit", "vanilla"):
            # Deeper models stand just above those with the same bits: their sizes above, the others' below.
            size = m["label"].removeprefix(m["quant"]).strip()
            axes.annotate(size, (rate, m[quality]), xytext=(0, 6 if "," in size else -12), textcoords="offset points",
                          fontsize=7, ha="center")


def _draw_gains(axes, part):
    """By how many dB commit is ahead of the best codec at its rate: a bar for each size and way of counting."""
    commits = [model for model in part["models"] if model["quant"] == "commit"]
    for i, (way, (word, color)) in enumerate(WAY_BARS.items()):
        places = [number + 0.27 * (i - 1) for number in range(len(commits))]
        compared = [compare(model, measured(part), way) for model in commits]
        axes.barh(places, [c["gain"] or 0 for c in compared], height=0.25, color=color, label=word)
        for place, c in zip(places, compared, strict=True):
            against = "no codec is so small" if c["best"] is None else f"{c['gain']:+.1f} against {c['best']}"
            words = f" {rate_words(c['rate'])} bits: {against}"
            axes.annotate(words, (max(c["gain"] or 0, 0), place), fontsize=7, va="center")
    axes.set_yticks(range(len(commits)), [model["label"] for model in commits])
    axes.invert_yaxis()
    axes.margins(x=0.5)  # for the words behind the bars
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel("dB ahead of the best codec at the same bits per pixel", fontsize=9)
    axes.legend(fontsize=8, ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)


def _draw_costs(axes, part):
    """Bits per pixel of so many images and the decoder together, and what the cheapest codec needs for the same PSNR."""
    images = [10 ** (exponent / 8) for exponent in range(8 * 6 + 1)]
    commits = [model for model in part["models"] if model["quant"] == "commit"]
    for i, model in enumerate(commits):
        compared, color = compare(model, measured(part), "payload"), colormaps["viridis"](i / len(commits))
        decoder = 8 * model["decoder"]["float16"] / pixels(part)
        axes.plot(images, [compared["rate"] + decoder / count for count in images], color=color, linewidth=1.3,
                  label=f"{model['label']}, {model[QUALITY]:.1f} dB")
        if compared["needed"]:
            axes.axhline(compared["needed"][1], color=color, linestyle="--", linewidth=1)
    axes.set_yscale("log")
    axes.set_ylabel("bits per pixel with the decoder")
    axes.set_xlabel("images; solid: our payload and its share of the decoder (float16),\n"
                    "dashed: the payload of the codec that needs the fewest bits for the same PSNR", fontsize=9)
    axes.legend(fontsize=8)
