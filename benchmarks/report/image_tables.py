"""Tables 1 and 2 of the report: the rows, how they are trained and measured, and the figures and Markdown made from them."""

from dataclasses import replace

import numpy as np

from tinyqae import plots, recipes
from tinyqae.bottlenecks import VARIANTS
from tinyqae.data import load_cifar10, load_mnist
from tinyqae.experiment import images
from tinyqae.history import undecided
from tinyqae.metrics.image import image_metrics

from . import bounds, encoder
from .image_metrics import errata_demonstration, report_image_metrics
from .rows import (
    ALL_IMAGES,
    FULL,
    IN_FULL,
    QUANTS,
    QUICK,
    TRANSFORM,
    TRANSFORM_IN_WORDS,
    Row,
    effort,
    from_png,
    plus_minus,
    summary,
    to_png,
)

METRICS = ("psnr", "ssim", "mse", "mae")
OTHER_WEIGHTS = (0.0, 0.01, 0.1, 0.3, 3.0, 10.0)
"""Weights of the commit loss in addition to the default recipe's own."""


class ImageTable:
    """The base class of Tables 1 and 2. `pooling`: how the report pooled its images. `quick`: how many training and test
    images a quick run uses.
    """

    held_out = "held_out"
    items = "training_images"
    second_run, second_run_key, second_run_words = {}, "report_stack", ", measured over the whole stack"

    def train(self, row, seed, data, directory=None, progress=False):
        """Train one row; returns (its figures and examples as plain data, the model). directory: of the checkpoint, from
        which an interrupted training resumes.
        """
        data = replace(data, test_images=data.test_images[: row.test_items], test_labels=data.test_labels[: row.test_items])
        run = images.train_and_measure(
            row.recipe,
            data,
            seed=seed,
            train_items=row.items,
            directory=directory,
            resume=directory is not None,
            progress=progress,
        )
        measured = self.measured_on(data.train_images, row)
        floats = run.model.decode_floats(run.model.encode(measured))
        # The authors' code truncated floats to bytes.
        reconstruction = (floats * 255).astype(np.uint8)
        result = {
            **run.metrics,
            "report_definitions": {
                pooling: report_image_metrics(measured, reconstruction, pooling) for pooling in ("image", "stack")
            },
            "same_images": image_metrics(measured, run.model.reconstruct(measured)),
            "history": run.history.rows,
            "latents": run.history.latents,
            "examples": to_png(run.model.reconstruct(images.one_of_each(data.test_images, data.test_labels))),
        }
        return result, run.model

    def build(self, row, results):
        """Return one row with all its figures; results: one for each of its seeds."""
        first = results[0]
        built = {
            "label": row.label,
            "quant": row.recipe.quant,
            "size": row.size,
            "latent_size": self.latent_size(row.size),
            "epochs": row.recipe.epochs,
            "seeds": len(results),
            "bits": first["rate"]["bits_per_item"],
            "cr": first["rate"]["cr"],
            "training_images": first["settings"]["data"]["training_images"],
            "published": self.published.get((row.recipe.quant, row.size)) if row.recipe.name == "report" else None,
            "seconds": summary(results, "settings", "seconds", "training")[0],
            "weight": row.recipe.bottleneck.get("weight"),
            "normalized": row.recipe.model.get("normalize_latent", False),
            "dead_bits": [result["code"]["dead_bits"] for result in results],
            "distance_to_bit": summary(results, "code", "distance_to_bit"),
            "undecided": summary([{"share": undecided(result["latents"])} for result in results], "share"),
        }
        for pooling in ("image", "stack"):
            built[f"report_{pooling}"] = {m: summary(results, "report_definitions", pooling, m) for m in METRICS}
        for key, part in (
            ("held_out", "test"),
            ("same_images", "same_images"),
            ("before_threshold", "test_before_threshold"),
        ):
            if part in first:
                built[key] = {m: summary(results, part, m) for m in (*METRICS, "psnr_of_mean_mse")}
        return built

    def report_key(self, _):
        """The key under which a built row has its figures by the report's definitions."""
        return f"report_{self.pooling}"

    def part(self, data, quick):
        """The data of a run; for a quick one, only the first images."""
        if not quick:
            return data
        train, test = self.quick
        return replace(
            data,
            train_images=data.train_images[:train],
            train_labels=data.train_labels[:train],
            test_images=data.test_images[:test],
            test_labels=data.test_labels[:test],
        )

    def extras(self, data):
        """Return what accompanies the rows: "limits", {latent size: {"gaussian", "pca"}} in dB, the theoretical limits at as
        many bits or floats; "demonstration", the scores of nonsense by the report's definitions; and "originals", the test
        images of which the rows' examples are reconstructions.
        """
        limits = bounds.limits(data.train_images, data.test_images, [self.latent_size(size) for size in self.sizes])
        return {
            "limits": {str(size): both for size, both in limits.items()},
            "demonstration": self.demonstration(data),
            "originals": to_png(images.one_of_each(data.test_images, data.test_labels)),
        }

    @staticmethod
    def describe(data):
        """Describe the data."""
        return f"{data.name}; {len(data.train_images)} training and {len(data.test_images)} test images"

    def markdown(self, published):
        """Return the body of the page."""
        tables, parts = published["tables"], []
        if "report" in tables:
            parts += [
                "## Recipe `report`",
                "",
                "The settings behind the report's table. The first three columns of figures are PSNR / SSIM / MSE / MAE "
                "by the report's flawed definitions (uint8 differences that wrap around) on the training images that it "
                "measured: as published, and ours pooled per image (as in its Table 1) and over the whole stack (as in "
                "its Table 2 and the authors' notebooks).",
                "",
                report_table(tables["report"]),
                "",
                self.remark(published["demonstration"]),
                "",
            ]
        if "default" in tables:
            parts += [
                "## Recipe `default`",
                "",
                "The best settings found on a validation split of the training images. PSNR and SSIM are means over "
                "the held-out test images. The references are PSNRs of the mean MSE on the same images: the limit at the "
                "same number of bits for a Gaussian source with their covariance, and PCA with as many floats."
                + TRANSFORM_IN_WORDS
                * any(row["label"].endswith(TRANSFORM) for row in tables["default"]),
                "",
                default_table(tables["default"], published["limits"]),
                "",
            ]
        return "\n".join(parts)

    def draw(self, path, examples, published, quick=False):
        """Draw the same test images through the four bottlenecks, at the size of the picture. examples: {row's label: its
        examples}. Returns whether all four are there; otherwise nothing is drawn.
        """
        title, size = self.picture
        labels = [f"{quant} {size}" for quant in QUANTS]
        if not all(label in examples for label in labels):
            return False
        bits = {row["label"]: row["bits"] for rows in published["tables"].values() for row in rows}
        rows = [("original", from_png(published["originals"]))]
        rows += [
            (f"{quant}, {bits[label]} bits", from_png(examples[label])) for quant, label in zip(QUANTS, labels, strict=True)
        ]
        plots.reconstructions("QUICK RUN. " * quick + title.format(data=published["data"].split(";")[0]), rows, path=path)
        return True


