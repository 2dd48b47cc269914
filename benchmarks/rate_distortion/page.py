"""The command's output: the page, and the README's section. Everything is computed from the measured figures."""

from .curves import (
    QUALITY,
    SLACK,
    WAYS,
    commits,
    compare,
    images_until_paid,
    is_image_set,
    measured,
    outcomes,
    pixels,
    rate_words,
)

WAY_WORDS = {
    "payload": "Counting payload only (ours: the entropy-coded bits)",
    "file": "Counting one file per image",
    "sheet": "Counting one file of all images (the codecs': on one sheet)",
}
MOST_README_ROWS = 12


# ---- words ------------------------------------------------------------------------------------------------------------


def _number(value):
    return "never" if value is None else f"{value:,}"


def _list(words):
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "none"


def verdict(compared):
    """Return text such as "+1.2 dB against WebP", or that no codec is as small."""
    if compared["best"] is None:
        name, rate, quality = compared["smallest"]
        return f"no codec at this rate: the lowest is {name} at {rate_words(rate)} with {quality:.2f} dB"
    return f"{compared['gain']:+.2f} dB against {compared['best']}"


def crossover(part):
    """Return a sentence on the rates at which commit is ahead of every codec on one set, for each way of counting."""
    said = []
    for way, words in WAY_WORDS.items():
        found = outcomes(part, way)
        ahead = [compared["rate"] for kind in ("alone", "wins") for compared in found[kind].values()]
        behind = [compared["rate"] for compared in found["loses"].values()]
        if not ahead:
            where = "at no size"
        elif not behind:
            where = f"at every size (up to {rate_words(max(ahead))} bits per pixel)"
        elif max(ahead) < min(behind):
            where = f"up to {rate_words(max(ahead))} bits per pixel, but not at {rate_words(min(behind))}"
        else:
            where = f"at {len(ahead)} of {len(ahead) + len(behind)} sizes"
        said.append(f"{words[0].lower()}{words[1:]} {where}")
    weights = [model["decoder"]["float16"] / 1000 for model in commits(part)]
    return (
        f"{part['name']}: commit is ahead of every codec {'; '.join(said)}. Its decoders take {min(weights):.0f} to "
        f"{max(weights):.0f} kB in float16."
    )


def bottlenecks(part):
    """Return a sentence on the best binary bottleneck at each size that several of them have."""
    sizes = {}
    for model in part["models"]:
        if model["quant"] != "vanilla":
            sizes.setdefault(model["label"].removeprefix(model["quant"] + " "), []).append(model)
    said = []
    for size, models in sizes.items():
        best, *others = sorted(models, key=lambda model: -model[QUALITY])
        if others:
            said.append(
                f"at {size}, {best['quant']} ({best[QUALITY]:.2f}; "
                + ", ".join(f"{model['quant']} {model[QUALITY]:.2f}" for model in others)
                + ")"
            )
    return f"The best binary bottleneck, by PSNR in dB: {'; '.join(said)}." if said else None


def win_and_lose(part, way):
    """Return a sentence on where commit wins and loses on one set, for one way of counting."""
    found, said = outcomes(part, way), []
    if found["alone"]:
        rates = [compared["rate"] for compared in found["alone"].values()]
        name, rate, quality = next(iter(found["alone"].values()))["smallest"]
        span = rate_words(rates[0]) if len(rates) == 1 else f"{rate_words(min(rates))} to {rate_words(max(rates))}"
        said.append(
            f"no codec goes as low as {_list(found['alone'])} ({span} bits per pixel): the lowest is "
            f"{name} at {rate_words(rate)} with {quality:.1f} dB"
        )
    for kind, word in (("wins", "better"), ("loses", "worse")):
        if found[kind]:
            rivals = {compared["best"]: [] for compared in found[kind].values()}
            for label, compared in found[kind].items():
                rivals[compared["best"]].append(f"{label} by {abs(compared['gain']):.1f} dB")
            said.append(
                f"{word} than the best codec at the same rate: "
                + ", ".join(f"{_list(each)} (against {best})" for best, each in rivals.items())
            )
    return f"{WAY_WORDS[way]}: " + "; ".join(said) + "."


def lossless_beats_vanilla(part):
    """Return a sentence on the vanilla models whose floats take more bits than PNG takes for the exact image, or None."""
    exact = part["codecs"]["PNG"]["points"]
    worse = [
        model
        for model in part["models"]
        if model["quant"] == "vanilla" and exact and model["rates"]["packed"] >= exact[0]["rates"]["payload"]
    ]
    if not worse:
        return None
    return (
        f"{part['name']}: the floats of {_list(model['label'] for model in worse)} take "
        f"{_list(rate_words(model['rates']['packed']) for model in worse)} bits per pixel for "
        f"{_list(f'{model[QUALITY]:.1f}' for model in worse)} dB; PNG stores the images exactly in "
        f"{rate_words(exact[0]['rates']['payload'])} (payload; {rate_words(exact[0]['rates']['file'])} as files)."
    )


