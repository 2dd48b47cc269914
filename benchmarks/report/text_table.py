"""Table 3 of the report: the rows, how they are trained and measured, and the figures and Markdown made from them."""

from dataclasses import replace

from tinyqae import recipes
from tinyqae.bottlenecks import VARIANTS
from tinyqae.data import load_anki, split_sentences
from tinyqae.experiment import sentences
from tinyqae.history import undecided
from tinyqae.metrics.text import require_text_packages, text_compression, text_metrics
from tinyqae.tokens import END, to_sentences

from .rows import FULL, IN_FULL, QUANTS, QUICK, Row, effort, plus_minus, summary
from .text_metrics import report_text_metrics

REPORT_METRICS = ("levenshtein", "cosine_distance", "jaccard_distance", "bleu_distance")
METRICS = (*REPORT_METRICS, "exact_match_rate")
SHOWN_HIDDEN = 128
FIGURE_5 = ("wheres your daughter", "whats your full name")
"""The sentences that the report shows, as its models read them."""

SPLIT_WORDS = {"report": "by length", "length": "by length", "random": "random"}


class Table3:
    """The LSTM on the Anki sentences."""

    number, model = 3, "LSTM"
    title = "Table 3: the LSTM on the Anki sentences"
    sizes, figure_size = recipes.HIDDEN_SIZES, 64
    quick = 600, 100
    metrics = REPORT_METRICS
    held_out, items = "test", "training_sentences"
    # Report, Table 3: Levenshtein, cosine, Jaccard, 1 - BLEU as printed.
    published = {
        ("vanilla", 32): (10.36, 0.1066, 0.236, 0.7762),
        ("naive", 32): (15.2, 0.2004, 0.4705, 0.8503),
        ("commit", 32): (13.29, 0.2376, 0.4843, 0.8295),
        ("fence", 32): (16.14, 0.2161, 0.4455, 0.8909),
        ("vanilla", 64): (3.57, 0.0379, 0.0878, 0.4447),
        ("naive", 64): (15.07, 0.1686, 0.3495, 0.8902),
        ("commit", 64): (13.07, 0.2028, 0.4327, 0.8023),
        ("fence", 64): (14.78, 0.1971, 0.4306, 0.9003),
        ("vanilla", 128): (2.25, 0.0136, 0.0165, 0.2151),
        ("naive", 128): (12.2, 0.1347, 0.3147, 0.8209),
        ("commit", 128): (13.21, 0.2233, 0.4706, 0.8123),
        ("fence", 128): (11.39, 0.1879, 0.4044, 0.7665),
        ("vanilla", 256): (3.38, 0.0284, 0.0627, 0.3392),
        ("naive", 256): (10.04, 0.1771, 0.3589, 0.7165),
        ("commit", 256): (10.6, 0.1643, 0.3502, 0.7212),
        ("fence", 256): (9.86, 0.1799, 0.3859, 0.7163),
    }
    # Another run, kept in the authors' seq2seq notebooks.
    second_run = {
        ("naive", 32): (16.65, 0.2063, 0.4819, 0.9797),
        ("commit", 32): (13.66, 0.2194, 0.4125, 0.8612),
        ("fence", 32): (15.14, 0.2112, 0.4389, 0.981),
    }
    second_run_key, second_run_words = "report_quantized", ""

    @staticmethod
    def load(data_dir, allow_modified_data=False):
        """The sentences; MissingPackage if the packages to measure them later are missing."""
        require_text_packages()
        return load_anki(data_dir, progress=False)

    def rows(self, recipe_name, amount):
        """The sixteen rows; for the default recipe once with the report's split and once with a random one, plus, with the
        former, what the report did not try, and commit with wide LSTMs; at most three seeds, and two for the largest LSTM.
        Reduced: fewer epochs and seeds, and commit a second time in full; commit with wide LSTMs in full only.
        """
        splits = ("report",) if recipe_name == "report" else ("length", "random")
        kinds = [(hidden, quant) for hidden in recipes.HIDDEN_SIZES for quant in QUANTS]
        more = [(self.figure_size, quant) for quant in VARIANTS] if recipe_name == "default" else []
        rows = [
            Row(_label(quant, hidden, split), hidden, recipes.anki_lstm(recipe_name, quant, hidden), split=split)
            for split in splits
            for hidden, quant in (kinds if split == "random" else kinds + more)
        ]
        wide = [
            Row(
                _label("commit", hidden, split) + WIDE,
                hidden,
                recipes.anki_lstm("default", "commit", hidden, max(self.sizes)),
                split=split,
            )
            for split in splits
            for hidden in self.sizes[:-1]
            if recipe_name == "default"
        ]
        if amount == QUICK:
            train, test = self.quick
            return [replace(row, items=train, test_items=test, recipe=row.recipe.override(epochs=1)) for row in rows + wide]
        if amount == FULL:
            return [replace(row, most_seeds=2 if row.size == max(self.sizes) else 3) for row in rows + wide]
        in_full = [
            replace(
                row,
                label=row.label + IN_FULL,
                most_seeds=(2 if row.size == max(self.sizes) else 3) if row.split == "length" else 1,
            )
            for row in rows
            if recipe_name == "default" and row.recipe.quant == "commit"
        ]
        rows = [
            replace(
                row,
                recipe=row.recipe.override(epochs=REDUCED_EPOCHS[recipe_name][row.size]),
                most_seeds=self._reduced_seeds(row),
            )
            for row in rows
        ]
        return rows + [replace(row, most_seeds=self._reduced_seeds(row)) for row in wide] + in_full

    def _reduced_seeds(self, row):
        if row.recipe.name == "report":
            return 1 if row.size == max(self.sizes) else 3
        return 3 if row.split == "length" and row.size in (32, self.figure_size) else 1

    @staticmethod
    def seconds(row):
        """The estimated training time of the row on one core."""
        units = row.recipe.model.get("units", row.size)
        return 8 + (row.items or 40_000) * row.recipe.epochs * 5e-5 * (units / 32) ** 1.25

    def train(self, row, seed, data, directory=None, progress=False):
        """Train one row; returns (its figures and examples as plain data, the model). directory: of the checkpoint, from
        which an interrupted training resumes.
        """
        split = split_sentences(data, row.split)
        if row.items is not None:
            # Spread over all lines, since the first are the shortest.
            split = replace(split, train=tuple(sentences.spread(split.train, row.items)))
        if row.test_items is not None:
            split = replace(split, test=tuple(sentences.spread(split.test, row.test_items)))
        run = sentences.train_and_measure(
            row.recipe, split, seed=seed, directory=directory, resume=directory is not None, progress=progress
        )
        shown = self.shown(data, row.split)
        as_report = {"report_definitions": measure_as_report(run.model, split.report)} if split.report else {}
        return {
            **run.metrics,
            **as_report,
            "history": run.history.rows,
            "latents": run.history.latents,
            "examples": run.model.reconstruct(shown),
            "figure5": run.model.reconstruct(list(FIGURE_5)),
        }, run.model

    @staticmethod
    def shown(data, split):
        """The held-out sentences that are shown beside their reconstructions."""
        return sentences.spread(split_sentences(data, split).test)

    def build(self, row, results):
        """Return one row with all its figures; results: one for each of its seeds."""
        first, quant = results[0], row.recipe.quant
        built = {
            "label": row.label,
            "quant": quant,
            "size": row.size,
            "hidden": row.size,
            "split": row.split,
            "epochs": row.recipe.epochs,
            "seeds": len(results),
            "bits": first["rate"]["bits_per_item"],
            "cr": first["rate"]["cr"],
            "training_sentences": first["settings"]["data"]["training_sentences"],
            "published": self.published.get((quant, row.size)) if row.split != "random" else None,
            "seconds": summary(results, "settings", "seconds", "training")[0],
            "normalized": row.recipe.model.get("normalize_latent", False),
            "dead_bits": [result["code"]["dead_bits"] for result in results],
            "distance_to_bit": summary(results, "code", "distance_to_bit"),
            "undecided": summary([{"share": undecided(result["latents"])} for result in results], "share"),
            "examples": first["examples"],
        }
        if "report_definitions" in first:
            for name in first["report_definitions"]:
                built[f"report_{name}"] = {m: summary(results, "report_definitions", name, m) for m in REPORT_METRICS}
        for key, part in (("test", "test"), ("train", "train"), ("before_threshold", "test_before_threshold")):
            if part in first:
                built[key] = {m: summary(results, part, m) for m in METRICS}
        return built

    @staticmethod
    def report_key(built):
        """The key under which a built row has its figures by the report's definitions: vanilla has other sentences."""
        return "report_vanilla" if built["quant"] == "vanilla" else "report_quantized"

    @staticmethod
    def part(data, _):
        """The data of a run: always all, since splits depend on the line number."""
        return data

    def extras(self, data):
        """Return what accompanies the rows: by split, the BLEU distance of perfect reconstructions, and the rates of the
        code and of compressors on the held-out sentences.
        """
        extras = {}
        for split in ("length", "random"):
            test = list(split_sentences(data, split).test)
            extras[split] = {
                "sentences": len(test),
                "perfect": text_metrics(test, test),
                "shown": self.shown(data, split),
                "bits_per_character": {
                    hidden: text_compression(test, 2 * hidden)["bits_per_character"] for hidden in recipes.HIDDEN_SIZES
                },
            }
        return {"held_out": extras}

    @staticmethod
    def describe(data):
        """Describe the data."""
        return f"{data.name}, the first {len(data.sentences)} lines, {len(set(data.sentences))} distinct sentences"

    def markdown(self, published):
        """Return the body of the page."""
        tables, held_out, parts = published["tables"], published["held_out"], []
        if "report" in tables:
            parts += [
                "## Recipe `report`",
                "",
                "The settings behind the report's table, trained on the first 80% of the lines (the shorter ones). "
                "Published and by the report's definitions: Levenshtein / cosine / Jaccard / 1 - BLEU on its 100 "
                "sentences (other ones for vanilla), with its flaws: cosine and Jaccard on characters, the end token "
                "counted. Held-out: correct definitions (on lemmas) on every distinct sentence of the last 20%.",
                "",
                report_table(tables["report"]),
                "",
            ]
        if "default" in tables:
            parts += [
                "## Recipe `default`",
                "",
                "The best settings found on a validation split of the training sentences.",
                "",
                default_table(tables["default"]),
                "",
                *examples(tables["default"], held_out["random"]["shown"]),
            ]
        parts += ["## Notes", "", *remarks(held_out), ""]
        return "\n".join(parts)