class Table1(ImageTable):
    """The MLP on MNIST."""

    number, model = 1, "MLP"
    title = "Table 1: the MLP on MNIST"
    sizes, figure_size = (10, 50, 100), 50
    pooling, quick = "image", (2000, 500)
    picture = "{data} test digits through the four bottlenecks (784-50-784)", 50
    metrics = METRICS
    # Report, Table 1: PSNR, SSIM, MSE, MAE as printed. There is no fence row.
    published = {
        ("vanilla", 10): (31.2751, 0.3861, 48.8886, 119.2946),
        ("naive", 10): (31.8633, 0.4221, 42.9833, 96.4650),
        ("commit", 10): (31.7965, 0.4180, 44.8423, 99.6676),
        ("vanilla", 50): (32.3890, 0.6910, 38.4118, 94.0038),
        ("naive", 50): (33.0452, 0.5230, 33.2511, 74.9453),
        ("commit", 50): (32.9476, 0.6812, 34.6837, 70.0960),
        ("vanilla", 100): (33.8850, 0.8651, 27.7169, 71.5690),
        ("naive", 100): (34.2288, 0.6527, 25.5917, 64.0222),
        ("commit", 100): (33.5612, 0.7730, 30.2342, 59.7807),
    }
    # Another run of each row, kept in the authors' notebook image_metrics, in the same order.
    second_run = {
        ("vanilla", 10): (31.2585, 0.4977, 48.6667, 118.1506),
        ("naive", 10): (31.6075, 0.3908, 44.9085, 98.2567),
        ("commit", 10): (31.5299, 0.4416, 45.7184, 102.2475),
        ("vanilla", 50): (32.2228, 0.7599, 38.9763, 94.8124),
        ("naive", 50): (33.1094, 0.5687, 31.7790, 73.9733),
        ("commit", 50): (32.7085, 0.7297, 34.8524, 70.6235),
        ("vanilla", 100): (33.7584, 0.9053, 27.3679, 70.1562),
        ("naive", 100): (33.9053, 0.6505, 26.4574, 65.0969),
        ("commit", 100): (33.2130, 0.8075, 31.0296, 62.0462),
    }

    @staticmethod
    def load(data_dir, allow_modified_data=False):
        """MNIST."""
        return load_mnist(data_dir, progress=False)

    def rows(self, recipe_name, amount):
        """The twelve rows and, for the default recipe, further comparisons, including other weights of the commit loss;
        never reduced, since it takes only minutes.
        """
        rows = [
            Row(f"{quant} {size}", size, recipes.mnist_mlp(recipe_name, quant, (size,)))
            for size in self.sizes
            for quant in QUANTS
        ]
        if recipe_name == "default":
            for size in self.sizes:
                vanilla = recipes.mnist_mlp("default", "vanilla", (size,))
                rows.append(Row(f"naive + noise {size}", size, recipes.naive_with_noise(vanilla)))
                rows += [
                    Row(f"{quant} 256,{size}", size, recipes.mnist_mlp("default", quant, (256, size)), most_seeds=3)
                    for quant in ("vanilla", "commit")
                ]
                for widths in ((512, size), (512, 256, size)):
                    label = f"commit {','.join(map(str, widths))}"
                    rows.append(Row(label, size, recipes.mnist_mlp("default", "commit", widths), most_seeds=3))
            size = self.figure_size
            rows += [
                Row(f"{quant} {size}", size, recipes.mnist_mlp("default", quant, (size,)), most_seeds=3)
                for quant in VARIANTS
            ]
            commit = recipes.mnist_mlp("default", "commit", (size,))
            rows += [
                Row(f"commit {size}, weight {weight:g}", size, commit.override(quant_weight=weight), most_seeds=3)
                for weight in OTHER_WEIGHTS
            ]
        return [self._quick(row, 1) for row in rows] if amount == QUICK else rows

    def _quick(self, row, epochs):
        train, test = self.quick
        return replace(row, items=train, test_items=test, recipe=row.recipe.override(epochs=epochs))

    @staticmethod
    def seconds(row):
        """The estimated training time of the row on one core."""
        examples, hidden = (row.items or 60_000) * row.recipe.epochs, len(row.recipe.model["hidden"]) - 1
        return 5 + examples * (3e-5 if row.recipe.name == "report" else 1.5e-5 + 4e-5 * hidden)

    def extras(self, data):
        """Also "gradients": the encoder's, with and without straight-through."""
        return {**super().extras(data), "gradients": encoder.before_and_after(data.train_images)}

    @staticmethod
    def latent_size(size):
        """The number of values in a code."""
        return size

    @staticmethod
    def measured_on(training_images, row):
        """The report measured on all training images."""
        return training_images[: row.items]

    @staticmethod
    def demonstration(data):
        """Return the scores of black and inverted images."""
        return errata_demonstration(data.train_images)

    @staticmethod
    def remark(demonstration):
        """Describe the demonstration in words."""
        black, inverted = demonstration["all_black"], demonstration["inverted"]
        return (
            'By the report\'s definitions an all-black "reconstruction" of every training image scores '
            f"{black['report']['psnr']:.1f} dB and the inverted images {inverted['report']['psnr']:.1f} dB, more than "
            f"any row above; computed correctly, they score {black['correct']['psnr_of_mean_mse']:.1f} and "
            f"{inverted['correct']['psnr_of_mean_mse']:.1f} dB."
        )