def paid_back(part):
    """Return a sentence on the number of images after which each commit decoder has paid for itself."""
    said = [
        f"{model['label']} ({model['decoder']['float16'] / 1000:.0f} kB) {_paid(model, part)}" for model in commits(part)
    ]
    return (
        f"{part['name']}: number of images after which the bits saved, compared with the codec that needs the fewest for "
        f"the same PSNR, outweigh the decoder in float16 (payload / one file per image / all in one): {'; '.join(said)}."
    )


def _paid(model, part, separator=" / "):
    return separator.join(
        _number(images_until_paid(model, compare(model, measured(part), way), pixels(part))) for way in WAYS
    )


def proxy_caveat(part):
    """Return a sentence on the limits of a proxy's figures, or None."""
    if "proxy" not in part["name"]:
        return None
    exact = [
        point["setting"]
        for point in part["codecs"].get("JPEG", {"points": []})["points"]
        if point[QUALITY] is None or point[QUALITY] > 60
    ]
    seen = f" (at {exact[0]}, JPEG even reconstructs them exactly or nearly so)" if exact else ""
    return (
        f"The {part['name']}'s held-out images were decoded from JPEGs of quality 75{seen}, so they are easier than the "
        "originals for codecs that use block cosine transforms, above all JPEG."
    )


def text_sentences(part):
    """Return sentences on where the LSTM wins and loses."""
    lossless, models = part["compressors"], [model for model in part["models"] if model["quant"] == "commit"]
    whole = min(lossless, key=lambda name: lossless[name]["whole"]["file"])
    alone = min(lossless, key=lambda name: lossless[name]["alone"]["payload"])
    ours = ", ".join(
        f"{m['label']} {m['rates']['coded']:.2f} bits per character ({m['exact']:.0%} of sentences exact)" for m in models
    )
    whole_rate, alone_rate = lossless[whole]["whole"]["file"], lossless[alone]["alone"]["payload"]
    smaller = {
        "whole": [m["label"] for m in models if m["rates"]["coded"] < whole_rate],
        "alone": [m["label"] for m in models if m["rates"]["packed"] < alone_rate],
    }
    said = {
        what: f"smaller, but lossy: {_list(labels)}" if labels else "every model is larger, and lossy as well"
        for what, labels in smaller.items()
    }
    weights = ", ".join(f"{m['label']} {m['decoder']['float16'] / 1000:.0f} kB" for m in models)
    dictionary = f"; zstd's dictionary {part['dictionary_bytes'] / 1000:.0f} kB" if part["dictionary_bytes"] else ""
    return [
        f"{part['name']}: {ours}.",
        f"All sentences as one text take {whole_rate:.2f} bits per character losslessly ({whole}): {said['whole']}.",
        f"Single sentences take {alone_rate:.2f} losslessly ({alone}, payload; our bits packed): {said['alone']}.",
        f"Size of the decoders in float16: {weights}{dictionary}.",
    ]


# ---- the page ---------------------------------------------------------------------------------------------------------


def as_markdown(results):
    """Return the whole results page."""
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        "# Rate and distortion: our codes and standard codecs",
        "",
        f"`{results['command']}`, {results['machine']}, kernels {results['kernels']}, one thread per model and "
        f"codec, seed {results['seed']}, {results['date']}. {packages}.",
        "",
        "PSNR: that of the mean squared error over all held-out images, unless the mean of the images' PSNRs is stated. "
        "In bits per pixel, a colour pixel counts once. *Payload*: without lengths, checksums and the bytes that are the "
        "same for every image; `benchmarks/rate_distortion/codecs.py` defines it for each codec. *Packed*: the bits "
        "without entropy coding. *Coded*: entropy-coded, all held-out examples in sequence. *All in one*: the coded "
        "bits with the header of the .tqae file. *One file each*: one .tqae file per example. *Sheet*: the images side by "
        "side as one large picture in one file.",
        "",
        *(["![Rate and distortion](rate_distortion.png)", ""] if any(map(is_image_set, results["sets"].values())) else []),
    ]
    for part in results["sets"].values():
        lines += image_part(part) if is_image_set(part) else text_part(part)
    return "\n".join(lines)


