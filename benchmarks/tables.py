"""The report's Tables 1 and 2, honestly: every row trained and measured three ways.

    python benchmarks/tables.py --table 1 --recipes report default --seeds 0 1 2 --jobs 2
    python benchmarks/tables.py --table 2 --reduced          on parts of the data, as each row says: an hour on two cores

1. as published; 2. by the report's own (flawed) definitions on the images that it measured; 3. by correct definitions on
the held-out test images. Rows are trained in parallel processes with one thread each; a row that is already in --work
with the same settings is not trained again, so an interrupted run goes on. Writes benchmarks/results/tableK.json and .md
and a picture; benchmarks/readme.py then puts the short form into README.md.
"""
import argparse
import hashlib
import json
import re
import statistics
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinyqae import __version__, backend, experiment, plots, recipes
from tinyqae.checkpoint import write_atomically
from tinyqae.data import load_cifar10, load_mnist
from tinyqae.metrics import bounds
from tinyqae.metrics import image as image_metrics
from tinyqae.metrics.report import errata_demonstration, report_image_metrics

RESULTS = Path(__file__).resolve().parent / "results"
QUANTS = ("vanilla", "naive", "fence", "commit")
METRICS = ("psnr", "ssim", "mse", "mae")


@dataclass(frozen=True)
class Row:
    """One row: how it is trained, on the first `images` training images (None: all), and with how many of the seeds."""

    label: str
    size: object
    recipe: object
    images: int | None = None
    most_seeds: int | None = None

    def seeds(self, seeds):
        """Those of the seeds that this row is trained with."""
        return seeds[:self.most_seeds]


class Table1:
    """The MLP on MNIST."""

    title = "Table 1: the MLP on MNIST"
    sizes = (10, 50, 100)
    picture = "bottlenecks.png", "MNIST test digits through the four bottlenecks (784-50-784)", 50
    # Report, Table 1: PSNR, SSIM, MSE, MAE as printed. There is no fence row.
    published = {
        ("vanilla", 10): (31.2751, 0.3861, 48.8886, 119.2946), ("naive", 10): (31.8633, 0.4221, 42.9833, 96.4650),
        ("commit", 10): (31.7965, 0.4180, 44.8423, 99.6676), ("vanilla", 50): (32.3890, 0.6910, 38.4118, 94.0038),
        ("naive", 50): (33.0452, 0.5230, 33.2511, 74.9453), ("commit", 50): (32.9476, 0.6812, 34.6837, 70.0960),
        ("vanilla", 100): (33.8850, 0.8651, 27.7169, 71.5690), ("naive", 100): (34.2288, 0.6527, 25.5917, 64.0222),
        ("commit", 100): (33.5612, 0.7730, 30.2342, 59.7807),
    }

    @staticmethod
    def load(data_dir):
        return load_mnist(data_dir, progress=False)

    def rows(self, recipe_name, reduced):
        """The twelve rows and, for the default recipe, what else is worth comparing; never reduced: it takes minutes."""
        rows = [Row(f"{quant} {size}", size, recipes.mnist_mlp(recipe_name, quant, (size,)))
                for size in self.sizes for quant in QUANTS]
        if recipe_name == "default":
            for size in self.sizes:
                rows.append(Row(f"naive + noise {size}", size, recipes.naive_with_noise((size,))))
                rows += [Row(f"{quant} 256,{size}", size, recipes.mnist_mlp("default", quant, (256, size)))
                         for quant in ("vanilla", "commit")]
        return rows

    @staticmethod
    def latent_size(size):
        return size

    @staticmethod
    def measured_on(training_images):
        """The report measured on all training images."""
        return training_images

    @staticmethod
    def demonstration(data):
        return errata_demonstration(data.train_images)

    @staticmethod
    def remark(demonstration):
        black, inverted = demonstration["all_black"], demonstration["inverted"]
        return ("By the report's definitions an all-black \"reconstruction\" of every training image scores "
                f"{black['report']['psnr']:.1f} dB and the inverted images {inverted['report']['psnr']:.1f} dB, more than "
                f"any row above; correctly computed they have {black['correct']['psnr_of_mean_mse']:.1f} and "
                f"{inverted['correct']['psnr_of_mean_mse']:.1f} dB.")


