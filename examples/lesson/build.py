"""Build the lesson's page, lesson.html, and the comparison in the READMEs, from templates and from what was measured.

    python examples/lesson/build.py            writes lesson.html next to this script, and the table in both READMEs
    python examples/lesson/build.py --out F    writes the page to F, and nothing else

The network in the page is the shipped model mlp-50. What the page says of trainings comes from training.json,
comparison.json, digits.png and sweep.png, which measure.py writes. The same inputs give the same bytes. Needs
`pip install jinja2`.
"""

import base64
import json
import statistics
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from tinyqae.checkpoint import write_atomically
from tinyqae.cli.program import OneLineParser, run_main
from tinyqae.codec.models import shipped

HERE = Path(__file__).parent
GRADIENT_WEIGHTS = (0.0, 0.1, 1.0, 10.0)
MOST_BYTES = 400_000
READMES = (HERE.parent / "README.md", HERE.parents[1] / "README.md")
SOURCE = (
    "Held-out figures, means ± standard deviations over three seeds; edits in characters, fewer is better. MNIST; a "
    "proxy of CIFAR-10, most of whose images were decoded from JPEGs, 2 epochs; Anki sentences, split by length."
)


def network():
    """The arrays of the shipped MLP, as text. The bias of the encoder and its batch norm are one scale and one shift."""
    model = shipped("mlp-50")
    dense, norm = model.encoder.layers
    (output,) = model.decoder.layers
    scale = norm.params["gamma"] / np.sqrt(norm.state["variance"] + norm.eps)
    shift = norm.params["beta"] + (dense.params["b"] - norm.state["mean"]) * scale
    return {
        "mean": floats(model.mean_image.ravel()),
        "w1": bfloat16(dense.params["w"]),
        "scale": floats(scale),
        "shift": floats(shift),
        "w2": bfloat16(output.params["w"]),
        "b2": floats(output.params["b"]),
    }


def base64_text(array):
    return base64.b64encode(array.tobytes()).decode()


def floats(values):
    """Little-endian float32."""
    return base64_text(np.asarray(values, "<f4"))


def bfloat16(values):
    """The upper halves of float32 values, whose lower halves are 0: shipped weights have 8 significant bits."""
    halves = np.ascontiguousarray(values, "<f4").view("<u2").reshape(-1, 2)
    if halves[:, 0].any():
        raise ValueError("a weight has more than 8 significant bits, so it is no bfloat16")
    return base64_text(halves[:, 1])


def digits():
    """The ten digits of digits.png, 784 bytes each."""
    sheet = np.asarray(Image.open(HERE / "digits.png"))
    return [base64_text(digit) for digit in sheet.reshape(28, 10, 28).transpose(1, 0, 2)]


def model_data(runs):
    """Section 6: for each weight and epoch, seed 0's histogram and PSNR; for each weight, the seeds' PSNR at the end."""
    mlp = [run for run in runs if run["model"] == "mlp"]
    weights = sorted({run["weight"] for run in mlp})
    first = {run["weight"]: run["epochs"] for run in mlp if run["seed"] == 0}
    shown = [[{"psnr": round(e["psnr"], 3), "latents": e["latents"]} for e in first[weight]] for weight in weights]
    sweep = base64.b64encode((HERE / "sweep.png").read_bytes()).decode()
    return {
        "weights": weights,
        "epochs": [e["epoch"] for e in first[weights[0]]],
        "runs": shown,
        "psnr": [[round(run["psnr"], 3) for run in mlp if run["weight"] == weight] for weight in weights],
        "sweep": f"data:image/png;base64,{sweep}",
    }


