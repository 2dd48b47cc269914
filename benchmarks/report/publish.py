"""Write all results of `python -m benchmarks.report all` to benchmarks/results/report/ and the README.

    python -m benchmarks.report.publish --work DIR --reduced        DIR: the --out of `python -m benchmarks.report`

Rows that are in DIR, or in rows.zip of an earlier run, are not trained again, unless something they depend on has changed;
the others are trained as by that command with the same --reduced. Writes report.html, results.json, results.csv, tables.md,
rows.zip and the pictures, and then puts the summary into README.md. If rows are missing in the end, the others are in
rows.zip for the next run, as are any further rows of the whole study in DIR.
"""

import argparse
import shutil
import sys
from pathlib import Path

from tinyqae.cli import program

from . import readme, row_archive
from .__main__ import add_reduced_argument, amounts, seeds
from .jobs import ROWS
from .readme_tables import REPORT
from .run import TABLES, reproduce

ARCHIVE = REPORT / "rows.zip"
FILES = ("report.html", "results.json", "results.csv", "tables.md", "figure3.png", "figure4.png", "rate.png")


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report.publish", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/reproduce"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--seeds", default="0-4", metavar="SEEDS", help="such as 0-4 or 0,1,2; default: %(default)s")
    add_reduced_argument(parser)
    parser.add_argument("--jobs", type=program.positive_int, default=2, help="rows trained in parallel")
    parser.add_argument("--data-dir", metavar="DIR")
    args = parser.parse_args(argv)
    # The command with which a reader can reproduce this.
    reduced = "" if args.reduced is None else " ".join(["--reduced", *args.reduced, ""])
    command = f"python -m benchmarks.report all {reduced}--seeds {args.seeds}"
    row_archive.unpack(ARCHIVE, args.work / ROWS)
    outcome = reproduce(
        list(TABLES.values()),
        args.work,
        amounts=amounts(args.reduced),
        seeds=seeds(args.seeds),
        processes=args.jobs,
        data_dir=args.data_dir,
        allow_modified_data=True,
        command=command,
    )
    REPORT.mkdir(exist_ok=True)
    row_archive.pack([job.path for job in (*outcome.done, *outcome.beyond)], ARCHIVE)
    if outcome.missing:
        sys.exit("\n".join(f"error: {job.name}: {outcome.failures.get(job.name, 'not trained')}" for job in outcome.missing))
    for name in FILES:
        shutil.copyfile(args.work / name, REPORT / name)
    for name in readme.OF_THE_REPORT:
        readme.update(readme.RESULTS / "README.md", name, readme.SECTIONS[name]())


if __name__ == "__main__":
    main()
