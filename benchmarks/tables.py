"""The report's Table 1, honestly: every row trained and measured three ways.

    python benchmarks/tables.py --recipes report default --seeds 0 1 2 --jobs 2

1. as published; 2. by the report's own (flawed) definitions on the training images; 3. by correct definitions on the
held-out test images. Rows are trained in parallel processes with one BLAS thread each; a row that is already in --work
with the same settings is not trained again, so an interrupted run goes on. Writes benchmarks/results/table1.json and
.md and benchmarks/results/bottlenecks.png; benchmarks/readme.py then puts the short form into README.md.
"""
import argparse
import hashlib
import json
import re
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinyqae import __version__, backend, experiment, plots, recipes
from tinyqae.checkpoint import write_atomically
from tinyqae.data import load_mnist
from tinyqae.metrics import bounds
from tinyqae.metrics.report import errata_demonstration, report_image_metrics

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SIZES = (10, 50, 100)
QUANTS = ("vanilla", "naive", "fence", "commit")

# Report, Table 1: PSNR, SSIM, MSE, MAE as printed. There is no fence row.
PUBLISHED = {
    ("vanilla", 10): (31.2751, 0.3861, 48.8886, 119.2946), ("naive", 10): (31.8633, 0.4221, 42.9833, 96.4650),
    ("commit", 10): (31.7965, 0.4180, 44.8423, 99.6676), ("vanilla", 50): (32.3890, 0.6910, 38.4118, 94.0038),
    ("naive", 50): (33.0452, 0.5230, 33.2511, 74.9453), ("commit", 50): (32.9476, 0.6812, 34.6837, 70.0960),
    ("vanilla", 100): (33.8850, 0.8651, 27.7169, 71.5690), ("naive", 100): (34.2288, 0.6527, 25.5917, 64.0222),
    ("commit", 100): (33.5612, 0.7730, 30.2342, 59.7807),
}


def rows_of(recipe_name):
    """[(label, Recipe)] of one recipe: the twelve rows and, for the default recipe, what else is worth comparing."""
    rows = [(f"{quant} {size}", recipes.mnist_mlp(recipe_name, quant, (size,))) for size in SIZES for quant in QUANTS]
    if recipe_name == "default":
        for size in SIZES:
            rows.append((f"naive + noise {size}", recipes.naive_with_noise((size,))))
            rows += [(f"{quant} 256,{size}", recipes.mnist_mlp("default", quant, (256, size)))
                     for quant in ("vanilla", "commit")]
    return rows


def train_row(recipe, seed, data_dir, path):
    """Train one row and write its figures to `path`."""
    with backend.blas_threads(1):
        backend.use("numpy")
        data = load_mnist(data_dir, progress=False)
        run = experiment.train_and_measure(recipe, data, seed=seed, progress=False)
        training, _ = recipe.split(data.train_images)
        floats = run.model.decode_floats(run.model.encode(training))
        # The authors' code turned floats into bytes by truncation.
        reconstruction = (floats * 255).astype(np.uint8)
        result = {**run.metrics, "report_definitions": {
            pooling: report_image_metrics(training, reconstruction, pooling) for pooling in ("image", "stack")}}
        examples = experiment.one_of_each(data.test_images, data.test_labels)
        result["examples"] = run.model.reconstruct(examples).tolist()
    text = json.dumps(result)
    write_atomically(path, lambda file: file.write(text.encode()))


def train_missing(rows, seeds, args):
    """Train what --work does not hold yet; returns {(label, seed): result}."""
    data_hash = load_mnist(args.data_dir).sha256
    paths = {}
    for label, recipe in rows:
        for seed in seeds:
            identity = json.dumps([recipe.as_dict(), seed, data_hash, __version__], sort_keys=True)
            name = re.sub(r"\W+", "-", f"{recipe.name} {label}") + f"-seed{seed}"
            paths[label, seed] = Path(args.work) / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}.json"
    missing = [(recipe, seed, paths[label, seed]) for label, recipe in rows for seed in seeds
               if not paths[label, seed].exists()]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(train_row, recipe, seed, args.data_dir, path) for recipe, seed, path in missing]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="rows", unit="row"):
            job.result()
    return {key: json.loads(path.read_text()) for key, path in paths.items()}