def measure_as_report(model, report_sentences):
    """{name: report_text_metrics} of each of the report's sets of 100 sentences."""
    return {
        name: report_text_metrics(list(sentences_), decoder_output(model, sentences_))
        for name, sentences_ in report_sentences.items()
    }


def decoder_output(model, sentences_):
    """Return the decoder's raw output for these sentences, with a line feed where it emitted the end token."""
    tokens = model.decode_tokens(model.encode(list(sentences_)))
    return [sentence + "\n" * bool((row == END).any()) for row, sentence in zip(tokens, to_sentences(tokens), strict=True)]


# By hidden size, so that no row takes more than a few minutes on one core.
REDUCED_EPOCHS = {"report": {32: 50, 64: 50, 128: 50, 256: 5}, "default": {32: 12, 64: 12, 128: 10, 256: 6}}
WIDE = f", {max(recipes.HIDDEN_SIZES)} units"


def _label(quant, hidden, split):
    return f"{quant} {hidden}" + ", random split" * (split == "random")


def _figures(row, key):
    values = row.get(key)
    return (
        ""
        if values is None
        else " / ".join(f"{values[m][0]:.{d}f}" for m, d in zip(REPORT_METRICS, (2, 3, 3, 3), strict=True))
    )


def _report_definitions(row):
    return _figures(row, Table3.report_key(row))


