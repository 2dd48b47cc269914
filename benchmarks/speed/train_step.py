"""Training steps per second against PyTorch, on one machine in one run.

    python benchmarks/speed/train_step.py --model mlp --threads 1 2
    python benchmarks/speed/train_step.py --model cnn
    python benchmarks/speed/train_step.py --model lstm
    python benchmarks/speed/train_step.py --model cnn-scaling      the CNN at other widths and image sizes, batch 16

Every contender (PyTorch eager, torch.compile where it works, the reference engine, the fast engine on plain NumPy and with
Numba kernels, CuPy if installed) runs in its own process, and does the same step on the same batch: forward, losses,
backward, update. The processes take turns, one at a time, round after round, so that a change in the machine's speed affects
all of them. A round is the median step time over about 0.3 s, ratios are taken within a round, and the median ratio over
the rounds is reported.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import threadpoolctl

RESULTS = Path(__file__).resolve().parents[1] / "results"
ROUND_SECONDS = 0.3
REFERENCE = "torch eager"
OPEN = contextlib.ExitStack()


def batch_of(shape):
    """Return random images, floats in [0, 1]; their content does not affect the speed."""
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def our_step(model, batch, optimizer, graphs=False):
    """One training step of one of our models; graphs: replayed from a CUDA graph."""
    # As tinyqae.fit does; the process ends with its measurement, so this context is never exited.
    OPEN.enter_context(model.engine.working(model, len(batch)))
    if graphs:
        return our_graph_step(model, batch, optimizer)

    def step():
        loss = model.loss(batch)
        model.backward()
        optimizer.step(model)
        return loss

    return step


def our_graph_step(model, batch, optimizer):
    """our_step as tinyqae.fit does it on a GPU."""
    from tinyqae.train import TrainingStep

    training = model.engine.build(TrainingStep(model, optimizer, len(batch))).__enter__()

    def step():
        training(batch, optimizer.lr)
        return training.sums["reconstruction"]

    for _ in range(3):
        step()
    if not training.graphs:
        raise RuntimeError("no CUDA graph was captured")
    return step


def torch_step(loss_of, batch, optimizer, how="eager"):
    """One training step in PyTorch: how "eager", "compile" or, on a GPU, "graph"."""
    import torch

    loss_function = torch.compile(loss_of) if how == "compile" else loss_of

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return torch_graph_step(step) if how == "graph" else step


def torch_graph_step(step):
    """The step as one CUDA graph, by PyTorch's recipe for whole-network capture."""
    import torch

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay():
        graph.replay()
        return loss

    return replay


def torch_binarize(h):
    """(bits with the straight-through gradient, commit loss), as usually written in PyTorch."""
    import torch

    a = torch.sigmoid(h)
    bits = (a > 0.5).to(a.dtype)
    return a + (bits - a).detach(), torch.nn.functional.mse_loss(a, bits.detach())


def torch_image_step(encoder, decoder, batch, how, device):
    """The step of the image models, with Adam."""
    import torch

    encoder, decoder, batch = encoder.to(device), decoder.to(device), batch.to(device)

    def loss_of(batch):
        code, commit = torch_binarize(encoder(batch))
        return torch.nn.functional.binary_cross_entropy_with_logits(decoder(code), batch) + 0.1 * commit

    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, capturable=how == "graph")
    return torch_step(loss_of, batch, optimizer, how)


def our_image_step(model, batch, graphs):
    """The step of the image models, with Adam."""
    from tinyqae import Adam, backend

    return our_step(model, backend.to_device(batch), Adam(1e-3), graphs)


def our_mlp_step(batch_size, hidden=50, graphs=False):
    """784-hidden-784 with the commit bottleneck."""
    from tinyqae import Commit, MLPAutoencoder

    return our_image_step(MLPAutoencoder(Commit(weight=0.1), hidden=(hidden,)), batch_of((batch_size, 28, 28, 1)), graphs)


def torch_mlp_step(batch_size, hidden=50, how="eager", device="cpu"):
    """784-hidden-784 with the commit bottleneck."""
    import torch

    batch = torch.from_numpy(batch_of((batch_size, 28, 28, 1))).reshape(batch_size, -1)
    return torch_image_step(torch.nn.Linear(784, hidden), torch.nn.Linear(hidden, 784), batch, how, device)


