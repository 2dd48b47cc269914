"""Check and measure the GPU in one command of at most six minutes.

    python benchmarks/speed/gpu.py                          everything
    python benchmarks/speed/gpu.py --only agreement speed   only these stages
    python benchmarks/speed/gpu.py --seconds 120            what fits into two minutes, the most important first

Stages, in this order:

    environment   GPU, driver, versions
    agreement     ten training steps of each model on NumPy and on CuPy (reference engine, fast engine without and with fused
                  kernels, with CUDA graphs): relative differences of weights and losses; codes of each side decoded by the
                  other; the shipped models on both
    tests         the tests marked gpu
    ceilings      the rate of a large matmul and of a large copy, CPU and GPU
    speed         training steps per second of NumPy, CuPy and PyTorch, by batch size, and the memory they take

Every contender runs in its own process, so that a failure affects no other, and warms up before it is timed: by CUDA events
on a GPU, by the CPU clock otherwise; the median of several rounds is reported. float32 throughout, without TF32 unless the
name says so. Results are printed and written as they arrive: gpu-CARD.json, .md and .png in --out.

Of floor: the minimum time in which this machine could do the step, as a share of the time taken. The floor is the larger of
the step's multiplications and additions over the measured rate of a large matmul, and its bytes over the measured bandwidth
of a large copy. Bytes: ten passes over the parameters (read forward and backward, gradient written, Adam's seven), and each
layer's output, written once and read twice, and its gradient, written and read once: no cache, no fusion of layers. If all
of that stays in a cache, the share can exceed 100%.
"""

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import math
import os
import queue
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import matplotlib
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
from train_step import GFLOP, OUR_STEPS, RESULTS, TORCH_STEPS, gemm_peak  # noqa: E402  found by the line above

from tinyqae import SGD, CNNAutoencoder, Commit, MLPAutoencoder, Seq2SeqAutoencoder, Vanilla, backend, codec, fit  # noqa: E402
from tinyqae.checkpoint import write_atomically  # noqa: E402
from tinyqae.data import synthetic_digits, synthetic_sentences, synthetic_shapes  # noqa: E402
from tinyqae.errors import BackendError  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of the backend

STAGES = ("environment", "agreement", "tests", "ceilings", "speed")
FAST = {"TINYQAE_ENGINE": "fast"}
ON_CUPY = {
    "CuPy reference": {"TINYQAE_ENGINE": "reference"},
    "CuPy plain": FAST | {"TINYQAE_KERNELS": "numpy", "NO_GRAPHS": "1"},
    "CuPy fused": FAST | {"NO_GRAPHS": "1"},
    "CuPy graphs": FAST,
}
"""Environments of our contenders on a GPU, from plain CuPy operations to all optimizations."""
CONTENDERS = {
    "CuPy graphs": ON_CUPY["CuPy graphs"],
    "PyTorch CUDA eager": {"HOW": "eager"},
    "PyTorch CUDA graphs": {"HOW": "graph"},
    "CuPy fused": ON_CUPY["CuPy fused"],
    "NumPy fast": FAST,
    "CuPy reference": ON_CUPY["CuPy reference"],
    "PyTorch CPU": {"HOW": "cpu"},
    "NumPy reference": {"TINYQAE_ENGINE": "reference"},
    "PyTorch CUDA eager, TF32": {"HOW": "eager", "TF32": "1"},
    "PyTorch CUDA graphs, TF32": {"HOW": "graph", "TF32": "1"},
    "PyTorch CUDA compiled": {"HOW": "compile"},
}
"""The order in which they are measured, the most important first, since time may run out."""
CASES = (
    [("mlp", {"batch_size": n}) for n in (16, 128, 1024, 8192)]
    + [("cnn", {"batch_size": n}) for n in (16, 128, 512)]
    + [("lstm", {"batch_size": n, "hidden": 128}) for n in (64, 256, 1024)]
)
GOALS = {
    ("mlp", "PyTorch CUDA eager"): 5,
    ("lstm", "PyTorch CUDA eager"): 1.5,
    ("cnn", "PyTorch CUDA eager"): 1,
    ("mlp", "PyTorch CUDA graphs"): 1,
}
TOLERANCE = 1e-4
MOVEMENT_TOLERANCE = 1e-2
"""Relative to how far the weights moved: small steps would hide a wrong gradient in the weights themselves. In float32, a
CNN's ReLUs and max-pooling amplify rounding to a few thousandths; in float64 the engines agree to 1e-13."""
ROUNDS, ROUND_SECONDS, WARM_UP_SECONDS = 5, 0.12, 0.3
WORKER_SECONDS = 240
MATMUL_SIDE = 8192
COPIED_BYTES = {"cpu": 2**28, "gpu": 2**31}
NO_TIME = "no time was left"
MARK = "@@"
"""Starts a line in which a worker reports a result as JSON."""