class Table2(ImageTable):
    """The CNN on CIFAR-10."""

    number, model = 2, "CNN"
    title = "Table 2: the CNN on CIFAR-10"
    sizes, figure_size = ("small", "medium", "large"), "small"
    pooling, quick = "stack", (600, 300)
    picture = "{data} test images through the four bottlenecks (CNN small)", "small"
    metrics = METRICS[:3]
    # Report, Table 2: PSNR, SSIM, MSE as printed; it has no MAE.
    published = {
        ("vanilla", "small"): (29.0800, 0.9013, 80.3677),
        ("naive", "small"): (27.9230, 0.5404, 104.9021),
        ("commit", "small"): (28.6237, 0.8413, 89.2711),
        ("fence", "small"): (27.9546, 0.5562, 104.1400),
        ("vanilla", "medium"): (29.4380, 0.9323, 74.0077),
        ("naive", "medium"): (27.8886, 0.6400, 105.7349),
        ("commit", "medium"): (28.8654, 0.8842, 84.4380),
        ("fence", "medium"): (28.0009, 0.6909, 103.0374),
        ("vanilla", "large"): (29.5720, 0.9425, 71.7605),
        ("naive", "large"): (28.1532, 0.7706, 99.4850),
        ("commit", "large"): (28.8930, 0.9006, 83.9042),
        ("fence", "large"): (28.0028, 0.7566, 102.9923),
    }

    @staticmethod
    def load(data_dir, allow_modified_data=False):
        """CIFAR-10."""
        return load_cifar10(data_dir, allow_modified_data=allow_modified_data, progress=False)

    def rows(self, recipe_name, amount):
        """The twelve rows and, for the default recipe, naive with noise, what the report did not try, and transform codes;
        at most three seeds. Reduced: 10,000 images, fewer epochs, and one seed (three for the small model), but transform
        codes with commit in full; in addition, some rows on all images (`whole`), and commit for the default recipe's own
        epochs (`in_full`).
        """
        rows = [
            Row(f"{quant} {size}", size, recipes.cifar_cnn(recipe_name, quant, size))
            for size in self.sizes
            for quant in QUANTS
        ]
        if recipe_name == "default":
            rows.insert(4, Row("naive + noise small", "small", recipes.naive_with_noise(rows[0].recipe)))
            rows[5:5] = [Row(f"{quant} small", "small", recipes.cifar_cnn("default", quant, "small")) for quant in VARIANTS]
        transform = [
            Row(
                f"{quant} {size}{TRANSFORM}",
                size,
                recipes.cifar_cnn("default", quant, size, transform=True),
                most_seeds=seeds,
            )
            for size, seeds in zip(self.sizes, (3, 3, 2), strict=True)
            for quant in recipes.TRANSFORM_KINDS
            if recipe_name == "default"
        ]
        if amount == QUICK:
            train, test = self.quick
            return [
                replace(row, items=train, test_items=test, recipe=row.recipe.override(epochs=1)) for row in rows + transform
            ]
        if amount == FULL:
            return [replace(row, most_seeds=3) for row in rows] + transform
        if recipe_name == "report":
            epochs, in_full = 3, ()
            whole = {f"{quant} {size}": (4, seeds) for size, seeds in (("small", 3), ("medium", 1)) for quant in QUANTS}
        else:
            epochs, whole = 4, dict.fromkeys(("vanilla small", "commit small"), (6, 1))
            in_full = ("commit small", "commit medium", "commit large")
        return [
            *(
                replace(
                    row, items=10_000, recipe=row.recipe.override(epochs=epochs), most_seeds=3 if row.size == "small" else 1
                )
                for row in rows
            ),
            *(
                replace(row, label=row.label + ALL_IMAGES, recipe=row.recipe.override(epochs=epochs), most_seeds=seeds)
                for row in rows
                for epochs, seeds in [whole.get(row.label, (0, 0))]
                if seeds
            ),
            *(replace(row, label=row.label + IN_FULL, most_seeds=1) for row in rows if row.label in in_full),
            *(row for row in transform if row.recipe.quant == "commit"),
        ]

    def seconds(self, row):
        """The estimated training time of the row on one core."""
        if row.label.endswith(TRANSFORM):
            return 60 + (row.items or 45_000) * row.recipe.epochs * 1.5e-3
        return 10 + (row.items or 50_000) * row.recipe.epochs * (3e-3 + 2e-3 * self.sizes.index(row.size))

    def latent_size(self, size):
        """The number of values in a code."""
        return 256 * (1 + self.sizes.index(size))

    @staticmethod
    def measured_on(training_images, row):
        """The report measured on the first 1,000 training images."""
        return training_images[: min(row.items or 1000, 1000)]

    @staticmethod
    def demonstration(data):
        """Score each of the 1,000 images against another, unrelated one (the next)."""
        images = data.train_images[:1000]
        unrelated = np.roll(images, 1, axis=0)
        return {
            "unrelated": {
                "report": report_image_metrics(images, unrelated, "stack"),
                "correct": image_metrics(images, unrelated),
            }
        }

    @staticmethod
    def remark(demonstration):
        """Describe the demonstration in words."""
        unrelated = demonstration["unrelated"]
        return (
            "Chance level: scored against an unrelated image, the same 1,000 images get "
            f"{unrelated['report']['psnr']:.2f} dB and MSE {unrelated['report']['mse']:.1f} by the report's "
            f"definition (correct: {unrelated['correct']['psnr_of_mean_mse']:.1f} dB). The published naive and fence "
            "rows, 27.89 to 28.15 dB, are at that level."
        )