class Table2:
    """The CNN on CIFAR-10."""

    title = "Table 2: the CNN on CIFAR-10"
    sizes = ("small", "medium", "large")
    picture = "bottlenecks_cifar.png", "{data} test images through the four bottlenecks (CNN small)", "small"
    # Report, Table 2: PSNR, SSIM, MSE as printed; it has no MAE.
    published = {
        ("vanilla", "small"): (29.0800, 0.9013, 80.3677), ("naive", "small"): (27.9230, 0.5404, 104.9021),
        ("commit", "small"): (28.6237, 0.8413, 89.2711), ("fence", "small"): (27.9546, 0.5562, 104.1400),
        ("vanilla", "medium"): (29.4380, 0.9323, 74.0077), ("naive", "medium"): (27.8886, 0.6400, 105.7349),
        ("commit", "medium"): (28.8654, 0.8842, 84.4380), ("fence", "medium"): (28.0009, 0.6909, 103.0374),
        ("vanilla", "large"): (29.5720, 0.9425, 71.7605), ("naive", "large"): (28.1532, 0.7706, 99.4850),
        ("commit", "large"): (28.8930, 0.9006, 83.9042), ("fence", "large"): (28.0028, 0.7566, 102.9923),
    }

    @staticmethod
    def load(data_dir):
        return load_cifar10(data_dir, allow_modified_data=True, progress=False)

    def rows(self, recipe_name, reduced):
        """The twelve rows. Reduced: 10,000 images, fewer epochs, one seed but for the small model; beside them, small
        vanilla and commit by the whole default recipe.
        """
        rows = [Row(f"{quant} {size}", size, recipes.cifar_cnn(recipe_name, quant, size))
                for size in self.sizes for quant in QUANTS]
        if not reduced:
            return rows
        epochs = {"report": 3, "default": 8}[recipe_name]
        whole = [replace(row, label=f"{row.label}, all images", most_seeds=1) for row in rows
                 if row.label in ("vanilla small", "commit small") and recipe_name == "default"]
        return [replace(row, images=10_000, recipe=row.recipe.override(epochs=epochs),
                        most_seeds=None if row.size == "small" else 1) for row in rows] + whole

    def latent_size(self, size):
        return 256 * (1 + self.sizes.index(size))

    @staticmethod
    def measured_on(training_images):
        """The report measured on the first 1,000 training images."""
        return training_images[:1000]

    @staticmethod
    def demonstration(data):
        """Every one of the 1,000 images scored against another, unrelated one (the next)."""
        images = data.train_images[:1000]
        unrelated = np.roll(images, 1, axis=0)
        return {"unrelated": {"report": report_image_metrics(images, unrelated, "stack"),
                              "correct": image_metrics.image_metrics(images, unrelated)}}

    @staticmethod
    def remark(demonstration):
        unrelated = demonstration["unrelated"]
        return ("Chance: scored against an unrelated image, the same 1,000 images get "
                f"{unrelated['report']['psnr']:.2f} dB and MSE {unrelated['report']['mse']:.1f} by the report's "
                f"definition (correct: {unrelated['correct']['psnr_of_mean_mse']:.1f} dB). The published naive and fence "
                "rows, 27.89 to 28.15 dB, stand there.")


TABLES = {1: Table1(), 2: Table2()}


def train_row(number, recipe, seed, train_images, data_dir, path):
    """Train one row and write its figures to `path`."""
    table = TABLES[number]
    backend.use("numpy")
    backend.use_threads(1)
    data = table.load(data_dir)
    run = experiment.train_and_measure(recipe, data, seed=seed, train_images=train_images, progress=False)
    images = table.measured_on(data.train_images)
    floats = run.model.decode_floats(run.model.encode(images))
    # The authors' code turned floats into bytes by truncation.
    reconstruction = (floats * 255).astype(np.uint8)
    result = {**run.metrics, "report_definitions": {
        pooling: report_image_metrics(images, reconstruction, pooling) for pooling in ("image", "stack")}}
    result["same_images"] = image_metrics.image_metrics(images, run.model.reconstruct(images))
    examples = experiment.one_of_each(data.test_images, data.test_labels)
    result["examples"] = run.model.reconstruct(examples).tolist()
    text = json.dumps(result)
    write_atomically(path, lambda file: file.write(text.encode()))


