"""The study: rows trained once wherever they are trained, and a page that says what their figures say."""

import csv
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import tinyqae
from benchmarks.report import (
    TABLES,
    claims,
    encoder,
    outputs,
    page,
    page_pictures,
    readme_tables,
    reproduce,
    row_archive,
    run,
    workers,
)
from benchmarks.report import __main__ as command
from benchmarks.report.image_tables import Table1
from benchmarks.report.jobs import Job
from benchmarks.report.rows import FULL, QUANTS, QUICK, QUICK_MARK, REDUCED, Row, from_png, to_png
from benchmarks.report.run import ALL_OF_IT
from tinyqae import recipes
from tinyqae.cli import main
from tinyqae.data import synthetic_digits
from tinyqae.errors import MissingPackage

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]


# ---- jobs and workers, on made-up digits -------------------------------------------------------------------------------

starts_processes = pytest.mark.slow  # each starts several, of some seconds each


class Digits(Table1):
    """A few rows on a few digits; notes each training of a row in the file `log`."""

    sizes = (figure_size,) = (10,)

    def __init__(self, log, quants=("vanilla", "commit")):
        self.log, self.quants = log, quants

    @staticmethod
    def load(data_dir, allow_modified_data=False):
        return synthetic_digits(train=200, test=50)

    def rows(self, recipe_name, amount):
        return [
            Row(f"{quant} 10", 10, recipes.mnist_mlp(recipe_name, quant, (10,)).override(epochs=2, batch_size=64))
            for quant in self.quants
        ]

    def train(self, row, seed, data, directory=None, progress=False):
        def noted(done, share, terms):
            self.note(f"{row.label} {done}")
            self.at(row, done / share)
            if progress:
                progress(done, share, terms)

        self.note(f"{row.label} {seed} begins")
        return super().train(row, seed, data, directory, noted)

    def extras(self, data):
        return canned_extras(self)

    def note(self, line):
        with open(self.log, "a") as file:
            file.write(line + "\n")

    def at(self, row, share):
        """What happens when so much of a row is trained."""


class Deadly(Digits):
    """The row of commit kills a process in its second epoch: always, or the first time."""

    whom, always = staticmethod(os.getpid), False

    def at(self, row, share):
        marker = Path(f"{self.log}.killed")
        if row.recipe.quant == "commit" and share > 0.5 and (self.always or not marker.exists()):
            marker.touch()
            os.kill(self.whom(), signal.SIGKILL)
            time.sleep(2)  # Long enough for a killed call to be gone.


class AlwaysDeadly(Deadly):
    always = True


class DeadlyToTheCall(Deadly):
    whom = staticmethod(os.getppid)


def trained(log):
    """{row and seed: how often its training began}."""
    begun = [line.removesuffix(" begins") for line in log.read_text().splitlines() if line.endswith(" begins")]
    return {name: begun.count(name) for name in begun}


def row_files(out):
    return sorted((out / "rows").glob("*.json"))


def report_only(table, out, **settings):
    return reproduce([table], out, amounts={"report": FULL}, seeds=(0,), **settings)


def a_job(**changes):
    row = Row("commit 10", 10, recipes.mnist_mlp("report", "commit", (10,)))
    return replace(Job(TABLES[1], row, 0, Path("out"), sha256="ab"), **changes)


def test_a_key_changes_with_configuration_seed_data_and_version(monkeypatch):
    job = a_job()
    row = job.row
    others = [
        a_job(seed=1),
        a_job(sha256="cd"),
        a_job(row=replace(row, items=5)),
        a_job(row=replace(row, test_items=5)),
        a_job(row=replace(row, split="random")),
        a_job(row=replace(row, recipe=row.recipe.override(lr=0.5))),
        a_job(row=replace(row, recipe=row.recipe.override(quant_weight=0.5))),
        a_job(table=TABLES[2]),
    ]
    assert a_job().key == job.key and a_job(folder=Path("elsewhere"), data_dir="x").key == job.key
    assert len({job.key, *(other.key for other in others)}) == 1 + len(others)
    monkeypatch.setattr("benchmarks.report.jobs.__version__", "0.0.0")
    assert a_job().key != job.key


