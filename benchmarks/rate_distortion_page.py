"""What rate_distortion.py shows: curves compared at equal rate and equal quality, the page, the picture, the README's part.

Everything said here is computed from the measured figures. PSNR means that of the mean squared error over all held-out
images: unlike the mean of the images' PSNRs it stays finite when a codec reproduces one of them exactly.
"""
import io
import math

from tinyqae.checkpoint import write_atomically
from tinyqae.plots import INK, plt

QUALITY = "psnr_of_mean_mse"
WAYS = {"payload": ("coded", "points", "payload"), "file": ("single", "points", "file"), "sheet": ("file", "sheet", "file")}
"""How rates are compared: our rate, and the codecs' points and rate of the same kind."""

WAY_WORDS = {"payload": "As payload (our entropy-coded bits)", "file": "As one file for each image",
             "sheet": "As one file of all images (the codecs': on one sheet)"}
MARKED = {"vanilla": ("#8a8a8a", "s"), "naive": ("#c9a227", "v"), "fence": ("#3b7a57", "^"), "commit": ("#c8553d", "o"),
          "clipped": ("#b07aa1", "D"), "stochastic": ("#b07aa1", "P"), "annealed": ("#b07aa1", "X"),
          "entropy": ("#b07aa1", "*")}
CODEC_COLORS = {"JPEG": "#4c72b0", "JPEG 2000": "#8172b3", "WebP": "#2a9d8f", "AVIF": "#937860", "PNG": "#1b1b1b"}
WAY_BARS = {"payload": ("payload", "#c8553d"), "file": ("a file each", "#e3a08f"), "sheet": ("all in one file", "#8a8a8a")}
MOST_README_ROWS = 12
SLACK = 1.05
"""A codec whose smallest output is up to this many times ours is compared with us as if it were as small: its lowest quality
setting is not a limit of nature.
"""


# ---- curves -----------------------------------------------------------------------------------------------------------

def frontier(points, rate, quality=QUALITY):
    """[(rate, quality)] from the smallest rate on, without points that a cheaper one matches or beats. points: those of
    one codec; exact reproductions, of infinite quality, are left out.
    """
    found = []
    for r, q in sorted((point["rates"][rate], point[quality]) for point in points if point[quality] is not None):
        if not found or q > found[-1][1]:
            found.append((r, q))
    return found


def quality_at(curve, rate):
    """The quality of a frontier at a rate: interpolated, linear in the logarithm of the rate. None where the rate is below
    the smallest that the codec has (but for SLACK); beyond the last point, that point's.
    """
    if not curve or rate * SLACK < curve[0][0]:
        return None
    rate = max(rate, curve[0][0])
    for (r0, q0), (r1, q1) in zip(curve, curve[1:], strict=False):
        if rate < r1:
            return q0 + (q1 - q0) * math.log(rate / r0) / math.log(r1 / r0)
    return curve[-1][1]


def rate_at(curve, quality):
    """The rate that a frontier needs for a quality, by the same interpolation; the smallest rate that the codec has where
    that is better already; None where it never gets there.
    """
    if not curve or quality > curve[-1][1]:
        return None
    if quality <= curve[0][1]:
        return curve[0][0]
    for (r0, q0), (r1, q1) in zip(curve, curve[1:], strict=False):
        if quality <= q1:
            return r0 * (r1 / r0) ** ((quality - q0) / (q1 - q0))
    raise AssertionError("a frontier's quality rises from its first point to its last")


def compare(model, codecs, way, quality=QUALITY):
    """One of our models against every codec at the same rate; None for vanilla, which has no such rate.

    Returns {"rate", "ours": our quality, "theirs": {codec: its quality, or None where no file of it is so small}, "best":
    the best codec or None, "gain": ours less its quality, or None, "smallest": (codec, rate, quality) of the smallest of
    all, "needed": (codec, rate) of the one that reaches our quality at the smallest rate, or None}.
    """
    our_rate, points, their_rate = WAYS[way]
    if our_rate not in model["rates"]:
        return None
    curves = {name: frontier(codec[points], their_rate, quality) for name, codec in codecs.items()}
    curves = {name: curve for name, curve in curves.items() if curve}
    rate, ours = model["rates"][our_rate], model[quality]
    theirs = {name: quality_at(curve, rate) for name, curve in curves.items()}
    there = {name: value for name, value in theirs.items() if value is not None}
    best = max(there, key=there.get) if there else None
    needed = {name: needs for name, curve in curves.items() if (needs := rate_at(curve, ours)) is not None}
    cheapest = min(needed, key=needed.get) if needed else None
    smallest = min(curves, key=lambda name: curves[name][0])
    return {"rate": rate, "ours": ours, "theirs": theirs, "best": best, "gain": ours - there[best] if best else None,
            "smallest": (smallest, *curves[smallest][0]), "needed": (cheapest, needed[cheapest]) if cheapest else None}