def train_missing(rows, data, args):
    """Train what --work does not hold yet; returns {(label, seed): result}."""
    paths = {}
    for row in rows:
        for seed in row.seeds(args.seeds):
            identity = json.dumps([row.recipe.as_dict(), row.images, seed, data.sha256, __version__], sort_keys=True)
            name = re.sub(r"\W+", "-", f"table{args.table} {row.recipe.name} {row.label}") + f"-seed{seed}"
            paths[row.label, seed] = Path(args.work) / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}.json"
    missing = [(row.recipe, seed, row.images, paths[row.label, seed]) for row in rows for seed in row.seeds(args.seeds)
               if not paths[row.label, seed].exists()]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(train_row, args.table, recipe, seed, images, args.data_dir, path)
                for recipe, seed, images, path in missing]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="rows", unit="row"):
            job.result()
    return {key: json.loads(path.read_text()) for key, path in paths.items()}


def summary(results, label, seeds, *path):
    """(mean, standard deviation or None for one seed) of a figure over the seeds; path: its keys in the result."""
    values = []
    for seed in seeds:
        value = results[label, seed]
        for key in path:
            value = value[key]
        values.append(value)
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def build_rows(table, rows, results, seeds):
    """One recipe's rows with all their figures, as plain data."""
    built = []
    for planned in rows:
        label, size, recipe, own_seeds = planned.label, planned.size, planned.recipe, planned.seeds(seeds)
        first = results[label, own_seeds[0]]
        row = {"label": label, "quant": recipe.quant, "latent_size": table.latent_size(size), "epochs": recipe.epochs,
               "seeds": own_seeds, "bits": first["rate"]["bits_per_item"], "cr": first["rate"]["cr"],
               "training_images": first["settings"]["data"]["training_images"],
               "published": table.published.get((recipe.quant, size)) if recipe.name == "report" else None,
               "seconds": summary(results, label, own_seeds, "settings", "seconds", "training")[0],
               "dead_bits": [results[label, seed]["code"]["dead_bits"] for seed in own_seeds]}
        for pooling in ("image", "stack"):
            row[f"report_{pooling}"] = {m: summary(results, label, own_seeds, "report_definitions", pooling, m)
                                        for m in METRICS}
        for key, part in (("held_out", "test"), ("same_images", "same_images")):
            row[key] = {m: summary(results, label, own_seeds, part, m) for m in (*METRICS, "psnr_of_mean_mse")}
        built.append(row)
    return built


def limits(table, data):
    """{latent size: {"gaussian", "pca"}} in dB: what theory allows at as many bits or floats."""
    sizes = [table.latent_size(size) for size in table.sizes]
    return {str(n): {"gaussian": bounds.gaussian_bound(data.test_images, n),
                     "pca": bounds.pca_psnr(data.train_images, data.test_images, n)} for n in sizes}


def _pm(pair, digits):
    return f"{pair[0]:.{digits}f}" + (f" ± {pair[1]:.{digits}f}" if pair[1] is not None else "")


def _effort(row):
    return f"{row['training_images']} x {row['epochs']} x {len(row['seeds'])}"


def _figures(values):
    return " / ".join(f"{value:.{digits}f}" for value, digits in zip(values, (2, 3, 1, 0), strict=False))