@starts_processes
def test_what_is_done_is_skipped_and_a_broken_or_foreign_file_trained_anew(tmp_path):
    table, out = Digits(tmp_path / "log", ("vanilla", "naive", "commit")), tmp_path / "out"
    assert report_only(table, out, processes=2).missing == []
    assert trained(table.log) == {"vanilla 10 0": 1, "naive 10 0": 1, "commit 10 0": 1}
    assert not [path for path in (out / "rows").iterdir() if path.is_dir()]  # no checkpoint stays

    commit, naive, vanilla = row_files(out)
    before = vanilla.read_bytes()
    commit.write_bytes(commit.read_bytes()[:100])
    naive.write_text(json.dumps({**json.loads(naive.read_text()), "identity": {"seed": 7}}))
    assert report_only(table, out).missing == []
    assert trained(table.log) == {"vanilla 10 0": 1, "naive 10 0": 2, "commit 10 0": 2}
    assert vanilla.read_bytes() == before
    figures = list(csv.DictReader((out / "results.csv").open()))
    assert {row["row"] for row in figures} == {"vanilla 10", "naive 10", "commit 10"}


@starts_processes
def test_the_row_of_a_killed_worker_is_taken_up_again_from_its_checkpoint(tmp_path, capsys):
    table, out = Deadly(tmp_path / "log"), tmp_path / "out"
    assert report_only(table, out, processes=2).missing == []
    assert trained(table.log) == {"vanilla 10 0": 1, "commit 10 0": 2}
    steps = [int(line.split()[-1]) for line in table.log.read_text().splitlines() if re.fullmatch(r"commit 10 \d+", line)]
    again = steps[steps.index(5) :]  # four steps an epoch
    assert again == sorted(again) and min(again) == 5 and again.count(5) == 2
    assert "table 1, report, commit 10, seed 0: its process died; taken up again" in capsys.readouterr().err


@starts_processes
def test_a_row_that_kills_every_worker_is_given_up_and_the_others_are_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "MOST_DEATHS", 2)
    table, out = AlwaysDeadly(tmp_path / "log"), tmp_path / "out"
    outcome = report_only(table, out)
    assert [job.name for job in outcome.missing] == ["table 1, report, commit 10, seed 0"] == list(outcome.failures)
    assert trained(table.log) == {"vanilla 10 0": 1, "commit 10 0": 2}
    assert not (out / "report.html").exists()


def call(table, out, **settings):
    """A call in a process of its own."""
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "if __name__ == '__main__':\n"
        "    from pathlib import Path\n"
        f"    from test_reproduce import {type(table).__name__}, report_only\n"
        f"    table = {type(table).__name__}(Path({str(table.log)!r}), {table.quants!r})\n"
        f"    sys.exit(len(report_only(table, {str(out)!r}, **{settings!r}).missing))\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stderr=subprocess.PIPE)


@starts_processes
def test_after_a_killed_call_the_next_one_goes_on(tmp_path):
    table, out = DeadlyToTheCall(tmp_path / "log"), tmp_path / "out"
    killed = call(table, out)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "report.html").exists()
    assert report_only(table, out).missing == []
    assert trained(table.log) == {"vanilla 10 0": 1, "commit 10 0": 2}


@starts_processes
def test_two_shards_fill_one_folder_and_train_no_row_twice(tmp_path):
    table, out = Digits(tmp_path / "log", ("vanilla", "naive", "fence", "commit")), tmp_path / "out"
    shards = [call(table, out, shard=(i, 2)) for i in (1, 2)]
    for process in shards:
        process.communicate(timeout=60)
    # Who ends last finds all rows.
    assert 0 in [process.returncode for process in shards]
    assert trained(table.log) == {f"{quant} 10 0": 1 for quant in table.quants}
    assert len(row_files(out)) == 4 and (out / "report.html").exists()