# ---- workers: each stage's work, in its own process -------------------------------------------------------------------


def environment():
    """Yield the machine, its GPU and the versions."""
    found = {"machine": backend.describe(), "cores": backend.usable_cores(), "versions": versions(), "card": None}
    try:
        with backend.temporarily("cupy"):
            found["card"] = backend.describe()
            runtime = backend.xp.cuda.runtime
            found |= {
                "driver": runtime.driverGetVersion(),
                "cuda": runtime.runtimeGetVersion(),
                "memory_gb": round(backend.xp.cuda.Device().mem_info[1] / 1e9, 1),
            }
    except BackendError as error:
        found["no_gpu"] = str(error)
    yield found


def agreement(name):
    """Compare training, codes and shipped models between NumPy's reference engine and the backend in use."""
    make_models = {
        "mlp": lambda b, e: MLPAutoencoder(b, (50,), engine=e),
        "cnn": lambda b, e: CNNAutoencoder(b, engine=e),
        "lstm": lambda b, e: Seq2SeqAutoencoder(b, 32, engine=e),
    }
    data = {
        "mlp": synthetic_digits(train=320, test=200).train_images,
        "cnn": synthetic_shapes(train=160, test=20).train_images,
        "lstm": list(synthetic_sentences(320).sentences),
    }
    data["transform"] = data["cnn"]
    for model, make in make_models.items():
        for bottleneck in (Vanilla, Commit):

            def train(engine, model=model, make=make, bottleneck=bottleneck):
                built = make(bottleneck(), engine)
                start = built.state_arrays()["parameters"]
                # Not Adam, which turns rounding errors into full steps where a gradient is nearly 0.
                history = fit(built, data[model], SGD(0.01), epochs=1, batch_size=len(data[model]) // 10, progress=False)
                return built, history.rows[-1]["reconstruction"], start, built.state_arrays()["parameters"]

            with backend.temporarily("numpy"):
                _, loss, start, expected = train("reference")
            built, own_loss, _, found = train(None)
            off = found - expected
            weights, losses = float(np.abs(off).max() / np.abs(expected).max()), abs(own_loss / loss - 1)
            movement = float(np.linalg.norm(off) / np.linalg.norm(expected - start))
            yield {
                "check": f"{model}, {bottleneck.__name__.lower()}: ten training steps",
                "weights": weights,
                "loss": losses,
                "movement": movement,
                "passed": max(weights, losses) <= TOLERANCE and movement <= MOVEMENT_TOLERANCE,
            }
        yield codes_agree(built, data[model], model)
    for shipped, entry in codec.shipped_models().items():
        yield codes_agree(codec.shipped(shipped), data[entry["recipe"]["architecture"]], f"shipped {shipped}")


def codes_agree(model, examples, name):
    """Check that the codes of both sides are equal except at the threshold, and decode to the same on the other side."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.npz")
        latent, bits = model.latent(examples), model.encode(examples)
        decoded = model.decode(bits)
        with backend.temporarily("numpy"):
            from tinyqae import load

            on_cpu = load(Path(folder) / "model.npz", engine="reference")
            equal = (on_cpu.encode(examples) == bits)[np.abs(latent - 0.5) > TOLERANCE].mean()
            expected = on_cpu.decode(bits)
    if isinstance(expected, np.ndarray):
        same = float((np.abs(expected.astype(int) - decoded) <= 1).mean())
    else:
        same = float(np.mean([a == b for a, b in zip(expected, decoded, strict=True)]))
    return {
        "check": f"{name}: codes and reconstructions on the other side",
        "bits_equal": float(equal),
        "decoded_equal": same,
        "passed": bool(equal == 1 and same == 1),
    }


def speed(name, cases):
    """Time one contender's training steps; yield a result for each case."""
    for model, case in cases:
        if name.startswith("PyTorch"):
            import torch

            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(os.environ.get("TF32"))
            how = os.environ["HOW"]
            on = {"how": "eager", "device": "cpu"} if how == "cpu" else {"how": how, "device": "cuda"}
            step = TORCH_STEPS[model](**case, **on)
        else:
            step = OUR_STEPS[model](**case, **({"graphs": True} if name == "CuPy graphs" else {}))
        yield {"model": model, "case": case, **timed(step), "gpu_megabytes": gpu_megabytes()}
        del step


def timed(step):
    """Return {"ms", "range"}: the median over rounds of a round's mean step time, and the smallest and largest."""
    until = time.perf_counter() + WARM_UP_SECONDS
    step()
    while time.perf_counter() < until:
        step()
    count = max(1, int(ROUND_SECONDS / max(elapsed(step, 2) / 2, 1e-6)))
    rounds = [1e3 * elapsed(step, count) / count for _ in range(ROUNDS)]
    return {"ms": statistics.median(rounds), "range": [min(rounds), max(rounds)]}


def elapsed(step, count):
    """Return the seconds that `count` steps take: between two events if this process uses a GPU, else by the CPU clock."""
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


def gpu_megabytes():
    """Return the GPU memory of this process in MB, or None."""
    torch = sys.modules.get("torch")
    if backend.name == "cupy":
        return round(backend.xp.get_default_memory_pool().total_bytes() / 1e6, 1)
    if torch and torch.cuda.is_initialized():
        return round(torch.cuda.max_memory_allocated() / 1e6, 1)
    return None


def ceilings(name):
    """The rate of a large matmul, GFLOP/s, and of a large copy, GB/s; name: "cpu" or "gpu"."""
    xp = backend.xp
    source = xp.ones(COPIED_BYTES[name] // 4, np.float32)
    target = xp.zeros_like(source)
    bandwidth = 2 * source.nbytes / min(elapsed(lambda: xp.copyto(target, source), 3) / 3 for _ in range(5))
    if name == "cpu":
        gflops = gemm_peak(backend.threads)
    else:
        a, out = xp.ones((MATMUL_SIDE, MATMUL_SIDE), np.float32), xp.empty((MATMUL_SIDE, MATMUL_SIDE), np.float32)
        gflops = 2 * MATMUL_SIDE**3 / min(elapsed(lambda: backend.gemm(a, a, out), 3) / 3 for _ in range(5)) / 1e9
    yield {"gflops": gflops, "gigabytes_per_second": bandwidth / 1e9}


WORK = {
    "environment": lambda name, cases: environment(),
    "agreement": lambda name, cases: agreement(name),
    "speed": speed,
    "ceilings": lambda name, cases: ceilings(name),
}


def work(task):
    """Run a task in this process and report each result. task: {"stage", "name", "cases"}."""
    name = task["name"]
    backend.use("cupy" if name.startswith("CuPy") or name == "gpu" else "numpy")
    if os.environ.get("NO_GRAPHS"):
        from tinyqae.fast import cuda_graphs

        cuda_graphs.TrainingStep.capturing = False
    for found in WORK[task["stage"]](name, task["cases"]):
        print(MARK, json.dumps(found), flush=True)


# ---- the parent: runs tasks within the time limit, writes results at once ---------------------------------------------


class Run:
    """The results so far, written after each new one."""

    def __init__(self, out, seconds, command):
        self.deadline = time.monotonic() + seconds
        self.out = Path(out)
        self.result = {
            "command": command,
            "date": time.strftime("%Y-%m-%d"),
            "environment": {},
            "agreement": {},
            "tests": None,
            "ceilings": {},
            "speed": [],
            "failures": [],
        }

    def left(self):
        """Seconds until the time is up."""
        return self.deadline - time.monotonic()

    def task(self, stage, name, environment=None, cases=()):
        """Yield a worker's results. A failed case is recorded, and a new worker continues with the next one."""
        cases, before = list(cases), None
        if self.result["environment"].get("no_gpu") and ("CuPy" in name or "CUDA" in name or name == "gpu"):
            self.fail(stage, name, "no GPU")
            return
        while True:
            reported, why = 0, None
            for found in self._worker({"stage": stage, "name": name, "cases": cases}, environment or {}):
                if isinstance(found, str):
                    why = found
                else:
                    reported += 1
                    yield found
            if why is None or 0 < len(cases) == reported:  # A failure after the last case loses nothing.
                return
            for_all = why == NO_TIME or why == before and not reported or not cases
            self.fail(stage, name, why, None if for_all else cases[reported])
            cases, before = cases[reported + 1 :], why
            if for_all or not cases:
                return

    def _worker(self, task, environment):
        """Yield the dicts that a worker reports, and a str at the end if it fails."""
        if self.left() < 5:
            yield NO_TIME
            return
        process = subprocess.Popen(
            [sys.executable, __file__, "--worker", json.dumps(task)],
            text=True,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        lines = queue.Queue()
        threading.Thread(target=lambda: [*map(lines.put, itertools.chain(process.stdout, [None]))], daemon=True).start()
        last, limit = "", min(self.left(), WORKER_SECONDS)
        until = time.monotonic() + limit
        while True:
            try:
                line = lines.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                process.kill()
                yield f"stopped after {limit:.0f} s"
                return
            if line is None:
                break
            if line.startswith(MARK):
                yield json.loads(line[len(MARK) :])
            elif line.strip():
                last = line.strip()[:300]
        process.wait()
        if process.returncode:
            yield f"exit code {process.returncode}: {last}"

    def fail(self, stage, name, why, case=None):
        """Record that something did not run."""
        self.result["failures"].append({"stage": stage, "name": name, "case": case, "why": why})
        print(f"{stage}, {name}{f', {case}' if case else ''}: did not run: {why}", flush=True)
        self.write()

    def write(self):
        """Write the files with the results so far."""
        card = re.sub(r"\W+", "-", str(self.result["environment"].get("card") or "none").lower()).strip("-")
        text = as_markdown(self.result)
        self.out.mkdir(parents=True, exist_ok=True)
        data = (json.dumps(self.result, indent=1) + "\n").encode()
        write_atomically(self.out / f"gpu-{card}.json", lambda f: f.write(data))
        write_atomically(self.out / f"gpu-{card}.md", lambda f: f.write(text.encode()))
        if self.result["speed"]:
            draw(self.result, self.out / f"gpu-{card}.png")


def run_environment(run):
    """Fill in "environment"."""
    for found in run.task("environment", "cpu"):
        run.result["environment"] = found
        print(json.dumps(found, indent=1), flush=True)
        run.write()


def run_agreement(run):
    """Fill in "agreement", from plain operations to all optimizations."""
    for name, environment in ON_CUPY.items():
        checks = run.result["agreement"].setdefault(name, [])
        for found in run.task("agreement", name, environment):
            checks.append(found)
            values = ", ".join(f"{key} {value:.2g}" for key, value in found.items() if isinstance(value, float))
            print(f"{name}: {found['check']}: {'agrees' if found['passed'] else 'DIFFERS'} ({values})", flush=True)
            run.write()


def run_tests(run):
    """Fill in "tests"."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs", "-p", "no:cacheprovider", "tests"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=max(1, min(run.left(), 120)))
        lines = done.stdout.strip().splitlines()
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        run.result["tests"] = {"summary": lines[-1] if lines else f"exit code {done.returncode}", "failed": failed}
    except subprocess.TimeoutExpired as error:
        run.result["tests"] = {"summary": f"stopped after {error.timeout:.0f} s", "failed": []}
    print("tests marked gpu:", run.result["tests"]["summary"], *run.result["tests"]["failed"], sep="\n  ", flush=True)
    run.write()


def run_ceilings(run):
    """Fill in "ceilings"."""
    for where in ("gpu", "cpu"):
        for found in run.task("ceilings", where):
            run.result["ceilings"][where] = found
            print(f"{where}: {found['gflops']:.0f} GFLOP/s, {found['gigabytes_per_second']:.0f} GB/s", flush=True)
            run.write()


def run_speed(run):
    """Fill in "speed"."""
    for name, environment in CONTENDERS.items():
        cases = [(model, case) for model, case in CASES if not (model == "lstm" and "compiled" in name)]
        if name.startswith("PyTorch") and not importlib.util.find_spec("torch"):
            run.fail("speed", name, "PyTorch is not installed")
            continue
        for found in run.task("speed", name, environment, cases):
            run.result["speed"].append({"name": name, **found})
            print(f"{name}: {found['model']}, {found['case']}: {found['ms']:.3f} ms", flush=True)
            run.write()


# ---- the report -------------------------------------------------------------------------------------------------------


def gigabytes(model, batch_size, hidden=50, multiple=1):
    """Return the bytes of a step, in 10^9, as the module's docstring counts them."""
    if model == "mlp":
        parameters, outputs = 2 * 784 * hidden + hidden + 784, batch_size * (2 * hidden + 784)
    elif model == "lstm":
        parameters = 4 * hidden * (37 + 39 + 2 * hidden + 2) + 2 * hidden * (hidden + 1) + (hidden + 1) * 39
        # Gates and two states of every time step; the dense layers' outputs and the code; the logits.
        outputs = batch_size * ((22 + 24) * 6 * hidden + 4 * hidden + 24 * 39)
    else:
        a, b, c = 64 * multiple, 32 * multiple, 16 * multiple
        layers = [
            (3, a, 32, 9),
            (a, b, 16, 9),
            (b, c, 8, 9),
            (c, c, 4, 1),
            (c, c, 4, 9),
            (c, b, 8, 9),
            (b, a, 16, 9),
            (a, 3, 32, 9),
        ]
        parameters = sum(channels * filters * taps + 2 * filters for channels, filters, _, taps in layers)
        # The outputs of pooling, a quarter as large, are left out.
        outputs = batch_size * sum(filters * side**2 for _, filters, side, _ in layers)
    return 4 * (10 * parameters + 5 * outputs) / 1e9


def floor_seconds(gflop, bytes_, ceiling):
    """Return the minimum time of a step on a machine with these ceilings."""
    return max(gflop / ceiling["gflops"], bytes_ / ceiling["gigabytes_per_second"])


def of_floor(row, all_ceilings):
    """Return the share of the floor's speed that a contender reaches, or None."""
    ceiling = all_ceilings.get("gpu" if "CuPy" in row["name"] or "CUDA" in row["name"] else "cpu")
    if ceiling is None:
        return None
    least = floor_seconds(GFLOP[row["model"]](**row["case"]), gigabytes(row["model"], **row["case"]), ceiling)
    return least / (row["ms"] / 1e3)


def crossover(rows):
    """Describe the batch size from which the fastest CuPy version beats the fastest NumPy version. rows: of one model."""
    best = {}
    for row in rows:
        side = row["name"].split()[0]
        size = row["case"]["batch_size"]
        best.setdefault(size, {}).setdefault(side, []).append(1 / row["ms"])
    ratios = [
        (size, max(sides["CuPy"]) / max(sides["NumPy"]))
        for size, sides in sorted(best.items())
        if {"CuPy", "NumPy"} <= set(sides)
    ]
    if not ratios:
        return "not measured"
    if ratios[0][1] >= 1:
        return f"at every batch size measured, from {ratios[0][0]} on"
    for (small, before), (large, after) in zip(ratios, ratios[1:], strict=False):
        if after >= 1:
            # A straight line between the two, both axes logarithmic.
            share = -math.log(before) / (math.log(after) - math.log(before))
            return f"from a batch size of about {small * (large / small) ** share:.0f} on"
    return f"at no batch size up to {ratios[-1][0]}"


def by_case(rows):
    """{(model, case as text): {contender: row}}, in the order of the rows."""
    found = {}
    for row in rows:
        case = ", ".join(f"{name} {value}" for name, value in row["case"].items()).replace("batch_size", "batch")
        found.setdefault((row["model"], case), {})[row["name"]] = row
    return found


def goals(rows):
    """Return lines that say which goals against PyTorch are met."""
    lines = []
    for (model, case), of_case in by_case(rows).items():
        for (goal_model, rival), goal in GOALS.items():
            ours = [row["ms"] for name, row in of_case.items() if name.startswith("CuPy")]
            if model == goal_model and rival in of_case and ours:
                reached = of_case[rival]["ms"] / min(ours)
                lines.append(
                    f"- {model}, {case}: {reached:.2f} times the speed of {rival} (goal {goal:g}): "
                    f"{'met' if reached >= goal else 'MISSED'}"
                )
    return lines


def as_markdown(result):
    """Return the results as Markdown, with everything needed to reproduce them."""
    here = result["environment"]
    lines = [
        "# GPU: checks and measurements",
        "",
        f"`{result['command']}`, {result['date']}. Card: {here.get('card') or 'none'}; {here.get('machine', '')}; "
        f"{', '.join(here.get('versions', []))}. float32; TF32 off unless the name says so.",
        "",
    ]
    if here.get("no_gpu"):
        lines += [f"**No GPU: {here['no_gpu']}.** Everything that needs one was skipped.", ""]
    lines += ["## Agreement with NumPy", ""]
    lines += [
        f"- {name}: {sum(check['passed'] for check in checks)} of {len(checks)} checks agree"
        + "".join(f"; DIFFERS: {one['check']}" for one in checks if not one["passed"])
        for name, checks in result["agreement"].items()
        if checks
    ]
    if result["tests"]:
        lines += ["", f"Tests marked gpu: {result['tests']['summary']}"]
        lines += [f"- {line}" for line in result["tests"]["failed"]]
    lines += [
        "",
        "## Speed",
        "",
        *(
            f"Ceilings of the {where}: {ceiling['gflops']:.0f} GFLOP/s (matmul), "
            f"{ceiling['gigabytes_per_second']:.0f} GB/s (copy)."
            for where, ceiling in result["ceilings"].items()
        ),
    ]
    for model in dict.fromkeys(row["model"] for row in result["speed"]):
        rows = [row for row in result["speed"] if row["model"] == model]
        lines += [f"CuPy beats NumPy, {model}: {crossover(rows)}."]
    lines += [
        "",
        "| case | contender | ms per step | steps/s | speedup over PyTorch CUDA eager | of floor | GPU memory, MB |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (model, case), of_case in by_case(result["speed"]).items():
        eager = of_case.get("PyTorch CUDA eager")
        for name, row in of_case.items():
            ratio = f"{eager['ms'] / row['ms']:.2f}" if eager else ""
            share = of_floor(row, result["ceilings"])
            lines.append(
                f"| {model}, {case} | {name} | {row['ms']:.3f} | {1e3 / row['ms']:.0f} | {ratio} | "
                f"{'' if share is None else f'{share:.0%}'} | {row['gpu_megabytes'] or ''} |"
            )
    lines += ["", "## Goals", "", *goals(result["speed"]), "", "## What did not run", ""]
    lines += [
        f"- {one['stage']}, {one['name']}{f', {one_case(one)}' if one['case'] else ''}: {one['why']}"
        for one in result["failures"]
    ]
    return "\n".join(lines) + "\n"


def one_case(failure):
    """Return a failed case as text."""
    return failure["case"] if isinstance(failure["case"], str) else " ".join(map(str, failure["case"]))


def draw(result, path):
    """Plot a panel for each model: steps per second by batch size (higher is better)."""
    models = list(dict.fromkeys(row["model"] for row in result["speed"]))
    figure, axes = plt.subplots(1, len(models), figsize=(4.6 * len(models), 3.8), squeeze=False, layout="constrained")
    for axis, model in zip(axes[0], models, strict=True):
        for i, name in enumerate(CONTENDERS):
            points = sorted(
                (row["case"]["batch_size"], 1e3 / row["ms"])
                for row in result["speed"]
                if row["model"] == model and row["name"] == name
            )
            if points:
                axis.loglog(
                    *zip(*points, strict=True),
                    marker="o",
                    color=f"C{i % 10}",
                    label=name,
                    linestyle="-" if name.startswith("CuPy") else "--",
                )
        axis.set(title=model, xlabel="batch size", ylabel="training steps per second")
        axis.legend(fontsize=6)
    figure.suptitle(f"{result['environment'].get('card') or 'no GPU'}: higher is better", fontsize=9)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=110, metadata={"Software": None}))
    plt.close(figure)


def versions():
    """Return the versions of Python and the installed packages."""
    found = [f"Python {sys.version.split()[0]}"]
    for name in ("numpy", "numba", "torch", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE", help=f"of {', '.join(STAGES)}; default: all"
    )
    parser.add_argument("--seconds", type=float, default=340, help="time limit for starting work; default: %(default)s")
    parser.add_argument("--out", metavar="DIR", type=Path, default=RESULTS, help="default: benchmarks/results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(json.loads(args.worker))
        return
    run = Run(args.out, args.seconds, " ".join(["python", "benchmarks/speed/gpu.py", *sys.argv[1:]]))
    run_environment(run)
    for stage in STAGES[1:]:
        if stage in args.only:
            {"agreement": run_agreement, "tests": run_tests, "ceilings": run_ceilings, "speed": run_speed}[stage](run)
    run.write()
    print("\n" + as_markdown(run.result))


if __name__ == "__main__":
    main()