def report_table(rows):
    """Markdown: the report recipe's rows three ways."""
    lines = ["| row | images x epochs x seeds | published | per image | stack-wise | same images, correct: PSNR of the mean "
             "MSE | held-out, correct: PSNR | of the mean MSE | SSIM |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        published = "not published" if row["published"] is None else _figures(row["published"])
        flawed = [_figures([row[f"report_{pooling}"][m][0] for m in METRICS]) for pooling in ("image", "stack")]
        lines.append(f"| {row['label']} | {_effort(row)} | {published} | {flawed[0]} | "
                     f"{flawed[1]} | {_pm(row['same_images']['psnr_of_mean_mse'], 2)} | "
                     f"{_pm(row['held_out']['psnr'], 2)} | {_pm(row['held_out']['psnr_of_mean_mse'], 2)} | "
                     f"{_pm(row['held_out']['ssim'], 3)} |")
    return "\n".join(lines)


def default_table(rows, limits_by_size):
    """Markdown: the default recipe's rows on held-out images, beside what theory allows."""
    lines = ["| row | images x epochs x seeds | bits | CR | PSNR dB | SSIM | PSNR of the mean MSE | yardstick | dead bits | "
             "train s |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        limit = limits_by_size[str(row["latent_size"])]
        yardstick = f"PCA {limit['pca']:.2f}" if row["quant"] == "vanilla" else f"Gaussian {limit['gaussian']:.2f}"
        lines.append(f"| {row['label']} | {_effort(row)} | {row['bits']} | {row['cr']:.2f} | "
                     f"{_pm(row['held_out']['psnr'], 2)} | {_pm(row['held_out']['ssim'], 3)} | "
                     f"{_pm(row['held_out']['psnr_of_mean_mse'], 2)} | {yardstick} | {max(row['dead_bits'])} | "
                     f"{row['seconds']:.0f} |")
    return "\n".join(lines)


def as_markdown(table, published, meta):
    """The whole results page."""
    parts = [f"# {table.title}", "",
             f"Data: {meta['data']} (SHA-256 of the content {meta['data_sha256'][:16]}…). Seeds "
             f"{', '.join(map(str, meta['seeds']))}; ± is the standard deviation over them. `{meta['command']}`, "
             f"{meta['machine']}, kernels {meta['kernels']}, one thread a row, {meta['date']}.", ""]
    tables = published["tables"]
    if "report" in tables:
        parts += ["## Recipe `report`", "",
                  "The settings behind the report's table. Published, per image, stack-wise: PSNR / SSIM / MSE / MAE by the "
                  "report's flawed definitions (uint8 differences that wrap around), on the training images that it "
                  "measured; pooled per image (as its Table 1) and over the whole stack (as its Table 2 and the authors' "
                  "notebooks).", "", report_table(tables["report"]), "", table.remark(published["demonstration"]), ""]
    if "default" in tables:
        parts += ["## Recipe `default`", "",
                  "The best training found on a validation split of the training images. PSNR and SSIM are means over the "
                  "held-out test images. The yardsticks are PSNRs of the mean MSE on them: what a Gaussian source with "
                  "their covariance needs that many bits for, and PCA with as many floats.", "",
                  default_table(tables["default"], published["limits"]), ""]
    return "\n".join(parts)


def draw_bottlenecks(table, results, seed, data):
    """The same test images through the four bottlenecks."""
    name, title, size = table.picture
    rows = [("original", experiment.one_of_each(data.test_images, data.test_labels))]
    for quant in QUANTS:
        result = results[f"{quant} {size}", seed]
        bits = result["rate"]["bits_per_item"]
        rows.append((f"{quant}, {bits} bits", np.array(result["examples"], np.uint8)))
    plots.reconstructions(RESULTS / name, title.format(data=data.name), rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=int, choices=TABLES, default=1)
    parser.add_argument("--recipes", choices=recipes.RECIPES, nargs="+", default=["report", "default"])
    parser.add_argument("--seeds", type=experiment.non_negative_int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reduced", action="store_true",
                        help="fewer images, epochs and seeds where a row would take hours; every row says so")
    parser.add_argument("--jobs", type=experiment.positive_int, default=2, help="rows trained at the same time")
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--work", default="runs/tables", metavar="DIR", help="one JSON for each trained row")
    args = parser.parse_args()
    table = TABLES[args.table]
    data = table.load(args.data_dir)
    published, results = {"tables": {}}, {}
    for name in args.recipes:
        rows = table.rows(name, args.reduced)
        results[name] = train_missing(rows, data, args)
        published["tables"][name] = build_rows(table, rows, results[name], args.seeds)
    published |= {"limits": limits(table, data), "demonstration": table.demonstration(data)}
    command = f"python benchmarks/tables.py --table {args.table} --recipes {' '.join(args.recipes)} --seeds " + " ".join(
        map(str, args.seeds)) + " --reduced" * args.reduced
    one = next(iter(results[args.recipes[0]].values()))["settings"]
    meta = {"data": f"{data.name}; {len(data.train_images)} training and {len(data.test_images)} test images",
            "data_sha256": data.sha256, "seeds": args.seeds, "command": command, "machine": one["backend"],
            "kernels": one["kernels"], "versions": one["versions"], "date": time.strftime("%Y-%m-%d")}
    text = as_markdown(table, published, meta)
    print(text)
    write_atomically(RESULTS / f"table{args.table}.md", lambda file: file.write(text.encode()))
    write_atomically(RESULTS / f"table{args.table}.json",
                     lambda file: file.write((json.dumps({**meta, **published}, indent=1) + "\n").encode()))
    draw_bottlenecks(table, results[args.recipes[-1]], args.seeds[0], data)


if __name__ == "__main__":
    main()