@starts_processes
def test_on_a_dask_cluster_the_row_of_a_killed_worker_is_taken_up_again(tmp_path):
    distributed = pytest.importorskip("dask.distributed", reason="needs the extra `dask`")
    table, out = Deadly(tmp_path / "log"), tmp_path / "out"
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        assert report_only(table, out, dask=cluster.scheduler_address).missing == []
    begun = trained(table.log)
    assert begun["commit 10 0"] == 2
    # Its scheduler may have given both rows to the worker that died.
    assert set(begun) == {"vanilla 10 0", "commit 10 0"} and (out / "report.html").exists()


def test_without_jinja2_the_error_says_what_to_install_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    page.templates.cache_clear()
    table = Digits(tmp_path / "log")
    with pytest.raises(MissingPackage, match=r"report.html is made with Jinja2: pip install 'tinyqae\[report\]'"):
        report_only(table, tmp_path / "out")
    assert not table.log.exists()


def test_without_dask_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(MissingPackage, match=r"pip install 'tinyqae\[dask\]'"):
        workers.run_on_dask([], "localhost:1", None)


# ---- the command -------------------------------------------------------------------------------------------------------


def test_seeds_and_shards_as_they_are_typed():
    assert command.seeds("0-4") == (0, 1, 2, 3, 4)
    assert command.seeds("3,1,3-4") == (3, 1, 4)
    assert command.shard("2/3") == (2, 3)
    for parse, text in (
        (command.seeds, "4-0"),
        (command.seeds, "a"),
        (command.seeds, "0-2000000"),
        (command.shard, "3/2"),
        (command.shard, "0/2"),
    ):
        with pytest.raises(Exception, match=re.escape(repr(text))):
            parse(text)


@pytest.mark.parametrize("argument, code, lines", [("--help", 0, 0), ("table4", 2, 1)])
def test_it_runs_as_a_module_whose_errors_are_one_line(argument, code, lines):
    command = [sys.executable, "-m", "benchmarks.report", argument]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == code and len(done.stderr.splitlines()) == lines
    assert done.stdout.startswith("usage: python -m benchmarks.report") == (code == 0)


def test_reduced_takes_the_recipes_that_are_reduced():
    full, reduced = (dict.fromkeys(("report", "default"), amount) for amount in (FULL, REDUCED))
    for arguments, expected in (
        ([], full),
        (["--reduced"], reduced),
        (["--reduced", "default", "report"], reduced),
        (["--reduced", "default"], {"report": FULL, "default": REDUCED}),
    ):
        args = command._parser().parse_args(["all", *arguments])
        assert command.amounts(args.reduced) == expected
    assert command.amounts([], ("default",)) == {"default": REDUCED}


def test_the_command_says_what_a_shard_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(run.TABLES, 1, Digits(tmp_path / "log"))
    arguments = ["table1", "--recipe", "report", "--seeds", "0", "--jobs", "1", "--out", str(tmp_path / "out")]
    assert command.main([*arguments, "--shard", "2/2"]) == 0
    assert "1 rows are not there yet: table 1, report, vanilla 10, seed 0" in capsys.readouterr().out


# ---- what is written, from made-up figures -----------------------------------------------------------------------------

EVIL = "<script>alert('1')</script> & \"co\""


def made_up(table, row, seed, level):
    """A result as `train` returns it, whose quality is `level` (0 to 1)."""
    image = {
        "psnr": 10 + 10 * level,
        "ssim": level,
        "mse": 100 - 50 * level,
        "mae": 50 - 20 * level,
        "psnr_of_mean_mse": 10 + 10 * level,
    }
    text = {
        "levenshtein": 20 - 10 * level,
        "cosine_distance": 1 - level,
        "jaccard_distance": 1 - level,
        "bleu_distance": 1 - level,
        "exact_match_rate": level,
    }
    epochs = [
        {"epoch": i, "lr": 1e-3, "reconstruction": 1 / i, "seconds": 1.0}
        | ({row.recipe.quant: 0.1} if row.recipe.quant in ("fence", "commit", "entropy") else {})
        for i in (1, 2)
    ]
    common = {
        "rate": {"bits_per_item": 320, "cr": 19.6},
        "code": {"distance_to_bit": 0.1, "dead_bits": 0, "mean_bit_entropy": 0.9},
        "settings": {
            "recipe": row.recipe.as_dict(),
            "seed": seed,
            "backend": "numpy on a machine",
            "kernels": "numpy",
            "versions": {},
            "seconds": {"training": 1.0},
            "data": {"training_images": 100, "training_sentences": 100},
        },
        "history": epochs,
        "latents": [[i, [5] * 40] for i in range(3)],
    }
    if table.number == 3:
        report = {} if row.split == "random" else {"report_definitions": {"vanilla": text, "quantized": text}}
        return {**common, **report, "test": text, "train": text, "examples": [EVIL, "b"], "figure5": [EVIL, "d"]}
    images = np.zeros((10, 8, 8, 1 if table.number == 1 else 3), np.uint8)
    return {
        **common,
        "test": image,
        "train": image,
        "same_images": image,
        "examples": to_png(images),
        "report_definitions": {"image": image, "stack": image},
    }


