"""How codecs and models are compared: curves of codecs, at equal rate and at equal quality, and the cost of a decoder.

PSNR is that of the mean squared error over all held-out images: unlike the mean of the images' PSNRs, it stays finite when
a codec reproduces one of them exactly.
"""

import math

QUALITY = "psnr_of_mean_mse"
WAYS = {"payload": ("coded", "points", "payload"), "file": ("single", "points", "file"), "sheet": ("file", "sheet", "file")}
"""How rates are compared: our rate, and the codecs' points and rate of the same kind."""

SLACK = 1.05
"""A codec whose smallest output is up to this many times ours is compared with us as if it were as small: its lowest quality
setting is not a fundamental limit.
"""


def is_image_set(part):
    """Whether a set's results are about images."""
    return "codecs" in part


def pixels(part):
    """Return the number of pixels of an image of the set."""
    return part["shape"][0] * part["shape"][1]


def measured(part):
    """Return the codecs that could be measured: {name: results}."""
    return {name: codec for name, codec in part["codecs"].items() if not codec["missing"]}


def rate_words(bits):
    """Format bits per pixel with three digits."""
    return f"{bits:.3f}" if bits < 1 else f"{bits:.2f}"


def frontier(points, rate, quality=QUALITY):
    """[(rate, quality)] by ascending rate, without points that a cheaper one matches or beats. points: those of one codec;
    exact reproductions, of infinite quality, are left out.
    """
    found = []
    for r, q in sorted((point["rates"][rate], point[quality]) for point in points if point[quality] is not None):
        if not found or q > found[-1][1]:
            found.append((r, q))
    return found


def quality_at(curve, rate):
    """The quality of a frontier at a rate, interpolated linearly in the logarithm of the rate. None if the rate is below the
    smallest that the codec has (up to SLACK); beyond the last point, that point's.
    """
    if not curve or rate * SLACK < curve[0][0]:
        return None
    rate = max(rate, curve[0][0])
    for (r0, q0), (r1, q1) in zip(curve, curve[1:], strict=False):
        if rate < r1:
            return q0 + (q1 - q0) * math.log(rate / r0) / math.log(r1 / r0)
    return curve[-1][1]


def rate_at(curve, quality):
    """The rate that a frontier needs for a quality, by the same interpolation; the smallest rate that the codec has if that
    is already better; None if it never reaches the quality.
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
    """Compare one of our models with every codec at the same rate; None for vanilla, which has no such rate.

    Returns {"rate", "ours": our quality, "theirs": {codec: its quality, or None if none of its files is as small}, "best":
    the best codec or None, "gain": ours minus its quality, or None, "smallest": (codec, rate, quality) of the smallest of
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
    return {
        "rate": rate,
        "ours": ours,
        "theirs": theirs,
        "best": best,
        "gain": ours - there[best] if best else None,
        "smallest": (smallest, *curves[smallest][0]),
        "needed": (cheapest, needed[cheapest]) if cheapest else None,
    }


def images_until_paid(model, compared, pixels):
    """How many images the decoder, as float16, must decode until it is paid for by the bits saved against the codec that
    needs the fewest for the same PSNR; None for never, as where a codec is better at our rate.
    """
    if compared["needed"] is None or (compared["best"] and compared["gain"] < 0):
        return None
    saved = (compared["needed"][1] - compared["rate"]) * pixels
    return math.ceil(8 * model["decoder"]["float16"] / saved) if saved > 0 else None


def commits(part):
    """The models of commit, without those trained on fewer images than others."""
    models = [model for model in part["models"] if model["quant"] == "commit"]
    most = max((model["trained_on"] for model in models), default=0)
    return [model for model in models if model["trained_on"] == most]


def outcomes(part, way):
    """{"alone": labels where no codec is as small, "wins": {label: comparison} where we are better at the same rate,
    "loses": likewise}, of `commits`.
    """
    found = {"alone": {}, "wins": {}, "loses": {}}
    for model in commits(part):
        compared = compare(model, measured(part), way)
        kind = "alone" if compared["best"] is None else "wins" if compared["gain"] > 0 else "loses"
        found[kind][model["label"]] = compared
    return found
