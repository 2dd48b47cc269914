"""The report's tables for benchmarks/results/ and the README: `tinyqae reproduce`, one table of it.

    python benchmarks/tables.py --table 1 --recipes report default --seeds 0 1 2 --jobs 2
    python benchmarks/tables.py --table 2 --reduced          on parts of the data, as each row says: an hour on two cores
    python benchmarks/tables.py --table 3 --reduced          with fewer epochs, as each row says

1. as published; 2. by the report's own (flawed) definitions on the examples that it measured; 3. by correct definitions on
held-out examples. --work is the folder that `tinyqae reproduce --out` fills: rows that are there are not trained again.
Writes benchmarks/results/tableK.json and .md and a picture; benchmarks/readme.py then puts the short form into README.md.
"""
import argparse
import json
import shlex
import sys
from pathlib import Path

from tinyqae import experiment, recipes
from tinyqae.checkpoint import write_atomically
from tinyqae.reproduce import TABLES, outputs, reproduce
from tinyqae.reproduce.rows import FULL, REDUCED

RESULTS = Path(__file__).resolve().parent / "results"
PICTURES = {1: "bottlenecks.png", 2: "bottlenecks_cifar.png"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=int, choices=TABLES, default=1)
    parser.add_argument("--recipes", choices=recipes.RECIPES, nargs="+", default=["report", "default"])
    parser.add_argument("--seeds", type=experiment.non_negative_int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reduced", action="store_true",
                        help="fewer examples, epochs and seeds where a row would take hours; every row says so")
    parser.add_argument("--jobs", type=experiment.positive_int, default=2, help="rows trained at the same time")
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument("--work", default="runs/reproduce", metavar="DIR", help="one JSON for each trained row")
    args = parser.parse_args()
    command = shlex.join(["python", "benchmarks/tables.py", *sys.argv[1:]])
    outcome = reproduce([TABLES[args.table]], args.work, recipe_names=args.recipes, seeds=args.seeds,
                        amount=REDUCED if args.reduced else FULL, processes=args.jobs, data_dir=args.data_dir,
                        allow_modified_data=True, command=command)
    if outcome.missing:
        sys.exit("\n".join(f"error: {job.name}: {outcome.failures.get(job.name, 'not trained')}" for job in outcome.missing))
    table, published = outcome.results.tables[args.table], outcome.results.published[args.table]
    for ending, text in ((".md", outputs.as_markdown(table, published)), (".json", json.dumps(published, indent=1) + "\n")):
        write_atomically(RESULTS / f"table{args.table}{ending}", lambda file, text=text: file.write(text.encode()))
    if args.table in PICTURES:
        outputs.draw(outcome.results, args.table, RESULTS / PICTURES[args.table])


if __name__ == "__main__":
    main()