def _figures(values):
    return " / ".join(f"{value:.{digits}f}" for value, digits in zip(values, (2, 3, 1, 0), strict=False))


def report_table(rows):
    """Markdown: the report recipe's rows three ways."""
    lines = [
        "| row | images x epochs x seeds | published | ours, per image | ours, whole stack | same images, correct: PSNR of "
        "the mean MSE, dB | held-out, correct: PSNR, dB | PSNR of the mean MSE, dB | SSIM |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        published = "not published" if row["published"] is None else _figures(row["published"])
        flawed = [_figures([row[f"report_{pooling}"][m][0] for m in METRICS]) for pooling in ("image", "stack")]
        lines.append(
            f"| {row['label']} | {effort(row, 'training_images')} | {published} | {flawed[0]} | "
            f"{flawed[1]} | {plus_minus(row['same_images']['psnr_of_mean_mse'], 2)} | "
            f"{plus_minus(row['held_out']['psnr'], 2)} | {plus_minus(row['held_out']['psnr_of_mean_mse'], 2)} | "
            f"{plus_minus(row['held_out']['ssim'], 3)} |"
        )
    return "\n".join(lines)


def default_table(rows, limits_by_size):
    """Markdown: the default recipe's rows on held-out images, with the theoretical limits. "Before the threshold": the PSNR
    if the values seen in training were stored.
    """
    lines = [
        "| row | images x epochs x seeds | bits | compression ratio | PSNR, dB | PSNR before the threshold, dB | SSIM | "
        "PSNR of the mean MSE, dB | reference PSNR, dB | dead bits | training time, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        limit = limits_by_size[str(row["latent_size"])]
        yardstick = f"PCA {limit['pca']:.2f}" if row["quant"] == "vanilla" else f"Gaussian {limit['gaussian']:.2f}"
        before = plus_minus(row["before_threshold"]["psnr"]) if "before_threshold" in row else ""
        lines.append(
            f"| {row['label']} | {effort(row, 'training_images')} | {row['bits']} | {row['cr']:.2f} | "
            f"{plus_minus(row['held_out']['psnr'], 2)} | {before} | {plus_minus(row['held_out']['ssim'], 3)} | "
            f"{plus_minus(row['held_out']['psnr_of_mean_mse'], 2)} | {yardstick} | {max(row['dead_bits'])} | "
            f"{row['seconds']:.0f} |"
        )
    return "\n".join(lines)