@functools.cache
def gradients_of_digits():
    return encoder.before_and_after(synthetic_digits(train=400, test=1).train_images)


def canned_extras(table):
    """What a table's `extras` computes from the data, which takes longer than a test should."""
    if table.number == 3:
        per_character = {hidden: {"code": 3.0, "gzip": 2.0} for hidden in table.sizes}
        part = {"sentences": 2, "perfect": {"bleu_distance": 0.1}, "shown": ["a", EVIL], "bits_per_character": per_character}
        return {"held_out": {"length": part, "random": part}}
    scores = {"report": {"psnr": 36.9, "mse": 1.0}, "correct": {"psnr_of_mean_mse": 9.5, "mse": 2.0}}
    names = {1: ("all_black", "inverted"), 2: ("unrelated",)}[table.number]
    return {
        "limits": {str(table.latent_size(size)): {"gaussian": 1.0, "pca": 2.0} for size in table.sizes},
        "demonstration": {name: scores for name in names},
        "originals": to_png(np.zeros((10, 8, 8, 1 if table.number == 1 else 3), np.uint8)),
        **({"gradients": gradients_of_digits()} if table.number == 1 else {}),
    }


def canned(number):
    """A table with the rows of the real one, and what is computed from data replaced by canned figures."""

    class Canned(type(TABLES[number])):
        def extras(self, data):
            return canned_extras(self)

        @staticmethod
        def describe(data):
            return "made-up data"

    return Canned()


def made_up_results(amounts=ALL_OF_IT, level=lambda row, seed: 0.5):
    for package in ("rapidfuzz", "nltk", "simplemma"):
        pytest.importorskip(package, reason="Table 3 needs the extra `text`")
    data = synthetic_digits(train=20, test=20)
    found = {}
    tables = [canned(number) for number in TABLES]
    for table in tables:
        for name, amount in amounts.items():
            for row in table.rows(name, amount):
                for seed in (0, 1):
                    found[Job(table, row, seed, Path("out"), "ab")] = made_up(table, row, seed, level(row, seed))
    about = {"command": "python -m benchmarks.report " + EVIL, "amounts": amounts, "seeds": [0, 1], "date": "2026-01-01"}
    return outputs.collect({table: data for table in tables}, found, about)


class Page(HTMLParser):
    """The resources and links of a page, its text, and whether its tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.resources, self.links, self.tags, self.text, self.open = [], [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.resources += [value for name, value in attributes if name == "src" or (name == "href" and tag != "a")]
        self.links += [value for name, value in attributes if name == "href" and tag == "a"]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def write_without_charts(results, out):
    """As `outputs.write`, with dots for the charts, which take long: those of the trained rows above are real."""
    with pytest.MonkeyPatch.context() as patch:
        dot = to_png(np.zeros((1, 1, 1, 1), np.uint8))
        patch.setattr(page_pictures, "chart", lambda draw, alt, *arguments: page_pictures.Picture(dot, alt))
        outputs.write(results, out)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(the results, the folder they were written to)."""
    out, results = tmp_path_factory.mktemp("written"), made_up_results()
    write_without_charts(results, out)
    return results, out