def images_until_paid(model, compared, pixels):
    """How many images the decoder, as float16, must decode until the bits saved against the codec that needs the fewest
    for the same PSNR have paid for it; None for never, as where a codec is better at our rate.
    """
    if compared["needed"] is None or (compared["best"] and compared["gain"] < 0):
        return None
    saved = (compared["needed"][1] - compared["rate"]) * pixels
    return math.ceil(8 * model["decoder"]["float16"] / saved) if saved > 0 else None


# ---- words ------------------------------------------------------------------------------------------------------------

def is_image_set(part):
    """Whether a set's results are about images."""
    return "codecs" in part


def _pixels(part):
    return part["shape"][0] * part["shape"][1]


def _measured(part):
    return {name: codec for name, codec in part["codecs"].items() if not codec["missing"]}


def _rate(bits):
    return f"{bits:.3f}" if bits < 1 else f"{bits:.2f}"


def _number(value):
    return "never" if value is None else f"{value:,}"


def _list(words):
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "none"


def verdict(compared):
    """"+1.2 dB against WebP", or that nothing else is so small."""
    if compared["best"] is None:
        name, rate, quality = compared["smallest"]
        return f"no codec is so small: the smallest, {name}, takes {_rate(rate)} for {quality:.2f} dB"
    return f"{compared['gain']:+.2f} dB against {compared['best']}"


def outcomes(part, way, quant="commit"):
    """{"alone": labels where no codec is so small, "wins": {label: comparison} where we are better at the same rate,
    "loses": likewise}, of the models of one bottleneck.
    """
    found = {"alone": {}, "wins": {}, "loses": {}}
    for model in part["models"]:
        if model["quant"] == quant:
            compared = compare(model, _measured(part), way)
            kind = "alone" if compared["best"] is None else "wins" if compared["gain"] > 0 else "loses"
            found[kind][model["label"]] = compared
    return found


def crossover(part):
    """A sentence on at which rates commit is ahead of every codec on one set, in each way of counting."""
    said = []
    for way, words in WAY_WORDS.items():
        found = outcomes(part, way)
        ahead = [compared["rate"] for kind in ("alone", "wins") for compared in found[kind].values()]
        behind = [compared["rate"] for compared in found["loses"].values()]
        if not ahead:
            where = "nowhere"
        elif not behind:
            where = f"at every size (up to {_rate(max(ahead))} bits per pixel)"
        elif max(ahead) < min(behind):
            where = f"up to {_rate(max(ahead))} bits per pixel, and no more at {_rate(min(behind))}"
        else:
            where = f"at {len(ahead)} of {len(ahead) + len(behind)} sizes"
        said.append(f"{words[0].lower()}{words[1:]} {where}")
    weights = [model["decoder"]["float16"] / 1000 for model in part["models"] if model["quant"] == "commit"]
    return (f"{part['name']}: commit is ahead of every codec {'; '.join(said)}. Its decoders weigh {min(weights):.0f} to "
            f"{max(weights):.0f} kB as float16.")


def bottlenecks(part):
    """A sentence on which bottleneck of bits is the best at each size that several have."""
    sizes = {}
    for model in part["models"]:
        if model["quant"] != "vanilla":
            sizes.setdefault(model["label"].removeprefix(model["quant"] + " "), []).append(model)
    said = []
    for size, models in sizes.items():
        best, *others = sorted(models, key=lambda model: -model[QUALITY])
        if others:
            said.append(f"at {size} {best['quant']} ({best[QUALITY]:.2f}; " +
                        ", ".join(f"{model['quant']} {model[QUALITY]:.2f}" for model in others) + ")")
    return f"The best bottleneck of bits, by PSNR in dB: {'; '.join(said)}." if said else None


