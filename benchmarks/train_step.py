"""Training steps per second against PyTorch, on one machine in one run.

    python benchmarks/train_step.py --model mlp --threads 1 2

Every contender (PyTorch eager, torch.compile where it works, plain NumPy, NumPy with the Numba kernels, CuPy where there
is one) lives in a process of its own, and does the same step on the same batch: forward, losses, backward, update. The
processes take turns, one at a time, round after round, so a machine that speeds up or slows down does so for all; a
round is the median step of about 0.3 s, a ratio is taken within a round, and the median ratio over the rounds is quoted.
"""
import argparse
import functools
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import threadpoolctl

RESULTS = Path(__file__).parent / "results"
ROUND_SECONDS = 0.3
REFERENCE = "torch eager"
BATCH_SIZES = {"mlp": (16, 128, 1024)}


def mlp_batch(batch_size):
    """Random pictures, floats in [0, 1]: what they show does not change the work."""
    return np.random.default_rng(0).random((batch_size, 28, 28, 1), dtype=np.float32)


def our_mlp_step(batch_size):
    """One training step of 784-50-784 with the commit bottleneck and Adam."""
    from tinyqae import Adam, Commit, MLPAutoencoder, backend
    model, optimizer = MLPAutoencoder(Commit(weight=0.1), hidden=(50,)), Adam(1e-3)
    batch = backend.to_device(mlp_batch(batch_size))

    def step():
        terms = model.loss_and_gradients(batch)
        optimizer.step(model.parameters, model.gradients)
        return terms

    return step


def torch_mlp_step(batch_size, compiled=False):
    """The same step in PyTorch: straight-through as a + (b - a).detach()."""
    import torch
    from torch.nn import functional
    encoder, decoder = torch.nn.Linear(784, 50), torch.nn.Linear(50, 784)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    batch = torch.from_numpy(mlp_batch(batch_size)).reshape(batch_size, -1)

    def loss_of(batch):
        a = torch.sigmoid(encoder(batch))
        bits = (a > 0.5).to(a.dtype)
        logits = decoder(a + (bits - a).detach())
        reconstruction = functional.binary_cross_entropy_with_logits(logits, batch)
        return reconstruction + 0.1 * functional.mse_loss(a, bits.detach())

    loss_function = torch.compile(loss_of) if compiled else loss_of

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


OUR_STEPS = {"mlp": our_mlp_step}
TORCH_STEPS = {"mlp": torch_mlp_step}


def contenders(model):
    """{name: (environment, function from the batch size to a step)} of what is installed here."""
    found = {}
    if importlib.util.find_spec("torch"):
        found[REFERENCE] = ({}, TORCH_STEPS[model])
        found["torch.compile"] = ({}, functools.partial(TORCH_STEPS[model], compiled=True))
    found["numpy"] = ({"TINYQAE_KERNELS": "numpy"}, OUR_STEPS[model])
    if importlib.util.find_spec("numba"):
        found["numpy + numba"] = ({"TINYQAE_KERNELS": "numba"}, OUR_STEPS[model])
    if importlib.util.find_spec("cupy"):
        found["cupy"] = ({"TINYQAE_BENCH_BACKEND": "cupy"}, OUR_STEPS[model])
    return found


def serve(pipe, name, environment, make_step, batch_size, threads):
    """The contender's process: warm up, then one round for each message until None comes."""
    os.environ.update(environment)
    threadpoolctl.threadpool_limits(threads)
    if name.startswith("torch"):
        import torch
        torch.set_num_threads(threads)
    if environment.get("TINYQAE_BENCH_BACKEND"):
        from tinyqae import backend
        backend.use("cupy")
    try:
        step = make_step(batch_size)
        warm_until = time.perf_counter() + 1
        step()
        while time.perf_counter() < warm_until:
            step()
    except Exception as error:  # noqa: BLE001  whatever torch.compile fails with, the others are still worth timing
        pipe.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200])
        return
    pipe.send(None)
    while pipe.recv():
        pipe.send(one_round(step))