def test_the_page_has_every_row_escapes_everything_and_needs_nothing_else(written):
    results, out = written
    text = (out / "report.html").read_text()
    read = Page(text)
    assert read.open == [] and "script" not in read.tags
    assert EVIL in "".join(read.text)
    assert read.resources and all(address.startswith("data:image/png;base64,") for address in read.resources)
    assert all(address.startswith("#") and f'id="{address[1:]}"' in text for address in read.links)
    assert not re.search(r"url\(|@import|https?://", text)
    assert all(f'<section id="{name}">' in text for name in page.SECTIONS)
    for number, recipe, label in results.raw:
        assert text.count(f"<td>{label}</td>") >= 2, (number, recipe, label)  # its table and its figure
    for kind in ("clipped", "stochastic", "annealed", "entropy"):
        named = {(1, "default", f"{kind} 50"), (2, "default", f"{kind} small"), (3, "default", f"{kind} 64")}
        assert named <= set(results.raw)


def test_the_figures_are_drawn_of_what_is_there_and_nothing_else_is_written(written, tmp_path):
    results, _ = written
    names = outputs.write_figures(results, tmp_path)
    assert (
        set(names)
        == {path.name for path in tmp_path.iterdir()}
        == {"figure3.png", "figure4.png", "figure5.md", "rate.png", "weights.png", "gradients.png"}
    )
    lines = (tmp_path / "figure5.md").read_text().splitlines()
    assert lines[2].startswith("| row | “wheres your daughter”, report | “whats your full name”, report | ")
    assert len({line.count("|") for line in lines if line.startswith("| commit")}) == 1