def win_and_lose(part, way):
    """A sentence on where commit wins and loses on one set, in one way of counting."""
    found, said = outcomes(part, way), []
    if found["alone"]:
        rates = [compared["rate"] for compared in found["alone"].values()]
        name, rate, quality = next(iter(found["alone"].values()))["smallest"]
        span = _rate(rates[0]) if len(rates) == 1 else f"{_rate(min(rates))} to {_rate(max(rates))}"
        said.append(f"no codec makes anything as small as {_list(found['alone'])} ({span} bits per pixel): the smallest is "
                    f"{name} with {_rate(rate)} for {quality:.1f} dB")
    for kind, word in (("wins", "better"), ("loses", "worse")):
        if found[kind]:
            rivals = {compared["best"]: [] for compared in found[kind].values()}
            for label, compared in found[kind].items():
                rivals[compared["best"]].append(f"{label} by {abs(compared['gain']):.1f} dB")
            said.append(f"{word} than the best codec at the same rate: " +
                        ", ".join(f"{_list(each)} (against {best})" for best, each in rivals.items()))
    return f"{WAY_WORDS[way]}: " + "; ".join(said) + "."


def lossless_beats_vanilla(part):
    """A sentence on the vanilla models whose floats take more bits than PNG takes for the exact image, or None."""
    exact = part["codecs"]["PNG"]["points"]
    worse = [model for model in part["models"] if model["quant"] == "vanilla" and exact
             and model["rates"]["packed"] >= exact[0]["rates"]["payload"]]
    if not worse:
        return None
    return (f"{part['name']}: the floats of {_list(model['label'] for model in worse)} take "
            f"{_list(_rate(model['rates']['packed']) for model in worse)} bits per pixel for "
            f"{_list(f'{model[QUALITY]:.1f}' for model in worse)} dB; PNG stores the images exactly in "
            f"{_rate(exact[0]['rates']['payload'])} (payload; {_rate(exact[0]['rates']['file'])} as files).")


def paid_back(part):
    """A sentence on after how many images each commit decoder has paid for itself."""
    said = []
    for model in part["models"]:
        if model["quant"] == "commit":
            said.append(f"{model['label']} ({model['decoder']['float16'] / 1000:.0f} kB) {_paid(model, part)}")
    return (f"{part['name']}: a decoder (as float16) has paid for itself, in bits saved against the codec that needs the "
            f"fewest for the same PSNR, after so many images (payloads / a file each / all in one): {'; '.join(said)}.")


def _paid(model, part, separator=" / "):
    return separator.join(_number(images_until_paid(model, compare(model, _measured(part), way), _pixels(part)))
                          for way in WAYS)


def proxy_caveat(part):
    """What a proxy's figures cannot say, or None."""
    if "proxy" not in part["name"]:
        return None
    exact = [point["setting"] for point in part["codecs"].get("JPEG", {"points": []})["points"] if point[QUALITY] is None
             or point[QUALITY] > 60]
    seen = f" (at {exact[0]} JPEG even gives them back exactly, or nearly so)" if exact else ""
    return (f"The {part['name']}'s held-out images were decoded from JPEGs of quality 75{seen}, so that what cuts images "
            "into blocks and takes their cosine transform, JPEG above all, has it easier than on the originals.")


def text_sentences(part):
    """Where the LSTM wins and loses, in sentences."""
    lossless, models = part["compressors"], [model for model in part["models"] if model["quant"] == "commit"]
    whole = min(lossless, key=lambda name: lossless[name]["whole"]["file"])
    alone = min(lossless, key=lambda name: lossless[name]["alone"]["payload"])
    ours = ", ".join(f"{m['label']} {m['rates']['coded']:.2f} bits a character for {m['exact']:.0%} exact sentences"
                     for m in models)
    whole_rate, alone_rate = lossless[whole]["whole"]["file"], lossless[alone]["alone"]["payload"]
    smaller = {"whole": [m["label"] for m in models if m["rates"]["coded"] < whole_rate],
               "alone": [m["label"] for m in models if m["rates"]["packed"] < alone_rate]}
    said = {what: f"smaller, and lossy: {_list(labels)}" if labels else "every model is larger, and lossy on top"
            for what, labels in smaller.items()}
    weights = ", ".join(f"{m['label']} {m['decoder']['float16'] / 1000:.0f} kB" for m in models)
    dictionary = f"; zstd's dictionary {part['dictionary_bytes'] / 1000:.0f} kB" if part["dictionary_bytes"] else ""
    return [f"{part['name']}: {ours}.",
            f"All sentences as one text take {whole_rate:.2f} bits a character without loss ({whole}): {said['whole']}.",
            f"A sentence alone takes {alone_rate:.2f} without loss ({alone}, payload; our bits packed): {said['alone']}.",
            f"The decoders weigh {weights} as float16{dictionary}."]


