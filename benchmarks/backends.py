"""CPU against GPU: training steps per second, and the batch size from which the GPU wins.

    python benchmarks/backends.py                                    all models, batch sizes and widths
    python benchmarks/backends.py --models mlp --batch-sizes 16 128
    python -m pytest -m gpu -rs                                      the tests on the GPU, which should come first

(benchmarks/gpu_kernels.py measures what a step on the GPU is made of: matrix products and convolutions.)

Contenders: NumPy, NumPy with the Numba kernels, CuPy, CuPy with CUDA graphs; PyTorch on the CPU, and on the GPU eager,
compiled, and as one CUDA graph. What cannot run here is listed with the reason. Each lives in a process of its own; all do
the same step (forward, losses, backward, update) on the same batch, which is where they compute, and take turns, round after
round. A round is as many steps as take about 0.3 s, after a second of warming up; on a GPU it is timed by CUDA events. The
median round counts. float32 throughout: TF32 is off in PyTorch and never on here.

Of floor: the least time in which this machine could do the step, as a share of the time taken. The floor is the larger of
the step's multiplications and additions over the measured peak of a large matrix product, and its bytes over the measured
bandwidth of a large copy. Bytes: ten passes over the parameters (read forward and backward, gradient written, Adam's seven),
and of each layer's output, written once, read twice, with a gradient that is written and read: no cache, no fusion of
layers. Where all of that stays in a cache a share can pass 100%.

Writes benchmarks/results/backends-MACHINE.json, .md and .png.
"""
import argparse
import functools
import importlib.metadata
import importlib.util
import json
import math
import re
import sys
import time

import matplotlib
import numpy as np
from train_step import GFLOP, OUR_STEPS, RESULTS, TORCH_STEPS, gemm_peak, race

from tinyqae import backend
from tinyqae.checkpoint import write_atomically
from tinyqae.errors import BackendError

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of what draws

ROUND_SECONDS = 0.3
REFERENCE = "torch CUDA"
ON_CPU = ("numpy", "numpy + numba")
ON_GPU = ("cupy", "cupy, graphs")
WIDTHS = {"mlp": [{"hidden": 50}, {"hidden": 512}], "cnn": [{"multiple": 1}, {"multiple": 3}],
          "lstm": [{"hidden": 128}, {"hidden": 512}]}
BATCH_SIZES = {"mlp": (16, 128, 1024, 8192), "cnn": (4, 16, 128, 512), "lstm": (16, 64, 256, 1024)}
PRODUCT_SIDE = {"cpu": 1024, "gpu": 8192}
COPIED_BYTES = {"cpu": 2**28, "gpu": 2**31}


def contenders(model):
    """({name: (environment, function from the case to a step)}, {name: why it cannot run here})."""
    ours, fast = OUR_STEPS[model], {"TINYQAE_ENGINE": "fast"}  # Whatever the environment says.
    found = {"numpy": (fast | {"TINYQAE_KERNELS": "numpy"}, ours),
             "numpy + numba": (fast | {"TINYQAE_KERNELS": "numba"}, ours)}
    missing = {} if importlib.util.find_spec("numba") else {"numpy + numba": "Numba is not installed"}
    gpu = fast | {"TINYQAE_BENCH_BACKEND": "cupy"}
    found |= {"cupy": (gpu, ours), "cupy, graphs": (gpu, functools.partial(ours, graphs=True))}
    try:
        with backend.temporarily("cupy"):
            pass
    except BackendError as error:
        missing |= dict.fromkeys(ON_GPU, str(error))
    found["torch CPU"] = ({}, functools.partial(torch_case, model, how="eager", device="cpu"))
    for how, name in (("eager", REFERENCE), ("compile", "torch CUDA, compiled"), ("graph", "torch CUDA, graph")):
        found[name] = ({}, functools.partial(torch_case, model, how=how, device="cuda"))
    if model == "lstm":
        missing["torch CUDA, compiled"] = "torch.nn.LSTM is one call of cuDNN, in which there is nothing to compile"
    for name in found:
        why = _why_not_torch(name) if name.startswith("torch") else None
        missing |= {name: why} if why else {}
    return {name: contender for name, contender in found.items() if name not in missing}, missing


def _why_not_torch(name):
    if not importlib.util.find_spec("torch"):
        return "PyTorch is not installed"
    import torch
    return "PyTorch sees no CUDA device" if "CUDA" in name and not torch.cuda.is_available() else None


def torch_case(model, how, device, **case):
    """A step of PyTorch, without TF32."""
    import torch
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return TORCH_STEPS[model](how=how, device=device, **case)


def throughput(step):
    """Seconds a step in a round of about ROUND_SECONDS, with nothing read in between."""
    count = max(1, int(ROUND_SECONDS / max(elapsed(step, 3) / 3, 1e-6)))
    return elapsed(step, count) / count