def summary(results, label, seeds, *path):
    """(mean, standard deviation) of a figure over the seeds; path: its keys in the result."""
    values = []
    for seed in seeds:
        value = results[label, seed]
        for key in path:
            value = value[key]
        values.append(value)
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def build_tables(all_results, rows_by_recipe, seeds, data):
    """Everything that is published, as plain data."""
    tables = {}
    for recipe_name, rows in rows_by_recipe.items():
        results, table = all_results[recipe_name], []
        for label, recipe in rows:
            size = recipe.model["hidden"][-1]
            first = results[label, seeds[0]]
            row = {"label": label, "quant": recipe.quant, "latent_size": size, "epochs": recipe.epochs,
                   "bits": first["rate"]["bits_per_item"], "cr": first["rate"]["cr"],
                   "training_images": first["settings"]["data"]["training_images"],
                   "published": PUBLISHED.get((recipe.quant, size)) if recipe_name == "report" else None,
                   "seconds": summary(results, label, seeds, "settings", "seconds", "training")[0]}
            for pooling in ("image", "stack"):
                row[f"report_{pooling}"] = {m: summary(results, label, seeds, "report_definitions", pooling, m)
                                            for m in ("psnr", "ssim", "mse", "mae")}
            row["held_out"] = {m: summary(results, label, seeds, "test", m)
                               for m in ("psnr", "ssim", "mse", "mae", "psnr_of_mean_mse")}
            row["dead_bits"] = [results[label, seed]["code"]["dead_bits"] for seed in seeds]
            table.append(row)
        tables[recipe_name] = table
    bound = {str(n): {"gaussian": bounds.gaussian_bound(data.test_images, n),
                      "pca": bounds.pca_psnr(data.train_images, data.test_images, n)} for n in SIZES}
    return {"tables": tables, "bounds": bound, "errata": errata_demonstration(data.train_images)}


def _pm(pair, digits):
    return f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


def report_table(rows):
    """Markdown: the report recipe's rows three ways."""
    lines = ["| row | published PSNR / SSIM / MSE / MAE | report's definitions, training images | stack-wise | "
             "held-out, correct: PSNR | of the mean MSE | SSIM |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        published = "not published" if row["published"] is None else (
            "{:.2f} / {:.3f} / {:.1f} / {:.0f}".format(*row["published"]))
        flawed = ["{:.2f} / {:.3f} / {:.1f} / {:.0f}".format(*(row[f"report_{p}"][m][0]
                                                                for m in ("psnr", "ssim", "mse", "mae")))
                  for p in ("image", "stack")]
        lines.append(f"| {row['label']} | {published} | {flawed[0]} | {flawed[1]} | {_pm(row['held_out']['psnr'], 2)} | "
                     f"{_pm(row['held_out']['psnr_of_mean_mse'], 2)} | {_pm(row['held_out']['ssim'], 3)} |")
    return "\n".join(lines)