def _held_out(row, key="test"):
    values = row[key]
    return (
        f"{plus_minus(values['levenshtein'])} / {values['cosine_distance'][0]:.3f} / "
        f"{values['jaccard_distance'][0]:.3f} / {values['bleu_distance'][0]:.3f} | "
        f"{values['exact_match_rate'][0]:.1%}"
    )


def report_table(rows):
    """Markdown: the report recipe's rows three ways."""
    lines = [
        "| row | sentences x epochs x seeds | published | by the report's definitions | held-out, correct | exact matches |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        published = " / ".join(f"{value:g}" for value in row["published"])
        lines.append(
            f"| {row['label']} | {effort(row, 'training_sentences')} | {published} | {_report_definitions(row)} | "
            f"{_held_out(row)} |"
        )
    return "\n".join(lines)


def default_table(rows):
    """Markdown: the default recipe's rows on held-out sentences."""
    lines = [
        "| row | split | sentences x epochs x seeds | bits | compression ratio | by the report's definitions | held-out, "
        "correct | exact matches | edits before the threshold | dead bits | training time, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        before = plus_minus(row["before_threshold"]["levenshtein"]) if "before_threshold" in row else ""
        lines.append(
            f"| {row['quant']} {row['hidden']} | {SPLIT_WORDS[row['split']]} | "
            f"{effort(row, 'training_sentences')} | {row['bits']} | {row['cr']:.2f} | "
            f"{_report_definitions(row)} | {_held_out(row)} | {before} | {max(row['dead_bits'])} | "
            f"{row['seconds']:.0f} |"
        )
    return "\n".join(lines)


def examples(rows, shown):
    """Markdown: held-out sentences beside their reconstructions by the four bottlenecks."""
    labels = {_label(quant, SHOWN_HIDDEN, "random") for quant in QUANTS}
    chosen = [row for row in rows if row["label"] in labels]
    lines = [
        f"Held-out sentences of the random split, reconstructed by the LSTM {SHOWN_HIDDEN}:",
        "",
        "| original | " + " | ".join(row["quant"] for row in chosen) + " |",
        "| --- |" + " --- |" * len(chosen),
    ]
    lines += [
        f"| {original} | " + " | ".join(row["examples"][i].strip() for row in chosen) + " |"
        for i, original in enumerate(shown)
    ]
    return [*lines, ""]


def remarks(held_out):
    """Return remarks on what the tables do not show, with the figures behind them."""
    random, length = held_out["random"], held_out["length"]
    per_character = random["bits_per_character"]
    code = ", ".join(f"{sizes['code']:.1f} (hidden {hidden})" for hidden, sizes in per_character.items())
    others = ", ".join(f"{name} {bits:.1f}" for name, bits in next(iter(per_character.values())).items() if name != "code")
    return [
        f"- Perfect reconstructions have a mean 1 - BLEU of {random['perfect']['bleu_distance']:.3f} (random split) and "
        f"{length['perfect']['bleu_distance']:.3f} (by length), since sentences of fewer than four words have no 4-grams.",
        f"- Bits per character of the {random['sentences']} held-out sentences of the random split: the code {code}; all "
        f"sentences as one text: {others}. The larger codes do not compress at all.",
        f"- In the split by length, the {length['sentences']} held-out sentences are longer than most of the training "
        "sentences; in the random split, they are like them.",
    ]
