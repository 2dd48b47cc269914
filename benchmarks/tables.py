"""The report's tables, honestly: every row trained and measured three ways.

    python benchmarks/tables.py --table 1 --recipes report default --seeds 0 1 2 --jobs 2
    python benchmarks/tables.py --table 2 --reduced          on parts of the data, as each row says: an hour on two cores
    python benchmarks/tables.py --table 3 --reduced          with fewer epochs, as each row says

1. as published; 2. by the report's own (flawed) definitions on the examples that it measured; 3. by correct definitions on
held-out examples. Rows are trained in parallel processes with one thread each; a row that is already in --work with the
same settings is not trained again, so an interrupted run goes on. Writes benchmarks/results/tableK.json and .md and a
picture; benchmarks/readme.py then puts the short form into README.md.
"""
import argparse
import hashlib
import json
import re
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from image_tables import Table1, Table2
from rows import RESULTS
from text_table import Table3
from tqdm import tqdm

from tinyqae import __version__, backend, experiment, recipes
from tinyqae.checkpoint import write_atomically

TABLES = {1: Table1(), 2: Table2(), 3: Table3()}


def train_row(number, row, seed, data_dir, path):
    """Train one row and write its figures to `path`."""
    table = TABLES[number]
    backend.use("numpy")
    backend.use_threads(1)
    text = json.dumps(table.train(row, seed, table.load(data_dir)))
    write_atomically(path, lambda file: file.write(text.encode()))


def train_missing(rows, data, args):
    """Train what --work does not hold yet; returns {row's label: [result of each seed]}."""
    paths = {}
    for row in rows:
        for seed in row.seeds(args.seeds):
            identity = json.dumps([row.recipe.as_dict(), row.items, row.split, seed, data.sha256, __version__],
                                  sort_keys=True)
            name = re.sub(r"\W+", "-", f"table{args.table} {row.recipe.name} {row.label}") + f"-seed{seed}"
            paths[row.label, seed] = Path(args.work) / f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:10]}.json"
    missing = [(row, seed, paths[row.label, seed]) for row in rows for seed in row.seeds(args.seeds)
               if not paths[row.label, seed].exists()]
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(train_row, args.table, row, seed, args.data_dir, path) for row, seed, path in missing]
        for job in tqdm(as_completed(jobs), total=len(jobs), desc="rows", unit="row"):
            job.result()
    return {row.label: [json.loads(paths[row.label, seed].read_text()) for seed in row.seeds(args.seeds)] for row in rows}


def as_markdown(table, published, meta):
    """The whole results page."""
    return "\n".join([
        f"# {table.title}", "",
        f"Data: {meta['data']} (SHA-256 of the content {meta['data_sha256'][:16]}…). Seeds "
        f"{', '.join(map(str, meta['seeds']))}, or the first of them where a row says so; ± is the standard deviation over "
        f"seeds. `{meta['command']}`, {meta['machine']}, kernels {meta['kernels']}, one thread a row, {meta['date']}.", "",
        table.markdown(published)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=int, choices=TABLES, default=1)
    parser.add_argument("--recipes", choices=recipes.RECIPES, nargs="+", default=["report", "default"])
    parser.add_argument("--seeds", type=experiment.non_negative_int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reduced", action="store_true",
                        help="fewer examples, epochs and seeds where a row would take hours; every row says so")
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
        published["tables"][name] = [table.build(row, results[name][row.label]) for row in rows]
    published |= table.extras(data)
    command = f"python benchmarks/tables.py --table {args.table} --recipes {' '.join(args.recipes)} --seeds " + " ".join(
        map(str, args.seeds)) + " --reduced" * args.reduced
    one = next(iter(results[args.recipes[0]].values()))[0]["settings"]
    meta = {"data": table.describe(data), "data_sha256": data.sha256, "seeds": args.seeds, "command": command,
            "machine": one["backend"], "kernels": one["kernels"], "versions": one["versions"],
            "date": time.strftime("%Y-%m-%d")}
    text = as_markdown(table, published, meta)
    print(text)
    write_atomically(RESULTS / f"table{args.table}.md", lambda file: file.write(text.encode()))
    write_atomically(RESULTS / f"table{args.table}.json",
                     lambda file: file.write((json.dumps({**meta, **published}, indent=1) + "\n").encode()))
    if table.picture:
        table.draw({label: seeds[0] for label, seeds in results[args.recipes[-1]].items()}, data)


if __name__ == "__main__":
    main()