# ---- the page ---------------------------------------------------------------------------------------------------------

def as_markdown(results):
    """The whole results page."""
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = ["# Rate and distortion: our codes and the classical codecs", "",
             f"`{results['command']}`, {results['machine']}, kernels {results['kernels']}, one thread for each model and "
             f"codec, seed {results['seed']}, {results['date']}. {packages}.", "",
             "PSNR: that of the mean squared error over all held-out images; where the mean of the images' PSNRs is meant, "
             "it says so. Bits per pixel count a colour pixel once. *Payload*: without the bytes that are the same for "
             "every image, nor lengths and checksums; `benchmarks/classical_codecs.py` says what that means for each codec. "
             "*Packed*: the bits as they are. *Coded*: entropy-coded, all held-out examples one after the other. *All in a "
             "file*: that with the header of the .tqae file. *A file each*: one .tqae file for every single example. "
             "*Sheet*: the images side by side as one large picture in one file.", "",
             *(["![Rate and distortion](rate_distortion.png)", ""] if any(map(is_image_set, results["sets"].values()))
               else [])]
    for part in results["sets"].values():
        lines += image_part(part) if is_image_set(part) else text_part(part)
    return "\n".join(lines)


def image_part(part):
    """Lines on one set of images."""
    measured, commits = _measured(part), [m for m in part["models"] if m["quant"] != "vanilla"]
    lines = [f"## {part['name']}: {part['held_out']} held-out images of {part['shape'][1]}x{part['shape'][0]} pixels", "",
             f"SHA-256 of the content {part['sha256'][:16]}….", "", "### In short", ""]
    said = [crossover(part), *(win_and_lose(part, way) for way in WAYS), bottlenecks(part), lossless_beats_vanilla(part),
            paid_back(part), proxy_caveat(part)]
    lines += [f"- {sentence}" for sentence in said if sentence]
    lines += ["", "### Our models", "",
              "| model | images x epochs | bits | packed | coded | all in a file | a file each | PSNR dB | mean of PSNRs | "
              "SSIM |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for m in part["models"]:
        rates = " | ".join(_rate(m["rates"][kind]) if kind in m["rates"] else "" for kind in
                           ("packed", "coded", "file", "single"))
        lines.append(f"| {m['label']} | {m['trained_on']} x {m['epochs']} | {m['bits']} | {rates} | {m[QUALITY]:.2f} | "
                     f"{m['psnr']:.2f} | {m['ssim']:.3f} |")
    lines += ["", "Rates are bits per pixel. Vanilla's floats count 32 bits each; there is no file format for them.", "",
              "### The codecs", "", "| codec | setting | payload | file | PSNR dB | SSIM | sheet | PSNR dB | SSIM |",
              "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, codec in part["codecs"].items():
        if codec["missing"]:
            lines.append(f"| {name} | not measured: {codec['missing']} | | | | | | | |")
        for point, sheet in zip(codec["points"], codec["sheet"], strict=True):
            lines.append(f"| {name} | {point['setting']} | {_rate(point['rates']['payload'])} | "
                         f"{_rate(point['rates']['file'])} | {_quality(point)} | {_rate(sheet['rates']['file'])} | "
                         f"{_quality(sheet)} |")
    rivals = [name for name, codec in measured.items() if any(point[QUALITY] is not None for point in codec["points"])]
    for way, (ours, *_) in WAYS.items():
        lines += ["", f"### {WAY_WORDS[way]}, at the same rate", "",
                  "PSNR in dB / SSIM, interpolated on each codec's curve; *none* where no output of the codec is so small "
                  f"(within {SLACK - 1:.0%}, to the codec's favour).",
                  "", "| model | bits per pixel | ours | " + " | ".join(rivals) + " | PSNR | SSIM |",
                  "| --- | --- | --- | " + " --- |" * len(rivals) + " --- | --- |"]
        for m in commits:
            lines.append(_same_rate_row(m, measured, way, rivals, m["rates"][ours]))
    lines += ["", "### At the same PSNR", "",
              "Which codec needs the fewest bits per pixel for our PSNR, and how many times ours that is: above 1 we are "
              "smaller; *none* where no codec gets there.", "",
              "| model | PSNR dB | payload | a file each | all in one |", "| --- | --- | --- | --- | --- |"]
    for m in commits:
        lines.append(f"| {m['label']} | {m[QUALITY]:.2f} | " +
                     " | ".join(_same_quality(compare(m, measured, way)) for way in WAYS) + " |")
    lines += ["", "### What the decoder weighs", "",
              "PSNR with the decoder's numbers rounded to float16, and after how many images their bytes are paid back by "
              "the bits saved against the codec that needs the fewest for the same PSNR.", "",
              "| model | numbers | kB, float32 | kB, float16 | PSNR dB, float16 | images, payloads | a file each | all in "
              "one |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for m in commits:
        lines.append(f"| {m['label']} | {m['decoder']['numbers']:,} | {m['decoder']['float32'] / 1000:.1f} | "
                     f"{m['decoder']['float16'] / 1000:.1f} | {m[QUALITY + '_float16']:.2f} | {_paid(m, part, ' | ')} |")
    return [*lines, ""]


def _quality(point):
    return ("exact" if point[QUALITY] is None else f"{point[QUALITY]:.2f}") + f" | {point['ssim']:.3f}"


def _same_quality(compared):
    if compared["needed"] is None:
        return f"{_rate(compared['rate'])}: none"
    name, rate = compared["needed"]
    return f"{_rate(compared['rate'])}: {name} {_rate(rate)} (×{rate / compared['rate']:.2f})"


def _same_rate_row(model, codecs, way, rivals, rate):
    psnr, ssim = (compare(model, codecs, way, quality) for quality in (QUALITY, "ssim"))
    cells = ["none" if psnr["theirs"][name] is None else f"{psnr['theirs'][name]:.2f} / {ssim['theirs'][name]:.3f}"
             for name in rivals]
    against = "" if ssim["best"] is None else f"{ssim['gain']:+.3f} against {ssim['best']}"
    return (f"| {model['label']} | {_rate(rate)} | {model[QUALITY]:.2f} / {model['ssim']:.3f} | {' | '.join(cells)} | "
            f"{verdict(psnr)} | {against} |")


def text_part(part):
    """Lines on the sentences."""
    lines = [f"## {part['name']}: {part['sentences']} held-out sentences, {part['characters']} characters", "",
             f"A random split; SHA-256 of the content {part['sha256'][:16]}…. The text as it is, with line feeds, has "
             f"{part['text']:.2f} bits a character.", "", "### In short", "",
             *(f"- {sentence}" for sentence in text_sentences(part)), "", "### Our models (lossy)", "",
             "| model | sentences x epochs | bits | packed | coded | all in a file | a file each | exact | edits a "
             "sentence | decoder kB, float32 / float16 |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for m in part["models"]:
        rates = " | ".join(f"{m['rates'][kind]:.2f}" for kind in ("packed", "coded", "file", "single"))
        weight = f"{m['decoder']['float32'] / 1000:.0f} / {m['decoder']['float16'] / 1000:.0f}"
        lines.append(f"| LSTM {m['label']} | {m['trained_on']} x {m['epochs']} | {m['bits']} | {rates} | {m['exact']:.1%} | "
                     f"{m['edits']:.2f} | {weight} |")
    lines += ["", "### Compressors (lossless)", "",
              "Bits a character, files and payload; the whole text with a line feed behind each sentence, or every sentence "
              "by itself.", "", "| compressor | whole text, file | payload | a sentence alone, file | payload |",
              "| --- | --- | --- | --- | --- |"]
    for name, c in part["compressors"].items():
        cells = " | ".join(f"{c[what][kind]:.2f}" for what in ("whole", "alone") for kind in ("file", "payload"))
        lines.append(f"| {name} | {cells} |")
    if part["dictionary_bytes"] is None:
        return [*lines, "| zstd | not measured: pip install zstandard | | | |", ""]
    return [*lines, "", f"The dictionary of {part['dictionary_bytes']:,} bytes was trained on the training sentences; like "
            "our decoder it is not counted, and must be there to read the file.", ""]


# ---- the README -------------------------------------------------------------------------------------------------------

def readme_section(results):
    """The short form: at most twelve rows of commit in all ways of counting, and where we win and lose."""
    lines = ["| data | model | PSNR / SSIM | payload | a file each | all in one file | decoder, float16 | paid back after "
             "so many images |", "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    images = [part for part in results["sets"].values() if is_image_set(part)]
    rows = [(part, m) for part in images for m in part["models"] if m["quant"] == "commit"]
    for part, m in rows[:MOST_README_ROWS]:
        cells = " | ".join(_short(compare(m, _measured(part), way)) for way in WAYS)
        lines.append(f"| {part['name']} | {m['label']} | {m[QUALITY]:.2f} / {m['ssim']:.2f} | {cells} | "
                     f"{m['decoder']['float16'] / 1000:.0f} kB | {_paid(m, part)} |")
    said = [crossover(part) for part in images]
    said += [sentence for part in images if (sentence := proxy_caveat(part))]
    said += [" ".join(text_sentences(part)) for part in results["sets"].values() if not is_image_set(part)]
    versions = results["versions"]
    held_out = _list(f"{part['held_out']} held-out images of {part['name']}" for part in images)
    return "\n".join([
        *lines, "",
        f"{held_out}: bits per pixel of our entropy-coded payload, of one file for each image and of all images in one "
        "file; and how many dB better (+) or worse (-) than the best codec at that rate, counted the same way (all in one "
        f"file: the images on one sheet). PSNR of the mean squared error. `{results['command']}`, Pillow "
        f"{versions['pillow']}, {results['machine']}, {results['date']}. All points, PNG, the other bottlenecks and what "
        "counts as payload: [rate_distortion.md](benchmarks/results/rate_distortion.md).", "",
        *(f"- {sentence}" for sentence in said)])


def _short(compared):
    against = "no codec so small" if compared["best"] is None else f"{compared['gain']:+.1f} dB ({compared['best']})"
    return f"{_rate(compared['rate'])}: {against}"


# ---- the picture ------------------------------------------------------------------------------------------------------

def draw(path, results):
    """A column for each set of images: against bits per pixel PSNR, SSIM, and by how much we are ahead; and at the bottom
    what a picture costs with its share of the decoder.
    """
    parts = [part for part in results["sets"].values() if is_image_set(part)]
    figure, all_axes = plt.subplots(4, len(parts), figsize=(7 * len(parts), 18), squeeze=False)
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
    plt.close(figure)
    write_atomically(path, lambda file: file.write(picture.getvalue()))


def _draw_codecs(axes, part, quality):
    for name, codec in _measured(part).items():
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
            # Deeper models stand just above those with the same bits: their names above, the others' below.
            axes.annotate(m["label"], (rate, m[quality]), xytext=(0, 6 if "," in m["label"] else -12),
                          textcoords="offset points", fontsize=7, ha="center")


def _draw_gains(axes, part):
    """By how many dB commit is ahead of the best codec at its rate: a bar for each size and way of counting."""
    commits = [model for model in part["models"] if model["quant"] == "commit"]
    for i, (way, (word, color)) in enumerate(WAY_BARS.items()):
        places = [number + 0.27 * (i - 1) for number in range(len(commits))]
        compared = [compare(model, _measured(part), way) for model in commits]
        axes.barh(places, [c["gain"] or 0 for c in compared], height=0.25, color=color, label=word)
        for place, c in zip(places, compared, strict=True):
            against = "no codec is so small" if c["best"] is None else f"{c['gain']:+.1f} against {c['best']}"
            axes.annotate(f" {_rate(c['rate'])} bits: {against}", (max(c["gain"] or 0, 0), place), fontsize=7, va="center")
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
        compared, color = compare(model, _measured(part), "payload"), plt.get_cmap("viridis")(i / len(commits))
        decoder = 8 * model["decoder"]["float16"] / _pixels(part)
        axes.plot(images, [compared["rate"] + decoder / count for count in images], color=color, linewidth=1.3,
                  label=f"{model['label']}, {model[QUALITY]:.1f} dB")
        if compared["needed"]:
            axes.axhline(compared["needed"][1], color=color, linestyle="--", linewidth=1)
    axes.set_yscale("log")
    axes.set_ylabel("bits per pixel with the decoder")
    axes.set_xlabel("images; solid: our payload and its share of the decoder (float16),\n"
                    "dashed: the payload of the codec that needs the fewest bits for the same PSNR", fontsize=9)
    axes.legend(fontsize=8)