def our_cnn_step(batch_size, multiple=1, side=32, graphs=False):
    """The report's CNN (small: multiple 1) with the commit bottleneck, without batch norm on the output."""
    from tinyqae import CNNAutoencoder, Commit

    model = CNNAutoencoder(
        Commit(weight=0.1),
        widths=(64 * multiple, 32 * multiple, 16 * multiple),
        latent_channels=16 * multiple,
        input_shape=(side, side, 3),
    )
    return our_image_step(model, batch_of((batch_size, side, side, 3)), graphs)


def torch_cnn_step(batch_size, multiple=1, side=32, how="eager", device="cpu"):
    """The same CNN, channels-last."""
    import torch
    from torch import nn

    def block(channels, filters):
        return [nn.Conv2d(channels, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]

    a, b, c = 64 * multiple, 32 * multiple, 16 * multiple
    encoder = nn.Sequential(
        *block(3, a), nn.MaxPool2d(2), *block(a, b), nn.MaxPool2d(2), *block(b, c), nn.MaxPool2d(2), nn.Conv2d(c, c, 1)
    ).to(memory_format=torch.channels_last)
    decoder = nn.Sequential(
        *block(c, c),
        nn.Upsample(scale_factor=2),
        *block(c, b),
        nn.Upsample(scale_factor=2),
        *block(b, a),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(a, 3, 3, padding=1),
    ).to(memory_format=torch.channels_last)
    batch = torch.from_numpy(batch_of((batch_size, side, side, 3))).permute(0, 3, 1, 2)
    return torch_image_step(encoder, decoder, batch, how, device)


def our_lstm_step(batch_size, hidden, graphs=False):
    """Sentences of 22 characters, 24 tokens for the decoder; dense layers on the states, commit, RMSprop."""
    from tinyqae import Commit, RMSprop, Seq2SeqAutoencoder

    model = Seq2SeqAutoencoder(Commit(weight=0.1), hidden, pad_to=22)
    batch = next(model.batches(["where is your daughter"] * batch_size, batch_size).in_order())
    return our_step(model, batch, RMSprop(1e-3), graphs)


def torch_lstm_step(batch_size, hidden, how="eager", device="cpu"):
    """The same model with torch.nn.LSTM, on precomputed one-hot tokens."""
    import torch
    from torch import nn

    lstms, denses = (nn.LSTM(37, hidden), nn.LSTM(39, hidden)), (nn.Linear(hidden, hidden) for _ in range(2))
    encoder, decoder, dense_h, dense_c, output = modules = nn.ModuleList([*lstms, *denses, nn.Linear(hidden, 39)]).to(device)

    def one_hot(steps, tokens):
        return nn.functional.one_hot(torch.randint(tokens, (steps, batch_size)), tokens).float().to(device)

    source, inputs, targets = one_hot(22, 37), one_hot(24, 39), torch.randint(39, (24 * batch_size,)).to(device)

    def loss_of(source):
        _, (h, c) = encoder(source)
        code, commit = torch_binarize(torch.cat([dense_h(h[0]), dense_c(c[0])], dim=1))
        states = code[None, :, :hidden].contiguous(), code[None, :, hidden:].contiguous()
        logits = output(decoder(inputs, states)[0])
        return nn.functional.cross_entropy(logits.reshape(-1, 39), targets) + 0.1 * commit

    optimizer = torch.optim.RMSprop(modules.parameters(), lr=1e-3, alpha=0.9, capturable=how == "graph")
    return torch_step(loss_of, source, optimizer, how)


def lstm_gflop(batch_size, hidden):
    """As cnn_gflop; matmuls with one-hot inputs, which are lookups, do not count."""
    recurrent, output, dense = (22 + 24) * 4 * hidden**2, 24 * hidden * 39, 2 * hidden**2
    return batch_size * 2 * 3 * (recurrent + output + dense) / 1e9


def cnn_gflop(batch_size, multiple=1, side=32):
    """Multiplications and additions of a step, in 10^9: 2 for each weight at each pixel it is applied to, forward, and twice
    that backward (the first layer has no input gradient). Upsampled convolutions count as the 3x3 ones they replace.
    """
    a, b, c = 64 * multiple, 32 * multiple, 16 * multiple
    layers = [
        (3, a, side, 9),
        (a, b, side // 2, 9),
        (b, c, side // 4, 9),
        (c, c, side // 8, 1),
        (c, c, side // 8, 9),
        (c, b, side // 4, 9),
        (b, a, side // 2, 9),
        (a, 3, side, 9),
    ]
    forward = [2 * channels * filters * size**2 * taps for channels, filters, size, taps in layers]
    return batch_size * (3 * sum(forward) - forward[0]) / 1e9


def mlp_gflop(batch_size, hidden=50):
    """As cnn_gflop, for 784-hidden-784."""
    return batch_size * 2 * 784 * hidden * (2 + 3) / 1e9


OUR_STEPS = {"mlp": our_mlp_step, "cnn": our_cnn_step, "lstm": our_lstm_step}
TORCH_STEPS = {"mlp": torch_mlp_step, "cnn": torch_cnn_step, "lstm": torch_lstm_step}
GFLOP = {"mlp": mlp_gflop, "cnn": cnn_gflop, "lstm": lstm_gflop}
CASES = {
    "mlp": [{"batch_size": n} for n in (16, 128, 1024)],
    "cnn": [{"batch_size": n} for n in (16, 64, 128)],
    "lstm": [{"batch_size": n, "hidden": hidden} for hidden in (32, 128, 256) for n in (64, 256)],
    "cnn-scaling": [{"batch_size": 16, "multiple": m, "side": side} for m, side in ((1, 32), (2, 32), (3, 32), (1, 64))],
}


def contenders(model):
    """Return {name: (environment, function from the batch size to a step)} for everything that is installed."""
    found = {}
    if importlib.util.find_spec("torch"):
        found[REFERENCE] = ({}, TORCH_STEPS[model])
        if model != "lstm":  # torch.nn.LSTM is one opaque call, in which there is nothing to compile
            found["torch.compile"] = ({}, functools.partial(TORCH_STEPS[model], how="compile"))
    found["reference engine"] = ({"TINYQAE_ENGINE": "reference"}, OUR_STEPS[model])
    found["numpy"] = ({"TINYQAE_ENGINE": "fast", "TINYQAE_KERNELS": "numpy"}, OUR_STEPS[model])
    if importlib.util.find_spec("numba"):
        found["numpy + numba"] = ({"TINYQAE_ENGINE": "fast", "TINYQAE_KERNELS": "numba"}, OUR_STEPS[model])
    if importlib.util.find_spec("cupy"):
        found["cupy"] = ({"TINYQAE_ENGINE": "fast", "TINYQAE_BENCH_BACKEND": "cupy"}, OUR_STEPS[model])
    return found


def serve(pipe, name, environment, make_step, case, threads, measure):
    """The contender's process: warm up, then run one round for each message until None arrives."""
    os.environ.update(environment)
    threadpoolctl.threadpool_limits(threads)
    try:
        if name.startswith("torch"):
            import torch

            torch.set_num_threads(threads)
        else:
            from tinyqae import backend

            backend.use_threads(threads)
            if environment.get("TINYQAE_BENCH_BACKEND"):
                backend.use("cupy")
        memory_before = peak_megabytes()
        step = make_step(**case)
        warm_until = time.perf_counter() + 1
        step()
        while time.perf_counter() < warm_until:
            step()
    except Exception as error:  # noqa: BLE001  whatever torch.compile fails with, the others are still worth timing
        pipe.send(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200])
        return
    pipe.send(None)
    while pipe.recv():
        pipe.send(measure(step))
    pipe.send(peak_megabytes() - memory_before)


def peak_megabytes():
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one_round(step):
    """The median seconds of a step over about ROUND_SECONDS. Reading a loss waits for a GPU to finish."""
    times, until = [], time.perf_counter() + ROUND_SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        float(step())
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def race(contenders, case, threads, rounds, measure=one_round, reference=REFERENCE):
    """{contender: {"ms", "steps_per_second", "ratio", "ratio_range", "megabytes"}} and {contender: why it did not run}.

    contenders: as returned by the function of that name. measure: a function from a step to its seconds in a round. ratio:
    the speed relative to the contender named by reference. megabytes: the growth of the process's peak memory since before
    the model was built.
    """
    context = multiprocessing.get_context("spawn")
    running, failed = {}, {}
    for name, (environment, make_step) in contenders.items():
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve, daemon=True, args=(theirs, name, environment, make_step, case, threads, measure)
        )
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
    megabytes = {}
    for name, (process, pipe) in running.items():
        pipe.send(None)
        megabytes[name] = pipe.recv()
        process.join()
    rows = {}
    for name, seconds in times.items():
        ratios = [reference / own for reference, own in zip(times.get(reference, []), seconds, strict=False)]
        rows[name] = {
            "ms": 1e3 * statistics.median(seconds),
            "steps_per_second": 1 / statistics.median(seconds),
            "ratio": statistics.median(ratios) if ratios else None,
            "ratio_range": [min(ratios), max(ratios)] if ratios else None,
            "megabytes": megabytes[name],
        }
    return rows, failed


def gemm_peak(threads):
    """Measure the machine's float32 GEMM rate in GFLOP/s: the best of several 1024^3 matmuls."""
    with threadpoolctl.threadpool_limits(threads):
        a = np.random.default_rng(0).random((1024, 1024), dtype=np.float32)
        out = np.empty_like(a)
        best = min(_seconds(lambda: np.matmul(a, a, out=out)) for _ in range(15))
    return 2 * 1024**3 / best / 1e9


def _seconds(function):
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def as_markdown(result):
    """Return the results as a Markdown table, with everything needed to reproduce them."""
    lines = [
        f"# Training steps against PyTorch: {result['model']}",
        "",
        f"`{result['command']}` on {result['machine']}; {', '.join(result['versions'])}; {result['rounds']} rounds; "
        f"{result['date']}. ms per step: median. Ratio: the speedup over {REFERENCE}, median over the rounds "
        "(smallest to largest).",
        "",
        "Of peak: the step's multiplications and additions divided by its time, as a share of the GEMM peak measured in "
        "this run: "
        + ", ".join(
            f"{rate:.0f} GFLOP/s with {threads} thread{'s' * (threads > 1)}" for threads, rate in result["gemm_peak"]
        )
        + ". The operations counted are those of the plain formulas; Winograd and folded upsampling need fewer, so the "
        "share can exceed 100%. MB: growth of the process's peak memory.",
        "",
        "| threads | case | contender | ms per step | steps/s | ratio | of peak | MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    peaks = dict(result["gemm_peak"])
    for race_ in result["races"]:
        case = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in race_["case"].items())
        for name, row in race_["rows"].items():
            ratio = (
                ""
                if row["ratio"] is None
                else (f"{row['ratio']:.2f} ({row['ratio_range'][0]:.2f} to {row['ratio_range'][1]:.2f})")
            )
            share = race_["gflop"] / (row["ms"] / 1e3) / peaks[race_["threads"]]
            lines.append(
                f"| {race_['threads']} | {case} | {name} | {row['ms']:.3f} | {row['steps_per_second']:.0f} | "
                f"{ratio} | {share:.0%} | {row['megabytes']:.0f} |"
            )
        lines += [
            f"| {race_['threads']} | {case} | {name} | did not run: {why} | | | | |" for name, why in race_["failed"].items()
        ]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=CASES, default="mlp")
    parser.add_argument("--batch-sizes", type=int, nargs="+", help="only the cases with these batch sizes")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="thread counts, the same for all; default: 1")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-write", action="store_true", help="only print, do not write to benchmarks/results/")
    args = parser.parse_args()
    from tinyqae import backend
    from tinyqae.checkpoint import write_atomically

    packages = [
        f"{name} {importlib.metadata.version(name)}"
        for name in ("numpy", "numba", "torch", "cupy-cuda12x")
        if _installed(name)
    ]
    result = {
        "model": args.model,
        "command": " ".join(["python", *sys.argv]),
        "machine": backend.describe(),
        "versions": packages,
        "rounds": args.rounds,
        "date": time.strftime("%Y-%m-%d"),
        "gemm_peak": [(threads, gemm_peak(threads)) for threads in args.threads],
        "races": [],
    }
    for threads in args.threads:
        for case in CASES[args.model]:
            if args.batch_sizes and case["batch_size"] not in args.batch_sizes:
                continue
            architecture = args.model.split("-")[0]
            rows, failed = race(contenders(architecture), case, threads, args.rounds)
            result["races"].append(
                {"threads": threads, "case": case, "gflop": GFLOP[architecture](**case), "rows": rows, "failed": failed}
            )
            print(
                f"{args.model}, {threads} thread(s), {case}: "
                + "; ".join(
                    f"{name} {row['ms']:.3f} ms" + (f" (x{row['ratio']:.2f})" if row["ratio"] else "")
                    for name, row in rows.items()
                ),
                flush=True,
            )
    text = as_markdown(result)
    print("\n" + text)
    if not args.no_write:
        write_atomically(
            RESULTS / f"train_step_{args.model}.json",
            lambda file: file.write((json.dumps(result, indent=1) + "\n").encode()),
        )
        write_atomically(RESULTS / f"train_step_{args.model}.md", lambda file: file.write(text.encode()))


def _installed(package):
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


if __name__ == "__main__":
    main()