def default_table(rows, bound):
    """Markdown: the default recipe's rows on held-out images, beside what theory allows."""
    lines = ["| row | bits | CR | PSNR dB | SSIM | PSNR of the mean MSE | yardstick | dead bits | train s |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        limits = bound[str(row["latent_size"])]
        yardstick = (f"PCA {limits['pca']:.2f}" if row["quant"] == "vanilla" else f"Gaussian {limits['gaussian']:.2f}")
        lines.append(f"| {row['label']} | {row['bits']} | {row['cr']:.2f} | {_pm(row['held_out']['psnr'], 2)} | "
                     f"{_pm(row['held_out']['ssim'], 3)} | {_pm(row['held_out']['psnr_of_mean_mse'], 2)} | {yardstick} | "
                     f"{max(row['dead_bits'])} | {row['seconds']:.0f} |")
    return "\n".join(lines)


def as_markdown(published, meta):
    """The whole results page."""
    errata, seeds = published["errata"], ", ".join(map(str, meta["seeds"]))
    parts = ["# Table 1: the MLP on MNIST", "",
             f"Data: {meta['data']} (SHA-256 of the content {meta['data_sha256'][:16]}…). Seeds {seeds}; ± is the standard "
             f"deviation over them. `{meta['command']}`, {meta['machine']}, kernels {meta['kernels']}, one BLAS thread a "
             f"row, {meta['date']}.", ""]
    tables = published["tables"]
    if "report" in tables:
        parts += ["## Recipe `report`", "",
                  "The settings behind the report's Table 1 (batch 16, 10 epochs, all 60,000 training images). Second and "
                  "third column: the report's flawed definitions (uint8 differences that wrap around), pooled per image "
                  "as Table 1 and stack-wise as the authors' notebooks. PSNR / SSIM / MSE / MAE.", "",
                  report_table(tables["report"]), "",
                  "By these definitions an all-black \"reconstruction\" of every training image scores "
                  f"{errata['all_black']['report']['psnr']:.1f} dB and the inverted images "
                  f"{errata['inverted']['report']['psnr']:.1f} dB, more than any row above; correctly computed they have "
                  f"{errata['all_black']['correct']['psnr_of_mean_mse']:.1f} and "
                  f"{errata['inverted']['correct']['psnr_of_mean_mse']:.1f} dB.", ""]
    if "default" in tables:
        parts += ["## Recipe `default`", "",
                  "The best training found on the validation split; 55,000 training images, held-out test images. PSNR and "
                  "SSIM are means over images. The yardsticks are PSNRs of the mean MSE on the test images: the bits a "
                  "Gaussian source with their covariance needs, and PCA with as many floats.", "",
                  default_table(tables["default"], published["bounds"]), ""]
    return "\n".join(parts)


def draw_bottlenecks(results, seed, data):
    """The README's first picture: the same digits through the four bottlenecks of 50."""
    originals = experiment.one_of_each(data.test_images, data.test_labels)
    rows = [("original, 6272 bits", originals)]
    for quant in QUANTS:
        result = results[f"{quant} 50", seed]
        bits = result["rate"]["bits_per_item"]
        rows.append((f"{quant}, {bits} bits", np.array(result["examples"], np.uint8)))
    plots.reconstructions(RESULTS / "bottlenecks.png", "MNIST test digits through the four bottlenecks (784-50-784)", rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", choices=recipes.RECIPES, nargs="+", default=["report", "default"])
    parser.add_argument("--seeds", type=experiment.non_negative_int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=experiment.positive_int, default=2, help="rows trained at the same time")
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--work", default="runs/table1", metavar="DIR", help="one JSON for each trained row")
    args = parser.parse_args()
    data = load_mnist(args.data_dir)
    rows = {name: rows_of(name) for name in args.recipes}
    results = {name: train_missing(rows[name], args.seeds, args) for name in args.recipes}
    published = build_tables(results, rows, args.seeds, data)
    command = "python benchmarks/tables.py --recipes {} --seeds {}".format(" ".join(args.recipes),
                                                                           " ".join(map(str, args.seeds)))
    one = next(iter(results[args.recipes[0]].values()))["settings"]
    meta = {"data": f"MNIST, exact; {len(data.train_images)} training and {len(data.test_images)} test images",
            "data_sha256": data.sha256, "seeds": args.seeds, "command": command, "machine": one["backend"],
            "kernels": one["kernels"], "versions": one["versions"], "date": time.strftime("%Y-%m-%d")}
    text = as_markdown(published, meta)
    print(text)
    write_atomically(RESULTS / "table1.md", lambda file: file.write(text.encode()))
    write_atomically(RESULTS / "table1.json",
                     lambda file: file.write((json.dumps({**meta, **published}, indent=1) + "\n").encode()))
    if set(args.recipes) == set(recipes.RECIPES):
        draw_bottlenecks(results["default"], args.seeds[0], data)


if __name__ == "__main__":
    main()
