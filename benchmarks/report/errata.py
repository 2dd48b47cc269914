"""What is wrong with the report's figures, each mistake demonstrated by figures computed in this run."""

from dataclasses import dataclass

import numpy as np

from tinyqae.metrics.text import text_metrics

from .text_metrics import report_text_metrics

PRINTED_MLP_CR = {
    ("float32", 10): 19.6,
    ("float32", 50): 1.96,
    ("float32", 100): 0.196,
    ("bits", 10): 627.2,
    ("bits", 50): 62.72,
    ("bits", 100): 6.272,
}
PRINTED_CNN_CR = {"small": 3, "medium": 2, "large": 1}


@dataclass(frozen=True)
class Erratum:
    """One mistake: a description, and a table of figures that shows it (headings, rows)."""

    title: str
    words: str
    headings: tuple
    rows: list


def errata(tables, published, data):
    """Return the errata that these tables can show. published: {table's number: its results}; data: {number: its data}."""
    found = []
    if 1 in published or 2 in published:
        found.append(_wrapping(published, data))
        found += _pooling(tables, published)
    if 1 in published:
        found.append(_ratios_of_the_mlp())
    if 2 in published:
        found.append(_ratios_of_the_cnn(tables[2]))
    if 1 in published or 2 in published:
        found.append(_sizes(data))
        found += _no_held_out(tables, published)
    if 3 in published:
        found += _other_sentences(published[3])
        found.append(_text_measures())
    return found


def _wrapping(published, data):
    a, b = np.array([10], np.uint8), np.array([250], np.uint8)
    rows = [
        ("pixels 10 and 250: difference", f"{int((a - b)[0])}", "240"),
        ("its square", f"{int(np.square(a - b)[0])}", "57600"),
    ]
    for number in published.keys() & {1, 2}:
        images = len(data[number].train_images[: None if number == 1 else 1000])
        against = {
            "all_black": "each against an all-black image",
            "inverted": "each against its negative",
            "unrelated": "each against the next image",
        }
        for name, scores in published[number]["demonstration"].items():
            what = f"{images:,} training images of {data[number].name}, {against[name]}"
            rows.append(
                (f"{what}: PSNR", f"{scores['report']['psnr']:.2f} dB", f"{scores['correct']['psnr_of_mean_mse']:.2f} dB")
            )
            rows.append((f"{what}: MSE", f"{scores['report']['mse']:.1f}", f"{scores['correct']['mse']:.1f}"))
    return Erratum(
        "MSE, MAE and PSNR of Tables 1 and 2 wrap around",
        "They were computed on 8-bit integers, whose differences and squares are taken modulo 256. So the MAE can "
        "exceed the root of the MSE, which is otherwise impossible, and nonsense scores as well as any model.",
        ("", "by the report's definition", "correct"),
        rows,
    )


def _pooling(tables, published):
    """Show which pooling comes closer to the published figures."""
    rows = []
    for number in (1, 2):
        compared = [row for row in published.get(number, {}).get("tables", {}).get("report", ()) if row["published"]]
        for i, metric in enumerate(("psnr", "ssim")):
            away = (
                [
                    np.mean([abs(row[f"report_{pooling}"][metric][0] - row["published"][i]) for row in compared])
                    for pooling in ("image", "stack")
                ]
                if compared
                else []
            )
            if away:
                rows.append((f"{tables[number].title}: {metric.upper()}", *(f"{value:.3f}" for value in away)))
    if not rows:
        return []
    return [
        Erratum(
            "The images were pooled in two ways",
            "Table 2 computes PSNR and SSIM once on the whole stack of images, so the SSIM window spans unrelated "
            "neighbouring images; Table 1 is consistent with means over images. Mean absolute difference between our "
            "rows and the published ones, with each pooling:",
            ("", "mean over images", "whole stack"),
            rows,
        )
    ]


def _ratios_of_the_mlp():
    rows = []
    for (kind, size), printed in PRINTED_MLP_CR.items():
        bits = size * (32 if kind == "float32" else 1)
        rows.append((f"{size} {kind}", f"{printed:g}", f"{28 * 28 * 8 / bits:g}"))
    return Erratum(
        "Compression ratios of the MLP with 50 and 100 units",
        "An image has 6,272 bits; the ratio is that number divided by the bits of the code.",
        ("code", "printed", "correct"),
        rows,
    )


def _ratios_of_the_cnn(table):
    rows = [
        (size, f"{printed}", f"{32 * 32 * 3 * 8 / (32 * table.latent_size(size)):g}")
        for size, printed in PRINTED_CNN_CR.items()
    ]
    return Erratum(
        "Compression ratio of the vanilla CNN",
        "An image has 24,576 bits, a code 256, 512 or 768 numbers of 32 bits each.",
        ("size", "printed", "correct"),
        rows,
    )


def _sizes(data):
    printed = {1: "60k training and 20k test images", 2: "60k training images"}
    rows = [
        (data[number].name, words, f"{len(data[number].train_images):,} and {len(data[number].test_images):,}")
        for number, words in printed.items()
        if number in data
    ]
    return Erratum("Sizes of the data sets", "Counted in the files:", ("", "printed", "training and test images"), rows)


def _no_held_out(tables, published):
    rows = []
    for number in (1, 2):
        measured = published.get(number, {}).get("tables", {}).get("report", ())
        gaps = {row["label"]: row["same_images"]["psnr"][0] - row["held_out"]["psnr"][0] for row in measured}
        if gaps:
            largest = max(gaps, key=lambda label: abs(gaps[label]))
            rows.append(
                (tables[number].title, f"{np.mean(list(gaps.values())):+.2f} dB", f"{gaps[largest]:+.2f} dB ({largest})")
            )
    if not rows:
        return []
    return [
        Erratum(
            "No held-out images",
            "Tables 1 and 2 are measured on training images. By how much that flatters these models, in correct PSNR "
            "(training images minus test images):",
            ("", "mean over the rows", "largest difference"),
            rows,
        )
    ]


def _other_sentences(result):
    """The same models on both sets of sentences."""
    rows = [
        (row["label"], *(f"{row[key]['levenshtein'][0]:.2f}" for key in ("report_vanilla", "report_quantized")))
        for row in result["tables"].get("report", ())
        if row["quant"] == "vanilla" and "report_vanilla" in row
    ]
    if not rows:
        return []
    return [
        Erratum(
            "Table 3 measures vanilla on different sentences than the other bottlenecks",
            "Vanilla is measured on sentences from line 40,001 on, the others on sentences from line 45,100 on, which "
            "are longer. Edits of the same vanilla models on both, by the report's definition:",
            ("", "vanilla's sentences", "the others' sentences"),
            rows,
        )
    ]


def _text_measures():
    rows = []
    for original, written in (("where is your dog", "where is your dog"), ("the team is late", "the meat is tale")):
        flawed, correct = report_text_metrics([original], [written + "\n"]), text_metrics([original], [written])
        for metric, name in (("levenshtein", "edits"), ("jaccard_distance", "Jaccard"), ("cosine_distance", "cosine")):
            rows.append((f"“{original}” decoded as “{written}”: {name}", f"{flawed[metric]:.3g}", f"{correct[metric]:.3g}"))
    return Erratum(
        "Table 3's distances",
        "Cosine and Jaccard compare single characters instead of words, so an anagram scores as nearly perfect; the "
        "line feed that ends the decoder's output counts as an error.",
        ("", "by the report's definition", "correct"),
        rows,
    )