def image_part(part):
    """Return the lines on one set of images."""
    codecs, commits = measured(part), [m for m in part["models"] if m["quant"] != "vanilla"]
    lines = [
        f"## {part['name']}: {part['held_out']} held-out images of {part['shape'][1]}x{part['shape'][0]} pixels",
        "",
        f"SHA-256 of the content {part['sha256'][:16]}….",
        "",
        "### Summary",
        "",
    ]
    said = [
        crossover(part),
        *(win_and_lose(part, way) for way in WAYS),
        bottlenecks(part),
        lossless_beats_vanilla(part),
        paid_back(part),
        proxy_caveat(part),
    ]
    lines += [f"- {sentence}" for sentence in said if sentence]
    lines += [
        "",
        "### Our models",
        "",
        "| model | images x epochs | bits | packed | coded | all in one | one file each | PSNR, dB | mean PSNR, dB | SSIM |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for m in part["models"]:
        rates = " | ".join(
            rate_words(m["rates"][kind]) if kind in m["rates"] else "" for kind in ("packed", "coded", "file", "single")
        )
        lines.append(
            f"| {m['label']} | {m['trained_on']} x {m['epochs']} | {m['bits']} | {rates} | {m[QUALITY]:.2f} | "
            f"{m['psnr']:.2f} | {m['ssim']:.3f} |"
        )
    lines += [
        "",
        "Rates are in bits per pixel. Vanilla's floats count 32 bits each; there is no file format for them.",
        "",
        "### The codecs",
        "",
        "| codec | setting | payload | file | PSNR, dB | SSIM | sheet | sheet, PSNR, dB | sheet, SSIM |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, codec in part["codecs"].items():
        if codec["missing"]:
            lines.append(f"| {name} | not measured: {codec['missing']} | | | | | | | |")
        for point, sheet in zip(codec["points"], codec["sheet"], strict=True):
            payload, file = rate_words(point["rates"]["payload"]), rate_words(point["rates"]["file"])
            lines.append(
                f"| {name} | {point['setting']} | {payload} | {file} | {_quality(point)} | "
                f"{rate_words(sheet['rates']['file'])} | {_quality(sheet)} |"
            )
    rivals = [name for name, codec in codecs.items() if any(point[QUALITY] is not None for point in codec["points"])]
    for way, (ours, *_) in WAYS.items():
        lines += [
            "",
            f"### {WAY_WORDS[way]}, at the same rate",
            "",
            "PSNR in dB / SSIM, interpolated on each codec's curve; *none* where the codec's lowest rate is more than "
            f"{SLACK - 1:.0%} above ours.",
            "",
            "| model | bits per pixel | ours | " + " | ".join(rivals) + " | PSNR difference | SSIM difference |",
            "| --- | --- | --- | " + " --- |" * len(rivals) + " --- | --- |",
        ]
        for m in commits:
            lines.append(_same_rate_row(m, codecs, way, rivals, m["rates"][ours]))
    lines += [
        "",
        "### At the same PSNR",
        "",
        "Our rate, the codec that needs the fewest bits per pixel for our PSNR, its rate, and the ratio of its rate to ours "
        "(above 1, we are smaller); *none* where no codec reaches our PSNR.",
        "",
        "| model | PSNR, dB | payload | one file each | all in one |",
        "| --- | --- | --- | --- | --- |",
    ]
    for m in commits:
        lines.append(
            f"| {m['label']} | {m[QUALITY]:.2f} | "
            + " | ".join(_same_quality(compare(m, codecs, way)) for way in WAYS)
            + " |"
        )
    lines += [
        "",
        "### Size of the decoder",
        "",
        "PSNR with the decoder's values rounded to float16, and the number of images after which the bits saved, compared "
        "with the codec that needs the fewest for the same PSNR, outweigh the decoder in float16.",
        "",
        "| model | values | float32, kB | float16, kB | float16 PSNR, dB | images, payload | one file each | all in one |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for m in commits:
        lines.append(
            f"| {m['label']} | {m['decoder']['numbers']:,} | {m['decoder']['float32'] / 1000:.1f} | "
            f"{m['decoder']['float16'] / 1000:.1f} | {m[QUALITY + '_float16']:.2f} | {_paid(m, part, ' | ')} |"
        )
    return [*lines, ""]


def _quality(point):
    return ("exact" if point[QUALITY] is None else f"{point[QUALITY]:.2f}") + f" | {point['ssim']:.3f}"


def _same_quality(compared):
    if compared["needed"] is None:
        return f"{rate_words(compared['rate'])}: none"
    name, rate = compared["needed"]
    return f"{rate_words(compared['rate'])}: {name} {rate_words(rate)} (×{rate / compared['rate']:.2f})"


def _same_rate_row(model, codecs, way, rivals, rate):
    psnr, ssim = (compare(model, codecs, way, quality) for quality in (QUALITY, "ssim"))
    cells = [
        "none" if psnr["theirs"][name] is None else f"{psnr['theirs'][name]:.2f} / {ssim['theirs'][name]:.3f}"
        for name in rivals
    ]
    against = "" if ssim["best"] is None else f"{ssim['gain']:+.3f} against {ssim['best']}"
    return (
        f"| {model['label']} | {rate_words(rate)} | {model[QUALITY]:.2f} / {model['ssim']:.3f} | {' | '.join(cells)} | "
        f"{verdict(psnr)} | {against} |"
    )


def text_part(part):
    """Return the lines on the sentences."""
    lines = [
        f"## {part['name']}: {part['sentences']} held-out sentences, {part['characters']} characters",
        "",
        f"Random split; SHA-256 of the content {part['sha256'][:16]}…. Uncompressed, the text with its line feeds takes "
        f"{part['text']:.2f} bits per character.",
        "",
        "### Summary",
        "",
        *(f"- {sentence}" for sentence in text_sentences(part)),
        "",
        "### Our models (lossy)",
        "",
        "| model | sentences x epochs | bits | packed | coded | all in one | one file each | exact matches | edits per "
        "sentence | decoder, kB, float32 / float16 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for m in part["models"]:
        rates = " | ".join(f"{m['rates'][kind]:.2f}" for kind in ("packed", "coded", "file", "single"))
        weight = f"{m['decoder']['float32'] / 1000:.0f} / {m['decoder']['float16'] / 1000:.0f}"
        lines.append(
            f"| LSTM {m['label']} | {m['trained_on']} x {m['epochs']} | {m['bits']} | {rates} | {m['exact']:.1%} | "
            f"{m['edits']:.2f} | {weight} |"
        )
    lines += [
        "",
        "### Compressors (lossless)",
        "",
        "Bits per character, as files and as payload; the whole text with a line feed after each sentence, or each "
        "sentence by itself.",
        "",
        "| compressor | whole text, file | payload | single sentences, file | payload |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, c in part["compressors"].items():
        cells = " | ".join(f"{c[what][kind]:.2f}" for what in ("whole", "alone") for kind in ("file", "payload"))
        lines.append(f"| {name} | {cells} |")
    if part["dictionary_bytes"] is None:
        return [*lines, "| zstd | not measured: pip install zstandard | | | |", ""]
    return [
        *lines,
        "",
        f"The dictionary of {part['dictionary_bytes']:,} bytes was trained on the training sentences; like "
        "our decoder, it is not counted but is needed to read the file.",
        "",
    ]


# ---- the README -------------------------------------------------------------------------------------------------------


def readme_section(results):
    """Return the summary: at most twelve rows of commit in all ways of counting, and where we win and lose."""
    lines = [
        "| data | model | PSNR, dB / SSIM | payload | one file per image | all in one file | decoder, float16 | images "
        "until it pays off |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    images = [part for part in results["sets"].values() if is_image_set(part)]
    rows = [(part, m) for part in images for m in commits(part)]
    for part, m in rows[:MOST_README_ROWS]:
        cells = " | ".join(_short(compare(m, measured(part), way)) for way in WAYS)
        lines.append(
            f"| {part['name']} | {m['label']} | {m[QUALITY]:.2f} / {m['ssim']:.2f} | {cells} | "
            f"{m['decoder']['float16'] / 1000:.0f} kB | {_paid(m, part)} |"
        )
    said = [crossover(part) for part in images]
    said += [sentence for part in images if (sentence := proxy_caveat(part))]
    said += [" ".join(text_sentences(part)) for part in results["sets"].values() if not is_image_set(part)]
    versions = results["versions"]
    held_out = _list(f"{part['held_out']} held-out images of {part['name']}" for part in images)
    return "\n".join(
        [
            *lines,
            "",
            f"{held_out}: bits per pixel of our entropy-coded payload, of one file per image and of all images in one "
            "file; and how many dB better (+) or worse (-) than the best codec at that rate, counted the same way (all "
            f"in one file: the images on one sheet). PSNR of the mean squared error. `{results['command']}`, Pillow "
            f"{versions['pillow']}, {results['machine']}, {results['date']}. All points, PNG, the other bottlenecks, when "
            "a decoder pays off and what counts as payload: [rate_distortion.md](rate_distortion.md).",
            "",
            *(f"- {sentence}" for sentence in said),
        ]
    )


def _short(compared):
    against = "no codec at this rate" if compared["best"] is None else f"{compared['gain']:+.1f} dB ({compared['best']})"
    return f"{rate_words(compared['rate'])}: {against}"
