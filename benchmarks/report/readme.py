"""Put measured results into benchmarks/results/README.md and examples/README.md, and the first example's output into
README.md: the text between <!-- name --> and <!-- /name --> is replaced.

    python -m benchmarks.report.readme [--no-example]

Reads benchmarks/results/ and runs the first example (unless told not to), so that no figure is typed by hand.
"""

import functools
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rate_distortion.page import readme_section
from tinyqae.checkpoint import write_atomically

from . import readme_tables
from .rows import plus_minus

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def update(page, name, text):
    """Replace the section `name` of a page."""
    pattern = re.compile(f"(<!-- {name} -->\\n).*?(<!-- /{name} -->)", re.DOTALL)
    content, count = pattern.subn(lambda match: match[1] + text + "\n" + match[2], page.read_text(encoding="utf-8"))
    if count != 1:
        sys.exit(f"{page} has {count} sections marked {name}; exactly one is needed")
    write_atomically(page, lambda file: file.write(content.encode()))


def speed(model):
    """Return a summary of training steps against PyTorch."""
    result = json.loads((RESULTS / f"train_step_{model}.json").read_text())
    lines = [
        "| threads | case | PyTorch eager | torch.compile | reference engine | fast engine, NumPy | fast engine, Numba |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for race in result["races"]:
        case = ", ".join(f"{name.removesuffix('_size')} {value}" for name, value in race["case"].items())
        cells = []
        for name in ("torch eager", "torch.compile", "reference engine", "numpy", "numpy + numba"):
            row = race["rows"].get(name)
            faster = "" if name == "torch eager" or row is None else f" (×{row['ratio']:.2f})"
            cells.append("" if row is None else f"{row['steps_per_second']:.0f}{faster}")
        lines.append(f"| {race['threads']} | {case} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Training steps per second (forward, backward, update), in brackets the speedup over PyTorch eager. "
        f"{', '.join(result['versions'])}; {result['machine']}; {result['date']}; "
        f"[all figures](train_step_{model}.md).",
    ]
    return "\n".join(lines)


def rate_distortion():
    """Return a summary of our files beside those of other codecs."""
    return readme_section(json.loads((RESULTS / "rate_distortion.json").read_text()))


def hamming_knn(printed=5):
    """Return a table of digits classified by the `printed` nearest codes, a column for each number of epochs."""
    folders = ("hamming_knn", "hamming_knn_20_epochs")
    runs = [json.loads((RESULTS / folder / "results.json").read_text()) for folder in folders]
    lines = [
        "| method | bytes per digit | " + " | ".join(f"{run['epochs']} epochs" for run in runs) + " |",
        "| --- | ---: |" + " ---: |" * len(runs),
    ]
    for method, measured in runs[0]["methods"].items():
        cells = []
        for run in runs:
            place = run["neighbors"].index(printed)
            percent = [100 * one["accuracy"][place] for one in run["methods"][method]]
            cells.append(plus_minus(_mean(percent)))
        lines.append(f"| {method} | {measured[0]['bytes']} | {' | '.join(cells)} |")
    seeds = ", ".join(map(str, runs[0]["seeds"]))
    commands = " and ".join(f"`{run['command']}`" for run in runs)
    return "\n".join(
        [
            *lines,
            "",
            f"Percentage of the test digits of {runs[0]['data']} classified correctly by their {printed} nearest training "
            f"digits, means ± standard deviations over seeds {seeds}; pixels and random projections are not trained. "
            f"{commands}, {runs[-1]['date']}.",
        ]
    )


def nearest_codes():
    """Return a table of digits in 10 bits, encoded by two networks and by trying every code; below it, k-means."""
    runs, simple = tried_codes(), json.loads((RESULTS / "baselines.json").read_text())
    bits, numbers = runs[0]["hidden"][-1], [f"{run['numbers_stored']:,}" for run in runs]
    same = [row for row in simple["rows"] if (row["data"], row["bits"]) == (runs[0]["data"], bits)]
    lines = [
        f"| {bits} bits per digit | " + " | ".join(f"784-{'-'.join(map(str, run['hidden']))}" for run in runs) + " |",
        "| --- |" + " ---: |" * len(runs),
        *(
            f"| {method}, PSNR in dB | " + " | ".join(plus_minus(_mean(run["psnr"][method])) for run in runs) + " |"
            for method in runs[0]["psnr"]
        ),
        f"| the decoder stores, numbers | {' | '.join(numbers)} |",
    ]
    seeds, (epochs, more) = ", ".join(map(str, runs[0]["seeds"])), runs[0]["epochs"]
    commands = " and ".join(f"`{run['command']}`" for run in runs)
    return "\n".join(
        [
            *lines,
            "",
            f"{runs[0]['data']}, held-out digits; {epochs} epochs, then {more} of the decoder alone; means ± standard "
            f"deviations over seeds {seeds}. {commands}, {runs[-1]['date']}. For comparison, {same[0]['method']}: "
            f"{plus_minus(_mean([row['value'] for row in same]))} dB with {same[0]['numbers_stored']:,} numbers.",
        ]
    )


def tried_codes():
    """The runs of examples/nearest_codes.py."""
    folders = ("nearest_codes_no_hidden", "nearest_codes")
    return [json.loads((RESULTS / folder / "results.json").read_text()) for folder in folders]


def _mean(values):
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def example_output():
    """Return the output of the README's first command."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, str(ROOT / "examples" / "mnist_mlp.py"), "--quant", "commit", "--out", directory]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = done.stdout.strip().replace(directory, "runs/mnist-mlp-commit-50")
    return "\n".join("    " + line for line in printed.splitlines())


def beside_baselines(section):
    """Return a section about the baselines."""
    return section(readme_tables.Results(), json.loads((RESULTS / "baselines.json").read_text()), tried_codes())


def of_the_report(section, *arguments):
    """Return a section about the report's tables."""
    return section(readme_tables.Results(), *arguments)


OF_THE_REPORT = {
    "table1": (readme_tables.image_table, 1),
    "table2": (readme_tables.image_table, 2),
    "table3": (readme_tables.text_table,),
    "bottlenecks": (readme_tables.bottlenecks,),
    "claims": (readme_tables.claims,),
}
SECTIONS = {
    **{name: functools.partial(of_the_report, *section) for name, section in OF_THE_REPORT.items()},
    "speed-mlp": functools.partial(speed, "mlp"),
    "speed-cnn": functools.partial(speed, "cnn"),
    "speed-lstm": functools.partial(speed, "lstm"),
    "rate-distortion": rate_distortion,
    "baselines": functools.partial(beside_baselines, readme_tables.baselines),
}

if __name__ == "__main__":
    for name, make in SECTIONS.items():
        update(RESULTS / "README.md", name, make())
    update(ROOT / "README.md", "where-baselines-win", beside_baselines(readme_tables.where_baselines_win))
    update(ROOT / "examples" / "README.md", "hamming-knn", hamming_knn())
    update(ROOT / "examples" / "README.md", "nearest-codes", nearest_codes())
    if "--no-example" not in sys.argv:
        update(ROOT / "README.md", "example-output", example_output())