def near_share(run):
    """The share of a histogram's activations in [1/4, 3/4]."""
    counts = run["latents"]
    return sum(counts[len(counts) // 4 : -len(counts) // 4]) / sum(counts)


def gradient_data(runs):
    """Section 7: for each model and weight, the points in time, means over seeds."""
    models = {
        name: [
            mean_points([run for run in runs if run["model"] == name and run["weight"] == weight])
            for weight in GRADIENT_WEIGHTS
        ]
        for name in ("mlp", "cnn")
    }
    return {"weights": GRADIENT_WEIGHTS, "models": models}


def mean_points(runs):
    keys = ("right_sign", "pushed", "better_flipped", "near", "flips", "psnr")
    return [
        {"step": same[0]["step"], **{key: round(statistics.mean(point[key] for point in same), 5) for key in keys}}
        for same in zip(*(run["points"] for run in runs), strict=True)
    ]


def spread(values, decimals=2):
    """Mean and standard deviation over seeds."""
    return f"{statistics.mean(values):.{decimals}f} ± {statistics.stdev(values):.{decimals}f}"


def comparison_table(runs):
    """{bottleneck: {(model, which settings): text}} of the controlled comparison and of each bottleneck's best settings."""
    found = {}
    for run in runs:
        figure = run["edits"] if run["model"] == "lstm" else run["psnr"]
        found.setdefault(run["bottleneck"], {}).setdefault((run["model"], run["settings"]), []).append(figure)
    return {kind: {key: spread(values) for key, values in cells.items()} for kind, cells in found.items()}


def comparison_means(runs):
    """{(bottleneck, model, which settings): mean over seeds} of the same."""
    found = {}
    for run in runs:
        key = run["bottleneck"], run["model"], run["settings"]
        found.setdefault(key, []).append(run["edits"] if run["model"] == "lstm" else run["psnr"])
    return {key: statistics.mean(values) for key, values in found.items()}


def build():
    """The page, as text."""
    training = json.loads((HERE / "training.json").read_text())
    comparison = json.loads((HERE / "comparison.json").read_text())
    runs = training["runs"]
    seeds = {}
    for run in runs:
        seeds.setdefault((run["model"], run["weight"]), []).append(run["psnr"])
    mlp = {weight: statistics.mean(values) for (name, weight), values in seeds.items() if name == "mlp"}
    gain = max(mlp.values()) - mlp[0.0]
    model = model_data(runs)
    data = {"network": network(), "digits": digits(), "model": model, "gradients": gradient_data(runs)}
    facts = {
        name: {weight: points for weight, points in zip(GRADIENT_WEIGHTS, of_model, strict=True)}
        for name, of_model in data["gradients"]["models"].items()
    }
    first, last = (model["runs"][model["weights"].index(weight)] for weight in (0.0, 10.0))
    near = [near_share(first[-1]), near_share(last[-1]), near_share(last[1]) - near_share(last[-1])]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.0f}%" if share >= 0.1 else f"{100 * share:.1f}%"
    return environment.get_template("page.html").render(
        css=(HERE / "page.css").read_text().rstrip(),
        js=(HERE / "page.js").read_text().rstrip(),
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        weights=model["weights"],
        epochs=model["epochs"],
        facts=facts,
        psnr={key: spread(values) for key, values in seeds.items()},
        gain=gain,
        near=near,
        means=comparison_means(comparison["runs"]),
        comparison=comparison_table(comparison["runs"]),
        training=training,
        compared=comparison,
        source=SOURCE,
    )


def comparison_markdown(comparison):
    """The controlled comparison as a Markdown table."""
    heads = (f"{head}: one recipe | own best" for head in ("MLP 50, PSNR in dB", "CNN small, PSNR in dB", "LSTM 64, edits"))
    lines = [f"| | {' | '.join(heads)} |", "| --- " * 7 + "|"]
    columns = [(model, which) for model in ("mlp", "cnn", "lstm") for which in ("same", "own")]
    for kind, cells in comparison_table(comparison["runs"]).items():
        lines.append(" | ".join([f"| {kind}", *(cells.get(column, "") for column in columns)]) + " |")
    return "\n".join([*lines, "", f"{SOURCE} `{comparison['command']}`"])


def with_comparison(readme, comparison):
    """The text of a README with the comparison between its markers."""
    before, rest = readme.split("<!-- comparison -->\n")
    _, after = rest.split("<!-- /comparison -->")
    return f"{before}<!-- comparison -->\n{comparison_markdown(comparison)}\n<!-- /comparison -->{after}"


def main():
    parser = OneLineParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="default: lesson.html next to this script")
    args = parser.parse_args()
    page = build().encode()
    if len(page) > MOST_BYTES:
        raise SystemExit(f"the page has {len(page):,} bytes; at most {MOST_BYTES:,} are meant to be downloaded")
    out = args.out or HERE / "lesson.html"
    write_atomically(out, lambda file: file.write(page))
    print(f"wrote {out}: {len(page):,} bytes")
    if args.out is None:
        comparison = json.loads((HERE / "comparison.json").read_text())
        for path in READMES:
            text = with_comparison(path.read_text(), comparison).encode()
            write_atomically(path, lambda file, text=text: file.write(text))


if __name__ == "__main__":
    run_main(main)
