"""Put measured results into README.md: what stands between <!-- name --> and <!-- /name --> is replaced.

    python benchmarks/readme.py [--no-example]

Reads benchmarks/results/ and runs the README's first example (unless told not to), so that no figure in the README is
typed.
"""
import functools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rate_distortion_page import readme_section

from tinyqae.checkpoint import write_atomically
from tinyqae.reproduce.rows import QUANTS, plus_minus
from tinyqae.reproduce.text_table import LONGER

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SIZES = (10, 50, 100)


def update(name, text):
    """Replace the section `name` of README.md."""
    readme = ROOT / "README.md"
    pattern = re.compile(f"(<!-- {name} -->\\n).*?(<!-- /{name} -->)", re.DOTALL)
    content, count = pattern.subn(lambda match: match[1] + text + "\n" + match[2], readme.read_text(encoding="utf-8"))
    if count != 1:
        sys.exit(f"README.md has {count} sections marked {name}; exactly one is needed")
    write_atomically(readme, lambda file: file.write(content.encode()))


def table1():
    """Table 1 in short, and what is wrong with the published figures."""
    result = json.loads((RESULTS / "table1.json").read_text())
    errata, bounds = result["demonstration"], result["limits"]
    report, default = ({row["label"]: row for row in result["tables"][name]} for name in ("report", "default"))
    lines = ["| row | published PSNR | by the report's definition | held-out PSNR / SSIM, recipe `report` | "
             "held-out PSNR / SSIM, recipe `default` | PSNR of its mean MSE | yardstick for that |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for size in SIZES:
        limits = bounds[str(size)]
        for label in [f"{quant} {size}" for quant in QUANTS] + [f"naive + noise {size}", f"commit 256,{size}"]:
            a, b = report.get(label), default[label]
            published = "none" if a is None or a["published"] is None else f"{a['published'][0]:.2f}"
            definition = "" if a is None else f"{a['report_image']['psnr'][0]:.2f}"
            as_report = "" if a is None else f"{plus_minus(a['held_out']['psnr'])} / {a['held_out']['ssim'][0]:.2f}"
            yardstick = f"PCA {limits['pca']:.2f}" if b["quant"] == "vanilla" else f"Gaussian {limits['gaussian']:.2f}"
            lines.append(f"| {label} | {published} | {definition} | {as_report} | {plus_minus(b['held_out']['psnr'])} / "
                         f"{b['held_out']['ssim'][0]:.2f} | {b['held_out']['psnr_of_mean_mse'][0]:.2f} | {yardstick} |")
    lines += ["", f"MNIST (exact), seeds {', '.join(map(str, result['seeds']))}, mean ± standard deviation; held-out: the "
              "10,000 test images; PSNR and SSIM are means over images. "
              f"`{result['command']}` on {result['machine']}, {result['date']}. The yardsticks are on "
              "the mean MSE of the test images: the PSNR that a Gaussian source with their covariance reaches at that many "
              "bits, and PCA with as many floats. *naive + noise* adds noise to the code in training; *256,50* has a "
              "hidden layer. Every figure and setting: [table1.md](benchmarks/results/table1.md).", "",
              "The published order (naive ahead of commit, even of vanilla) is an artefact: the report squared "
              "differences of 8-bit integers, which wrap around at 256. By that definition an all-black picture scores "
              f"{errata['all_black']['report']['psnr']:.1f} dB and the inverted images "
              f"{errata['inverted']['report']['psnr']:.1f} dB, more than every row of the table; correctly computed they "
              f"have {errata['all_black']['correct']['psnr_of_mean_mse']:.1f} and "
              f"{errata['inverted']['correct']['psnr_of_mean_mse']:.1f} dB."]
    return "\n".join(lines)


def _provenance(result):
    return f"`{result['command']}` on {result['machine']}, {result['date']}"


def table2():
    """Table 2 in short, and where chance stands."""
    result = json.loads((RESULTS / "table2.json").read_text())
    unrelated = result["demonstration"]["unrelated"]
    report, default = ({row["label"]: row for row in result["tables"][name]} for name in ("report", "default"))
    lines = ["| row | published PSNR | by the report's definition | held-out PSNR / SSIM, recipe `report` | held-out PSNR / "
             "SSIM, recipe `default` | PSNR of its mean MSE | yardstick for that |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for label, b in default.items():
        a, limits = report.get(label), result["limits"][str(b["latent_size"])]
        published = "" if a is None else f"{a['published'][0]:.2f}"
        definition = "" if a is None else f"{a['report_stack']['psnr'][0]:.2f}"
        as_report = "" if a is None else f"{plus_minus(a['held_out']['psnr'])} / {a['held_out']['ssim'][0]:.2f}"
        yardstick = f"PCA {limits['pca']:.2f}" if b["quant"] == "vanilla" else f"Gaussian {limits['gaussian']:.2f}"
        lines.append(f"| {label} | {published} | {definition} | {as_report} | {plus_minus(b['held_out']['psnr'])} / "
                     f"{b['held_out']['ssim'][0]:.2f} | {b['held_out']['psnr_of_mean_mse'][0]:.2f} | {yardstick} |")
    lines += ["", f"{result['data']}. Small rows have {max(row['seeds'] for row in default.values())} seeds (mean ± "
              "standard deviation), the others one; how many images and epochs each row had says "
              f"[table2.md](benchmarks/results/table2.md): fewer than the report's. {_provenance(result)}. Yardsticks as in "
              "Table 1.", "",
              "By the report's definition an unrelated picture scores "
              f"{unrelated['report']['psnr']:.2f} dB (MSE {unrelated['report']['mse']:.1f}): its naive and fence rows stand "
              "at chance."]
    return "\n".join(lines)


def table3():
    """Table 3 in short."""
    result = json.loads((RESULTS / "table3.json").read_text())
    report, default = ({row["label"]: row for row in result["tables"][name]} for name in ("report", "default"))
    lines = ["| row (epochs of recipe `default`) | bits | published edits | by the report's definition, recipe `report` | "
             "recipe `default` | held-out "
             "edits by length, recipe `default` | exact | random split: held-out edits | exact |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    labels = [*report, *(label.replace(", random split", "") for label in default if label.endswith(LONGER))]
    for label in dict.fromkeys(labels):
        name = label.removesuffix(LONGER)
        a, length = report.get(label), default.get(label)
        random = default.get(f"{name}, random split{label.removeprefix(name)}")
        measured = "report_vanilla" if "vanilla" in label else "report_quantized"
        one = length or random
        lines.append(f"| {label} ({one['epochs']} epochs) | {one['bits']} | " + " | ".join([
            f"{a['published'][0]:.2f}" if a else "", _edits(a, measured), _edits(length, measured), _edits(length, "test"),
            _exact(length), _edits(random, "test"), _exact(random)]) + " |")
    lines += ["", f"{result['data']}. Edits: the mean Levenshtein distance, in characters. Epochs and "
              "seeds of each row, the other distances and example sentences: "
              f"[table3.md](benchmarks/results/table3.md). {_provenance(result)}."]
    return "\n".join(lines)


def _edits(row, key):
    return plus_minus(row[key]["levenshtein"]) if row else ""


def _exact(row):
    return f"{row['test']['exact_match_rate'][0]:.0%}" if row else ""


def speed(model):
    """Training steps against PyTorch, in short."""
    result = json.loads((RESULTS / f"train_step_{model}.json").read_text())
    lines = ["| threads | case | PyTorch eager | NumPy | NumPy + Numba |", "| --- | --- | --- | --- | --- |"]
    for race in result["races"]:
        case = ", ".join(f"{name.removesuffix('_size')} {value}" for name, value in race["case"].items())
        cells = []
        for name in ("torch eager", "numpy", "numpy + numba"):
            row = race["rows"][name]
            faster = "" if name == "torch eager" else f" (×{row['ratio']:.2f})"
            cells.append(f"{row['steps_per_second']:.0f}{faster}")
        lines.append(f"| {race['threads']} | {case} | " + " | ".join(cells) + " |")
    lines += ["", f"Training steps a second (forward, backward, update), and how many times PyTorch's. "
              f"{', '.join(result['versions'])}; {result['machine']}; {result['date']}; "
              f"[all figures](benchmarks/results/train_step_{model}.md)."]
    return "\n".join(lines)


def rate_distortion():
    """Our files beside those of other codecs, in short."""
    return readme_section(json.loads((RESULTS / "rate_distortion.json").read_text()))


def example_output():
    """What the README's first command prints."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(ROOT / "examples" / "mnist_mlp.py"), "--quant", "commit", "--out", directory]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = done.stdout.strip().replace(directory, "runs/mnist-mlp-commit-50")
    return "\n".join("    " + line for line in printed.splitlines())


SECTIONS = {"table1": table1, "table2": table2, "table3": table3, "speed-mlp": functools.partial(speed, "mlp"),
            "speed-cnn": functools.partial(speed, "cnn"), "speed-lstm": functools.partial(speed, "lstm"),
            "rate-distortion": rate_distortion, "example-output": example_output}

if __name__ == "__main__":
    for marked in re.findall(r"<!-- ([\w-]+) -->", (ROOT / "README.md").read_text(encoding="utf-8")):
        if marked != "example-output" or "--no-example" not in sys.argv:
            update(marked, SECTIONS[marked]())