def elapsed(step, count):
    """Seconds that so many steps take: between two events on the GPU that this process uses, or on the processor."""
    torch = sys.modules.get("torch")
    if backend.name == "cupy":
        start, end = backend.xp.cuda.Event(), backend.xp.cuda.Event()
        between = backend.xp.cuda.get_elapsed_time
    elif torch and torch.cuda.is_initialized():
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        between = torch.cuda.Event.elapsed_time
    else:
        started = time.perf_counter()
        for _ in range(count):
            step()
        return time.perf_counter() - started
    start.record()
    for _ in range(count):
        step()
    end.record()
    end.synchronize()
    return between(start, end) / 1e3


# ---- floors ---------------------------------------------------------------------------------------------------------


def gigabytes(model, batch_size, hidden=50, multiple=1):
    """The bytes of a step as the text above counts them, in 10^9."""
    if model == "mlp":
        parameters, outputs = 2 * 784 * hidden + hidden + 784, batch_size * (2 * hidden + 784)
    elif model == "lstm":
        parameters = 4 * hidden * (37 + 39 + 2 * hidden + 2) + 2 * hidden * (hidden + 1) + (hidden + 1) * 39
        # Gates and two states of every time step; the dense layers' outputs and the code; the logits.
        outputs = batch_size * ((22 + 24) * 6 * hidden + 4 * hidden + 24 * 39)
    else:
        a, b, c = 64 * multiple, 32 * multiple, 16 * multiple
        layers = [(3, a, 32, 9), (a, b, 16, 9), (b, c, 8, 9), (c, c, 4, 1), (c, c, 4, 9), (c, b, 8, 9), (b, a, 16, 9),
                  (a, 3, 32, 9)]
        parameters = sum(channels * filters * taps + 2 * filters for channels, filters, _, taps in layers)
        # Of a level that is pooled, what goes into the pooling; and that again a quarter as large.
        outputs = batch_size * sum(filters * side ** 2 for _, filters, side, _ in layers)
    return 4 * (10 * parameters + 5 * outputs) / 1e9


def ceilings(where):
    """{"gflops": of a large product, "gigabytes_per_second": of a large copy} of the backend in use."""
    xp, side = backend.xp, PRODUCT_SIDE[where]
    source = xp.ones(COPIED_BYTES[where] // 4, np.float32)
    target = xp.zeros_like(source)
    bandwidth = 2 * source.nbytes / min(elapsed(lambda: xp.copyto(target, source), 3) / 3 for _ in range(5))
    if where == "cpu":
        return {"gflops": gemm_peak(backend.threads), "gigabytes_per_second": bandwidth / 1e9}
    a, out = xp.ones((side, side), np.float32), xp.empty((side, side), np.float32)
    seconds = min(elapsed(lambda: backend.gemm(a, a, out), 3) / 3 for _ in range(5))
    return {"gflops": 2 * side ** 3 / seconds / 1e9, "gigabytes_per_second": bandwidth / 1e9}


def floor_seconds(gflop, bytes_, ceiling):
    """The least time of a step on a machine with these ceilings."""
    return max(gflop / ceiling["gflops"], bytes_ / ceiling["gigabytes_per_second"])


def where_it_runs(contender):
    """"cpu" or "gpu"."""
    return "gpu" if contender in ON_GPU or "CUDA" in contender else "cpu"


# ---- what comes of it -----------------------------------------------------------------------------------------------


def crossover(races):
    """From races of one width, by batch size: the batch size from which CuPy's better form beats NumPy's, in words."""
    ratios = []
    for one in sorted(races, key=lambda one: one["case"]["batch_size"]):
        rates = [max((one["rows"][name]["steps_per_second"] for name in names if name in one["rows"]), default=None)
                 for names in (ON_GPU, ON_CPU)]
        if None in rates:
            return "not measured"
        ratios.append((one["case"]["batch_size"], rates[0] / rates[1]))
    if ratios[0][1] >= 1:
        return f"at every batch size measured, from {ratios[0][0]} on"
    for (small, before), (large, after) in zip(ratios, ratios[1:], strict=False):
        if after >= 1:
            # A straight line between the two, both axes logarithmic.
            share = -math.log(before) / (math.log(after) - math.log(before))
            return f"from a batch of about {small * (large / small) ** share:.0f} on"
    return f"at none, up to {ratios[-1][0]}"


def by_width(races):
    """{(model, width as text): its races}."""
    grouped = {}
    for one in races:
        width = ", ".join(f"{name} {value}" for name, value in one["case"].items() if name != "batch_size")
        grouped.setdefault((one["model"], width), []).append(one)
    return grouped


def as_markdown(result):
    """The results as Markdown, with what is needed to repeat them."""
    lines = ["# Training steps per second on CPU and GPU", "",
             f"`{result['command']}` on {result['machine']}; card: {result['card']}; TF32: {result['tf32']}; "
             f"{', '.join(result['versions'])}; {result['threads']} thread(s); {result['rounds']} rounds; {result['date']}.",
             "", *(f"Ceilings of the {where}: {ceiling['gflops']:.0f} GFLOP/s (matrix product), "
                   f"{ceiling['gigabytes_per_second']:.0f} GB/s (copy)." for where, ceiling in result["ceilings"].items()),
             "", "## Where the GPU begins to win", "", "| model | width | CuPy beats NumPy |", "| --- | --- | --- |"]
    lines += [f"| {model} | {width} | {crossover(races)} |" for (model, width), races in by_width(result["races"]).items()]
    for (model, width), races in by_width(result["races"]).items():
        lines += ["", f"## {model}, {width}", "",
                  f"| batch | contender | ms a step | steps/s | times {REFERENCE} | of floor |",
                  "| --- | --- | --- | --- | --- | --- |"]
        for one in races:
            batch = one["case"]["batch_size"]
            for name, row in one["rows"].items():
                ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
                share = "" if row["of_floor"] is None else f"{row['of_floor']:.0%}"
                lines.append(f"| {batch} | {name} | {row['ms']:.3f} | {row['steps_per_second']:.0f} | {ratio} | {share} |")
            lines += [f"| {batch} | {name} | did not run: {why} | | | |" for name, why in one["failed"].items()]
    return "\n".join(lines) + "\n"


def draw(result, path):
    """A panel for each model and width: steps per second by batch size."""
    grouped = by_width(result["races"])
    figure, axes = plt.subplots(1, len(grouped), figsize=(4 * len(grouped), 3.6), squeeze=False, layout="constrained")
    names = list(dict.fromkeys(name for one in result["races"] for name in one["rows"]))
    for axis, ((model, width), races) in zip(axes[0], grouped.items(), strict=True):
        for i, name in enumerate(names):
            points = [(one["case"]["batch_size"], one["rows"][name]["steps_per_second"])
                      for one in races if name in one["rows"]]
            if points:
                axis.loglog(*zip(*points, strict=True), marker="o", color=f"C{i}", label=name,
                            linestyle="-" if where_it_runs(name) == "gpu" else "--")
        axis.set(title=f"{model}, {width}", xlabel="batch size", ylabel="steps per second")
        axis.legend(fontsize=7)
    figure.suptitle(f"{result['card']}; {result['machine']}", fontsize=8)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110))
    plt.close(figure)


