"""Our codes against the classical codecs: bits per pixel against PSNR and SSIM, bits per character against exact matches.

    python -m benchmarks.report all --recipe default --reduced && python -m benchmarks.rate_distortion --reduced
    python -m benchmarks.rate_distortion --limit 1000 --sets mnist
    python -m benchmarks.rate_distortion --quick --limit 20              a smoke test with briefly trained models

On held-out images of MNIST and CIFAR-10: the MLP with every bottleneck, the CNN and the transform code with commit, beside
JPEG, JPEG 2000, WebP, AVIF and PNG, each as whole files, as payload (codecs.py says what that is) and as one file
with all images on a sheet. On held-out sentences: the LSTM beside gzip, bz2, xz and zstd. Our rates are also those of actual
bytes: packed and entropy-coded payload and the .tqae file of all held-out examples, and the .tqae file of a single one.

The models are those that `python -m benchmarks.report` trained and saved in --rows. Each model and each codec setting is
measured in a process with one thread: about half an hour on one core for all held-out images, two thirds of it for the
codecs. The figures are saved in --work and not computed again, so an interrupted run resumes.

Writes benchmarks/results/rate_distortion.md, .json and .png; report/readme.py puts a summary into results/README.md.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from benchmarks.report.jobs import load as load_data
from benchmarks.report.rows import FULL, QUICK, QUICK_MARK, REDUCED
from tinyqae import backend
from tinyqae.checkpoint import write_atomically
from tinyqae.cli import program
from tinyqae.fast import kernels

from .measure import SETS, ModelTask, carry_out, collect, tasks, train_missing, versions
from .page import as_markdown
from .picture import draw

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rate_distortion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sets", choices=SETS, nargs="+", default=list(SETS), help="what to measure (default: everything)")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--reduced",
        dest="amount",
        action="store_const",
        const=REDUCED,
        default=FULL,
        help="the rows of the report's --reduced runs; the page says on how much each was trained",
    )
    amount.add_argument(
        "--quick",
        dest="amount",
        action="store_const",
        const=QUICK,
        help="the rows of the report's --quick runs, whose figures mean nothing: a smoke test, written to --work "
        "unless --out says otherwise",
    )
    parser.add_argument(
        "--rows",
        type=Path,
        default=Path("runs/reproduce"),
        metavar="DIR",
        help="the --out of `python -m benchmarks.report`, which holds the trained rows; missing ones are "
        "trained and saved there. Default: %(default)s, as for that command",
    )
    parser.add_argument(
        "--limit", type=program.positive_int, metavar="N", help="measure on the first N held-out images only (default: all)"
    )
    parser.add_argument("--seed", type=program.non_negative_int, default=0, help="seed of the rows; default: %(default)s")
    parser.add_argument("--jobs", type=program.positive_int, default=2, help="number of parallel processes")
    parser.add_argument("--data-dir", metavar="DIR")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/rate-distortion"), metavar="DIR", help="the figures; default: %(default)s"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the page is written; default: results/")
    args = parser.parse_args(argv)
    out = args.out or (args.work if args.amount == QUICK else RESULTS)
    data = {name: load_data(type(SETS[name]), args.data_dir, True) for name in args.sets}
    todo = tasks(data, args.limit, args.work, amount=args.amount, seed=args.seed, rows=args.rows, data_dir=args.data_dir)
    train_missing([task.job for task in todo if isinstance(task, ModelTask)], args.jobs)
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(carry_out, task, args.data_dir) for task in todo if not task.path(data[task.set]).exists()]
        for done in tqdm(as_completed(running), total=len(running), desc="models and settings of codecs", unit="task"):
            done.result()
    figures = {task: json.loads(task.path(data[task.set]).read_text()) for task in todo}
    amount, limit = f" --{args.amount}" * (args.amount != FULL), f" --limit {args.limit}" if args.limit else ""
    command = f"python -m benchmarks.rate_distortion --sets {' '.join(args.sets)}{amount}{limit} --seed {args.seed}"
    backend.use("numpy")
    results = {
        "command": command,
        "machine": backend.describe(),
        "kernels": kernels.kernels(),
        "versions": versions(),
        "seed": args.seed,
        "date": time.strftime("%Y-%m-%d"),
        "sets": {
            name: collect(name, data[name], {task: found for task, found in figures.items() if task.set == name}, args.limit)
            for name in args.sets
        },
    }
    text = f"**{QUICK_MARK}**\n\n" * (args.amount == QUICK) + as_markdown(results)
    print(text)
    write_atomically(out / "rate_distortion.md", lambda file: file.write(text.encode()))
    write_atomically(out / "rate_distortion.json", lambda file: file.write((json.dumps(results, indent=1) + "\n").encode()))
    if set(args.sets) - {"text"}:
        draw(out / "rate_distortion.png", results)


if __name__ == "__main__":
    main()