def one_round(step):
    """The median seconds of a step over about ROUND_SECONDS. Reading a loss waits for a GPU to finish."""
    times, until = [], time.perf_counter() + ROUND_SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        result = step()
        float(next(iter(result.values())) if isinstance(result, dict) else result)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def race(model, batch_size, threads, rounds):
    """{contender: {"ms", "steps_per_second", "ratio", "ratio_range"}} and {contender: why it did not run}."""
    context = multiprocessing.get_context("spawn")
    running, failed = {}, {}
    for name, (environment, make_step) in contenders(model).items():
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, daemon=True,
                                  args=(theirs, name, environment, make_step, batch_size, threads))
        process.start()
        error = ours.recv()
        if error is None:
            running[name] = (process, ours)
        else:
            failed[name] = error
    times = {name: [] for name in running}
    for _ in range(rounds):
        for name, (_, pipe) in running.items():
            pipe.send(True)
            times[name].append(pipe.recv())
    for process, pipe in running.values():
        pipe.send(None)
        process.join()
    rows = {}
    for name, seconds in times.items():
        ratios = [reference / own for reference, own in zip(times.get(REFERENCE, []), seconds, strict=False)]
        rows[name] = {"ms": 1e3 * statistics.median(seconds), "steps_per_second": 1 / statistics.median(seconds),
                      "ratio": statistics.median(ratios) if ratios else None,
                      "ratio_range": [min(ratios), max(ratios)] if ratios else None}
    return rows, failed


def gemm_peak(threads):
    """The machine's measured float32 matrix product rate in GFLOP/s: the best of several 1024^3 products."""
    with threadpoolctl.threadpool_limits(threads):
        a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
        out = np.empty_like(a)
        best = min(_seconds(lambda: np.matmul(a, a, out=out)) for _ in range(15))
    return 2 * 1024 ** 3 / best / 1e9


def _seconds(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def as_markdown(result):
    """The results as a Markdown table with what is needed to repeat them."""
    lines = [f"# Training steps against PyTorch: {result['model']}", "",
             f"`{result['command']}` on {result['machine']}; {', '.join(result['versions'])}; {result['rounds']} rounds; "
             f"{result['date']}. ms: median step. Ratio: {REFERENCE} / this, median of the rounds' ratios "
             "(smallest to largest).", "",
             "| threads | batch | contender | ms a step | steps/s | ratio |", "| --- | --- | --- | --- | --- | --- |"]
    for race_ in result["races"]:
        for name, row in race_["rows"].items():
            ratio = "" if row["ratio"] is None else (f"{row['ratio']:.2f} ({row['ratio_range'][0]:.2f} to "
                                                     f"{row['ratio_range'][1]:.2f})")
            lines.append(f"| {race_['threads']} | {race_['batch_size']} | {name} | {row['ms']:.3f} | "
                         f"{row['steps_per_second']:.0f} | {ratio} |")
        lines += [f"| {race_['threads']} | {race_['batch_size']} | {name} | did not run: {why} | | |"
                  for name, why in race_["failed"].items()]
    lines += ["", "Measured float32 matrix product peak: " + ", ".join(
        f"{rate:.0f} GFLOP/s with {threads} thread{'s' * (threads > 1)}" for threads, rate in result["gemm_peak"]) + "."]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(OUR_STEPS), default="mlp")
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="default: those of the model")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="thread counts, the same for all; default: 1")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-write", action="store_true", help="print only, leave benchmarks/results/ alone")
    args = parser.parse_args()
    from tinyqae import backend
    from tinyqae.checkpoint import write_atomically
    packages = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "numba", "torch", "cupy-cuda12x")
                if _installed(name)]
    result = {"model": args.model, "command": " ".join(["python", *sys.argv]), "machine": backend.describe(),
              "versions": packages, "rounds": args.rounds, "date": time.strftime("%Y-%m-%d"),
              "gemm_peak": [(threads, gemm_peak(threads)) for threads in args.threads], "races": []}
    for threads in args.threads:
        for batch_size in args.batch_sizes or BATCH_SIZES[args.model]:
            rows, failed = race(args.model, batch_size, threads, args.rounds)
            result["races"].append({"threads": threads, "batch_size": batch_size, "rows": rows, "failed": failed})
            print(f"{args.model}, {threads} thread(s), batch {batch_size}: " + "; ".join(
                f"{name} {row['ms']:.3f} ms" + (f" (x{row['ratio']:.2f})" if row["ratio"] else "")
                for name, row in rows.items()), flush=True)
    text = as_markdown(result)
    print("\n" + text)
    if not args.no_write:
        write_atomically(RESULTS / f"train_step_{args.model}.json",
                         lambda file: file.write((json.dumps(result, indent=1) + "\n").encode()))
        write_atomically(RESULTS / f"train_step_{args.model}.md", lambda file: file.write(text.encode()))


def _installed(package):
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