def measure(args):
    """All races, as plain data."""
    races = []
    for model in args.models:
        running, missing = contenders(model)
        for width in WIDTHS[model]:
            for batch_size in args.batch_sizes or BATCH_SIZES[model]:
                case = {"batch_size": batch_size, **width}
                rows, failed = race(running, case, args.threads, args.rounds, throughput, REFERENCE)
                races.append({"model": model, "case": case, "rows": rows, "failed": missing | failed})
                print(f"{model}, {case}: " + "; ".join(f"{name} {row['ms']:.3f} ms" for name, row in rows.items()),
                      flush=True)
    return races


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", choices=WIDTHS, nargs="+", default=list(WIDTHS))
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="in place of each model's own")
    parser.add_argument("--threads", type=int, default=backend.threads, help="of the CPU's contenders; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--no-write", action="store_true", help="print only, leave benchmarks/results/ alone")
    args = parser.parse_args()
    backend.use("numpy")
    backend.use_threads(args.threads)
    result = {"command": " ".join(["python", *sys.argv]), "machine": backend.describe(), "card": "none used", "tf32": "off",
              "threads": args.threads, "rounds": args.rounds, "date": time.strftime("%Y-%m-%d"), "versions": versions(),
              "ceilings": {"cpu": ceilings("cpu")}}
    try:
        with backend.temporarily("cupy"):
            result |= {"card": backend.describe(), "ceilings": result["ceilings"] | {"gpu": ceilings("gpu")}}
    except BackendError as error:
        print(f"no GPU: {error}", flush=True)
    result["races"] = measure(args)
    for one in result["races"]:
        gflop, bytes_ = GFLOP[one["model"]](**one["case"]), gigabytes(one["model"], **one["case"])
        for name, row in one["rows"].items():
            ceiling = result["ceilings"].get(where_it_runs(name))
            row["of_floor"] = floor_seconds(gflop, bytes_, ceiling) / (row["ms"] / 1e3) if ceiling else None
    text = as_markdown(result)
    print("\n" + text)
    if not args.no_write:
        machine = re.sub(r"\W+", "-", f"{backend.processor()} {result['card']}".lower()).strip("-")
        write_atomically(RESULTS / f"backends-{machine}.json",
                         lambda file: file.write((json.dumps(result, indent=1) + "\n").encode()))
        write_atomically(RESULTS / f"backends-{machine}.md", lambda file: file.write(text.encode()))
        draw(result, RESULTS / f"backends-{machine}.png")


def versions():
    """Of what is installed."""
    found = []
    for name in ("numpy", "numba", "torch", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
