"""Train and check the tables and figures of the report.

    python -m benchmarks.report all --quick                          every row on part of the data, as a smoke test
    python -m benchmarks.report table1 --seeds 0-4
    python -m benchmarks.report all --seeds 0-4 --out DIR            the whole study: a day and a half on two cores
    python -m benchmarks.report all --seeds 0-4 --reduced default    the report's recipe in full: half a day
    python -m benchmarks.report all --seeds 0-4 --reduced            four hours
    python -m benchmarks.report all --shard 1/3 --out DIR            one of three machines that share DIR
    python -m benchmarks.report figures --reduced --out DIR          the figures alone

Retrains every row of the report's tables, measures it by the report's definitions and by correct ones, and writes to --out:
report.html (everything on one page), results.csv, results.json, tables.md and the figures. `figures` trains one size of each
model, and draws the figures from these rows and any others that are already trained.

Rows already in --out are not trained again, and interrupted ones resume from their last complete epoch: run the same command
again. Rows are retrained when the configuration, the data or the version of tinyqae has changed.
"""

import argparse
import re
import shlex
import sys

from tinyqae import backend
from tinyqae.cli.program import OneLineParser, add_backend_argument, add_data_arguments, positive_int, run_main, use_backend
from tinyqae.recipes import RECIPES

from .rows import FULL, QUICK, QUICK_MARK, REDUCED
from .run import TABLES, reproduce

WHAT = {"table1": (1,), "table2": (2,), "table3": (3,), "figures": tuple(TABLES), "all": tuple(TABLES)}
MISSING_SHOWN = 10
MOST_SEEDS = 1000


def seeds(text):
    """An argparse type: "0-4" or "0,1,2" -> (0, 1, 2, 3, 4) or (0, 1, 2)."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part.strip())
        if not match or not 0 <= int(match[2] or match[1]) - int(match[1]) < MOST_SEEDS:
            raise argparse.ArgumentTypeError(f"{text!r} is not like 0-4 or 0,1,2, of at most {MOST_SEEDS} seeds")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    return tuple(dict.fromkeys(found))


def shard(text):
    """An argparse type: "2/3" -> (2, 3)."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not like 1/3, 2/3 or 3/3")
    return int(match[1]), int(match[2])


def add_reduced_argument(parser):
    """Add --reduced, whose value is a list of recipes, empty for both, or None."""
    parser.add_argument(
        "--reduced",
        nargs="*",
        choices=RECIPES,
        metavar="RECIPE",
        help="use fewer examples, epochs and seeds where a row would take hours (each row says so), in these "
        "recipes, or in both if none is named",
    )


def amounts(reduced, recipe_names=RECIPES[::-1]):
    """{recipe's name: rows.FULL or REDUCED}. reduced: the value of --reduced."""
    named = () if reduced is None else reduced or RECIPES
    return {name: REDUCED if name in named else FULL for name in recipe_names}


def main(argv=None):
    """Run the command with these arguments (None: those of the process); returns the exit code: 0, or 1 if rows could not be
    trained.
    """
    argv = sys.argv[1:] if argv is None else argv
    args = _parser().parse_args(argv)
    if not args.dask:  # So that a missing GPU is reported now, and not by every row.
        use_backend(args.backend)
    recipe_names = (args.recipe,) if args.recipe else RECIPES[::-1]
    outcome = reproduce(
        [TABLES[number] for number in WHAT[args.what]],
        args.out,
        amounts=dict.fromkeys(recipe_names, QUICK) if args.quick else amounts(args.reduced, recipe_names),
        seeds=args.seeds or ((0,) if args.quick else (0, 1, 2)),
        figures_only=args.what == "figures",
        processes=args.jobs,
        shard=args.shard,
        dask=args.dask,
        data_dir=args.data_dir,
        allow_modified_data=args.allow_modified_data,
        backend=args.backend,
        command=shlex.join(["python", "-m", "benchmarks.report", *argv]),
    )
    for name, why in outcome.failures.items():
        print(f"error: {name}: {why}", file=sys.stderr)
    if outcome.missing:
        names = "; ".join(job.name for job in outcome.missing[:MISSING_SHOWN])
        more = len(outcome.missing) - MISSING_SHOWN
        print(f"{len(outcome.missing)} rows are not there yet: {names}" + (f"; and {more} more" if more > 0 else ""))
        return 1 if outcome.failures else 0
    if args.quick:
        print(QUICK_MARK)
    if args.what != "figures":
        for judged in outcome.results.claims.values():
            for claim, said, _ in judged:
                print(f"{claim.place}: {claim.words} -> {said}")
    print(f"written to {args.out}/: {', '.join(outcome.written)}")
    return 0


def _parser():
    parser = OneLineParser(
        prog="python -m benchmarks.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=WHAT, help="which rows")
    parser.add_argument("--recipe", choices=RECIPES, help="default: both")
    parser.add_argument("--seeds", type=seeds, metavar="SEEDS", help="such as 0-4 or 0,1,2; default: 0-2, or 0 with --quick")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--quick",
        action="store_true",
        help="smoke test: every row on a small part of the data, within 15 minutes on two cores; marked as such",
    )
    add_reduced_argument(amount)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        type=positive_int,
        default=backend.usable_cores(),
        metavar="N",
        help="rows trained in parallel, one core each; default: the number of usable cores",
    )
    where.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="train on this Dask cluster, whose workers must be started in a clone, have one thread each, and have "
        "access to the data and the folder --out; needs the extra dask",
    )
    parser.add_argument(
        "--shard",
        type=shard,
        default=(1, 1),
        metavar="I/N",
        help="train only the I-th of N parts; whichever run finds all rows done writes the report",
    )
    add_backend_argument(parser, "numpy")
    parser.add_argument("--out", default="runs/reproduce", metavar="DIR", help="default: %(default)s")
    add_data_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main, stopped="stopped; the same command goes on from the last whole epochs"))
