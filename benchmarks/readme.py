"""Put measured results into README.md: what stands between <!-- name --> and <!-- /name --> is replaced.

    python benchmarks/readme.py [--no-example]

Reads benchmarks/results/ and runs the README's first example (unless told not to), so that no figure in the README is
typed.
"""
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tinyqae.checkpoint import write_atomically

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SIZES = (10, 50, 100)
QUANTS = ("vanilla", "naive", "fence", "commit")


def update(name, text):
    """Replace the section `name` of README.md."""
    readme = ROOT / "README.md"
    pattern = re.compile(f"(<!-- {name} -->\\n).*?(<!-- /{name} -->)", re.DOTALL)
    content, count = pattern.subn(lambda match: match[1] + text + "\n" + match[2], readme.read_text(encoding="utf-8"))
    if count != 1:
        sys.exit(f"README.md has {count} sections marked {name}; exactly one is needed")
    write_atomically(readme, lambda file: file.write(content.encode()))


def plus_minus(pair, digits=2):
    """A mean and a standard deviation as text."""
    return f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


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


def speed(model):
    """Training steps against PyTorch, in short."""
    result = json.loads((RESULTS / f"train_step_{model}.json").read_text())
    lines = ["| threads | batch | PyTorch eager | NumPy | NumPy + Numba |", "| --- | --- | --- | --- | --- |"]
    for race in result["races"]:
        cells = []
        for name in ("torch eager", "numpy", "numpy + numba"):
            row = race["rows"][name]
            faster = "" if name == "torch eager" else f" (×{row['ratio']:.2f})"
            cells.append(f"{row['steps_per_second']:.0f}{faster}")
        lines.append(f"| {race['threads']} | {race['case']['batch_size']} | " + " | ".join(cells) + " |")
    lines += ["", f"Training steps a second (forward, backward, update), and how many times PyTorch's. "
              f"{', '.join(result['versions'])}; {result['machine']}; {result['date']}; "
              f"[all figures](benchmarks/results/train_step_{model}.md)."]
    return "\n".join(lines)


def example_output():
    """What the README's first command prints."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(ROOT / "examples" / "mnist_mlp.py"), "--quant", "commit", "--out", directory]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = done.stdout.strip().replace(directory, "runs/mnist-mlp-commit-50")
    return "\n".join("    " + line for line in printed.splitlines())


if __name__ == "__main__":
    update("table1", table1())
    update("speed-mlp", speed("mlp"))
    update("speed-cnn", speed("cnn"))
    if "--no-example" not in sys.argv:
        update("example-output", example_output())