def test_the_figures_need_the_rows_of_one_size_only_and_take_the_others_that_are_there(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(outputs, "collect", lambda data, results, about: found.extend(results))
    monkeypatch.setattr(outputs, "write_figures", lambda results, out: ["a figure"])
    monkeypatch.setattr(Job, "carry_out", None)
    table = Digits(tmp_path / "log")
    table.rows = lambda recipe_name, amount: [
        Row(label, size, recipes.mnist_mlp("report", "commit", (size,)))
        for label, size in (("commit 10", 10), ("commit 10, longer", 10), ("commit 20", 20), ("commit 30", 30))
    ]
    there = ["commit 10", "commit 20"]
    monkeypatch.setattr(Job, "result", lambda job: {} if job.row.label in there else None)
    outcome = report_only(table, tmp_path, figures_only=True)
    assert [job.row.label for job in found] == there and outcome.written == ("a figure",) and not outcome.missing


def test_the_page_claims_nothing_of_the_report_s_recipe_where_it_was_not_trained_or_only_tried(written):
    results, _ = written
    tables = {
        number: {**table, "tables": {"default": table["tables"]["default"]}} for number, table in results.published.items()
    }
    of_default = replace(results, published=tables, misses=[], claims=dict.fromkeys(results.claims, ()))
    for section in ("missed", "claims"):
        text = "".join(Page(page.section(of_default, section)).text).strip()
        assert text.startswith("This run has no row of recipe report") and "within the spread" not in text
    quick = replace(results, misses=[], about={**results.about, "amounts": {"report": QUICK}})
    assert "within the spread" not in page.section(quick, "missed")


def test_the_csv_file_has_every_figure_of_every_seed_and_the_published_ones(written):
    results, out = written
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert tuple(rows[0]) == outputs.COLUMNS
    of_one = [row for row in rows if (row["table"], row["row"], row["recipe"]) == ("1", "commit 50", "report")]
    assert {row["seed"] for row in of_one} == {"", "0", "1"}
    assert {row["kind"] for row in of_one} >= {"published", "report_image", "report_stack", "same_images", "held_out"}
    assert [row["value"] for row in of_one if row["kind"] == "published"] == ["32.9476", "0.6812", "34.6837", "70.096"]


def test_the_readme_s_sections_are_made_of_the_results_file(written):
    results = readme_tables.Results(written[1])
    assert "| commit 50 | 32.95 | 15.00 ± 0.00 | 15.00 ± 0.00 / 0.50 |" in readme_tables.image_table(results, 1)
    assert "| fence 50 | none |" in readme_tables.image_table(results, 1)
    assert "| commit small | 28.62 |" in readme_tables.image_table(results, 2)
    assert "| commit 64 | 320 | 13.07 | 15.00 ± 0.00 |" in readme_tables.text_table(results)
    table, said = readme_tables.bottlenecks(results).split("\n\n", 1)
    for name in ("vanilla", "naive", "naive + noise", "fence", "commit", "clipped", "stochastic", "annealed", "entropy"):
        assert f"| {name} | " in table
    assert results.sha256[:12] in said
    counted = re.match(r"Of (\d+) checks", readme_tables.claims(results))
    assert int(counted[1]) == sum(map(len, written[0].claims.values()))


def test_rows_come_back_from_an_archive_but_replace_none(tmp_path):
    (tmp_path / "rows").mkdir()
    paths = [tmp_path / "rows" / name for name in ("a.json", "b.json")]
    for path in paths:
        path.write_text(f"the row {path.name}")
    row_archive.pack(paths, tmp_path / "rows.zip")
    row_archive.pack(paths[::-1], tmp_path / "again.zip")
    assert (tmp_path / "rows.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()

    paths[0].unlink()
    paths[1].write_text("a newer row")
    row_archive.unpack(tmp_path / "rows.zip", tmp_path / "rows")
    assert [path.read_text() for path in paths] == ["the row a.json", "a newer row"]
    row_archive.unpack(tmp_path / "none.zip", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_quick_run_marks_every_output(tmp_path):
    write_without_charts(made_up_results(dict.fromkeys(ALL_OF_IT, QUICK)), tmp_path)
    assert {row["amount"] for row in csv.DictReader((tmp_path / "results.csv").open())} == {QUICK}
    content = json.loads((tmp_path / "results.json").read_text())
    amounts = {"report": QUICK, "default": QUICK}
    assert content["amounts"] == amounts and all(table["amounts"] == amounts for table in content["tables"].values())
    assert (tmp_path / "tables.md").read_text().count(QUICK_MARK) == 3
    assert (tmp_path / "report.html").read_text().count(QUICK_MARK) >= 8  # at the top and in every section


def test_a_quick_run_has_every_row_on_parts_of_the_data():
    for table in TABLES.values():
        for name in recipes.RECIPES:
            full, quick = table.rows(name, FULL), table.rows(name, QUICK)
            assert [row.label for row in quick] == [row.label for row in full]
            assert all(row.items and row.test_items and row.recipe.epochs == 1 for row in quick)


@pytest.mark.parametrize(
    "number, most",
    [(1, {10: 5, 50: 5, 100: 5}), (2, dict.fromkeys(("small", "medium", "large"), 3)), (3, {32: 3, 64: 3, 128: 3, 256: 2})],
)
def test_the_whole_study_trains_each_row_with_so_many_of_five_seeds(number, most):
    for name in recipes.RECIPES:
        for row in TABLES[number].rows(name, FULL):
            assert row.items is None
            if row.is_plain and row.recipe.quant in QUANTS:
                assert len(row.seeds(range(5))) == most[row.size]


def test_a_row_of_which_nothing_is_reduced_is_the_same_job():
    def keys(table, amount):
        return {row.label: a_job(table=table, row=row).key for row in table.rows("report", amount)}

    for number, reduced_sizes in ((1, ()), (2, TABLES[2].sizes), (3, (256,))):
        full, reduced = (keys(TABLES[number], amount) for amount in (FULL, REDUCED))
        assert {label for label in full if full[label] != reduced[label]} == {
            row.label for row in TABLES[number].rows("report", FULL) if row.size in reduced_sizes
        }


def test_each_recipe_is_trained_as_much_as_it_is_asked_to_be_and_the_results_say_so(tmp_path):
    results = made_up_results({"report": FULL, "default": REDUCED})
    trained = {
        (number, recipe): len(rows)
        for number, table in results.published.items()
        for recipe, rows in table["tables"].items()
    }
    assert trained == {
        (number, recipe): len(TABLES[number].rows(recipe, amount))
        for number in TABLES
        for recipe, amount in results.about["amounts"].items()
    }
    found = csv.DictReader(outputs.as_csv(results).splitlines())
    assert {(row["recipe"], row["amount"]) for row in found} == {("report", FULL), ("default", REDUCED)}
    assert json.loads(outputs.as_json(results))["amounts"] == {"report": FULL, "default": REDUCED}
    assert page.amounts_in_words(results.about["amounts"]) == (
        "recipe report: all of the data; recipe default: fewer examples, epochs and seeds where a row would take hours, as "
        "stated in each row"
    )


def test_pictures_come_back_from_a_row_s_file():
    for channels in (1, 3):
        images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, channels), np.uint8)
        np.testing.assert_array_equal(from_png(to_png(images)), images)


# ---- verdicts ----------------------------------------------------------------------------------------------------------


def verdicts(level):
    """{(where, first words of a claim): verdict} for made-up figures; level(row, seed): the quality of a row."""
    judged = made_up_results(level=level).claims
    return {(claim.place, claim.words): said for found in judged.values() for claim, said, _ in found}


def test_verdicts_follow_from_the_figures_in_both_directions():
    order = {"vanilla": 0.9, "commit": 0.85, "fence": 0.4, "naive": 0.2}

    def as_claimed(row, seed):
        return order.get(row.recipe.quant, 0.5) + 0.001 * seed

    found = verdicts(as_claimed)
    said = {words: verdict for (_, words), verdict in found.items()}
    assert said["Naive quantization causes a big drop in quality (CNN)."] == claims.HOLDS
    assert said["At every size, the CNN with commit is an improvement over naive."] == claims.HOLDS
    assert said["The fence loss does not show any improvement (CNN)."] == claims.FAILS
    assert said["Reconstructions with commit look much like those with vanilla (MLP)."] == claims.HOLDS
    # All sizes are alike here.
    assert said["The larger the model, the better the quality (LSTM)."] == claims.FAILS

    found = verdicts(lambda row, seed: 1 - as_claimed(row, seed))
    said = {words: verdict for (_, words), verdict in found.items()}
    assert said["Naive quantization causes a big drop in quality (CNN)."] == claims.FAILS
    assert said["At every size, the CNN with commit is an improvement over naive."] == claims.FAILS
    assert said["The fence loss does not show any improvement (CNN)."] == claims.HOLDS
    assert said["Naive is better in cosine and Jaccard distance (LSTM)."] == claims.HOLDS


def test_a_claim_can_hold_under_its_own_metric_only():
    def check(holds):
        return claims.Check("", (1.0, 0.1, 3), None, holds)

    yes, no = [check(True), check(True)], [check(True), check(False)]
    assert claims.verdict(yes, yes) == claims.verdict(no, yes) == claims.verdict(None, yes) == claims.HOLDS
    assert claims.verdict(yes, no) == claims.OWN_METRIC_ONLY
    assert claims.verdict(no, no) == claims.verdict(None, no) == claims.FAILS
    assert claims.verdict(yes, []) is None


# ---- rows of what the report did not try -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clipped", "stochastic", "annealed", "entropy"])
def test_what_the_report_did_not_try_has_default_recipes_only(kind):
    for named in (
        recipes.mnist_mlp("default", kind, (50,)),
        recipes.cifar_cnn("default", kind, "small"),
        recipes.anki_lstm("default", kind, 64),
    ):
        assert tinyqae.make_bottleneck(named.quant, **named.bottleneck).kind == kind
        assert named.model.get("normalize_latent", False) == (kind != "annealed")
    with pytest.raises(ValueError, match=f"quant='{kind}' has no recipe 'report'"):
        recipes.mnist_mlp("report", kind, (50,))


def test_the_command_trains_them_and_refuses_them_for_the_report_s_recipe(tmp_path, capsys):
    small = [
        "train",
        "mnist-mlp",
        "--dataset",
        "synthetic",
        "--train-images",
        "200",
        "--epochs",
        "1",
        "--quant",
        "annealed",
        "--out",
        str(tmp_path),
    ]
    assert main(small) == 0
    assert "before the threshold" in capsys.readouterr().out  # what the threshold costs
    with pytest.raises(SystemExit) as stopped:
        main([*small, "--recipe", "report"])
    assert stopped.value.code == 2
    assert "--quant: the report did not try annealed" in capsys.readouterr().err
