"""Attack the readers, the command and its runs at random, and count what happens.

    python tests/tools/campaigns.py                                                    all of them, at most 3 minutes each
    python tests/tools/campaigns.py pictures --attempts 100000 --seconds 600 --seed 7  one of them

Writes what happened to campaigns.json beside this file, and as a table to tests/README.md.

Whatever an attempt does, it happens in a temporary folder and in processes started here. The quick part of each campaign is
in tests/test_campaigns.py.
"""

import collections
import concurrent.futures
import contextlib
import datetime
import functools
import gzip
import hashlib
import http.server
import importlib.util
import io
import itertools
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers"), str(ROOT / "tests" / "codec")]

import pytest  # noqa: E402
import threadpoolctl  # noqa: E402
from hostile import damaged, outcome, with_wrong_values  # noqa: E402
from option_table import try_all_options  # noqa: E402
from PIL import Image  # noqa: E402

from tinyqae import Adam, CNNAutoencoder, Commit, MLPAutoencoder, Seq2SeqAutoencoder, codec, fit, load  # noqa: E402
from tinyqae.checkpoint import write_arrays  # noqa: E402
from tinyqae.cli import program  # noqa: E402
from tinyqae.codec import lines  # noqa: E402
from tinyqae.codec.inputs import read_images  # noqa: E402
from tinyqae.data import cache  # noqa: E402
from tinyqae.data.pictures import read_picture  # noqa: E402

README = ROOT / "tests" / "README.md"
FIGURES = ROOT / "tests" / "tools" / "campaigns.json"
EPOCHS_WITH_KILLS = 25
READERS_TO_FUZZ = ("container", "images", "text", "model", "pickle")
BEGIN, END = "<!-- campaigns -->", "<!-- /campaigns -->"
TRAIN = ("train", "mnist-mlp", "--dataset", "synthetic", "--train-images", "300", "--quiet")


def small_models():
    """One of each kind."""
    return [
        MLPAutoencoder(Commit(), (12,), (8, 8, 1)),
        CNNAutoencoder(Commit(), (2, 2), 2, (8, 8, 3)),
        Seq2SeqAutoencoder(Commit(), 4, max_length=6),
    ]


def heed_interrupts():
    """In a child process: undo that SIGINT is ignored, as shells have it for what runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def command(*arguments, preexec_fn=heed_interrupts, environment=None):
    """`python -m tinyqae` as a process that was started, with additions to the environment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
    return subprocess.Popen(
        [sys.executable, "-m", "tinyqae", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=preexec_fn,
    )


# ---- readers: each campaign is a generator of the outcomes of its attempts -----------------------------------------------


def containers(random, folder):
    """Damaged .tqae files, of which none may decode."""
    grey, colour = random.integers(0, 256, (40, 8, 8), np.uint8), random.integers(0, 256, (9, 7, 3), np.uint8)
    whole = [
        (model, codec.compress(content, model))
        for model, content in zip(small_models(), (grey, [colour, colour[:3]], "ab\nAB\nabc d\r\n" * 5), strict=True)
    ]
    while True:
        model, data = whole[random.integers(len(whole))]
        bad = damaged(data, random)
        if bad != data:
            found = outcome(lambda bad, model=model: codec.unpack(bad, model), bad)
            yield "fault: a damaged file decoded" if found == "read" else found


def model_files(random, folder):
    """Damaged model files, and ones whose descriptions hold values of wrong types."""
    path, models = folder / "model.npz", small_models()
    descriptions = [(model.as_file()[0], bad) for model in models for bad in with_wrong_values(model.as_file()[1])]
    while True:
        if random.random() < 0.5:
            write_arrays(path, *descriptions[random.integers(len(descriptions))])
        else:
            models[random.integers(3)].save(path)
            path.write_bytes(damaged(path.read_bytes(), random))
        yield outcome(load, path)


def pictures(random, folder):
    """Mutated picture files of six formats."""
    whole = []
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (9, 7, 3), np.uint8)).save(buffer, form)
        whole.append(buffer.getvalue())
    while True:
        yield outcome(lambda data: read_picture(data, "picture"), damaged(whole[random.integers(len(whole))], random))


def arrays(random, folder):
    """Mutated .npy, .npz and IDX files, packed ones too."""
    values = random.integers(0, 256, (5, 8, 8), np.uint8)
    idx = b"\0\0\x08\x03" + np.array(values.shape, ">u4").tobytes() + values.tobytes()
    buffers = [io.BytesIO() for _ in range(3)]
    np.save(buffers[0], values)
    np.save(buffers[1], values / np.float32(255))
    np.savez(buffers[2], values)
    whole = [*(buffer.getvalue() for buffer in buffers), idx, gzip.compress(idx)]
    while True:
        bad = damaged(whole[random.integers(len(whole))], random)
        yield outcome(lambda data: read_images(["-"], stdin=io.BytesIO(data)), bad)


def texts(random, folder):
    """Texts of any characters: what is stored verbatim, and how lines end, is the same after a round trip."""
    model = small_models()[2]
    alphabet = list("ab c19\n\r\t\x00äß中\u2028\x85\ufeff\U0001f600")
    while True:
        text = "".join(random.choice(alphabet, random.integers(0, 60)))
        parts = lines.take_apart(text, 6)
        expected = lines.put_together(parts, model.reconstruct(parts.coded) if parts.coded else [])
        same = codec.unpack(codec.compress(text, model), model).content == expected
        yield "read" if same and lines.put_together(parts, parts.coded) == text else "fault: another text"


def options(random, folder):
    """The table of bad values, for every option of every command and example."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        tried, wrong = try_all_options(monkeypatch)
    yield from ["refused"] * (tried - len(wrong))
    yield from (f"fault: {ascii(case)[:80]}" for case in wrong)


# ---- the command and its runs ----------------------------------------------------------------------------------------


def signals(random, folder):
    """SIGINT or SIGTERM at a random moment of a training, from the first import to the end."""
    for attempt in itertools.count():
        out, number = folder / f"run{attempt}", random.choice([signal.SIGINT, signal.SIGTERM])
        process = command(*TRAIN, "--epochs", "2", "--out", out, "--force")
        time.sleep(random.uniform(0.1, 4))
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(int(number))
        _, said = process.communicate(timeout=120)
        left = [path.name for path in out.glob(".*")]
        expected = (128 + number, f"stopped{said.strip()[7:]}\n")
        if process.returncode == 0 and not said and not left:
            yield "finished before"
        elif (process.returncode, said) == expected and not left and said.count("\n") == 1:
            yield "stopped in one line"
        else:
            yield f"fault: exit code {process.returncode}, {said.strip()[-60:]!r}, left {left}"


SLOW_TRAINING = """import sys, time
import campaigns
from tinyqae import fit, Adam
kind, folder, epochs = int(sys.argv[1]), campaigns.Path(sys.argv[2]), int(sys.argv[3])
fit(campaigns.small_models()[kind], campaigns.examples(kind), Adam(1e-2), epochs=epochs, batch_size=5, progress=False,
    checkpoint=folder / "c.npz", resume=True, callbacks=[lambda model, history: time.sleep(0.05)])
"""


def examples(kind):
    """Twenty training examples for each of the small models."""
    random = np.random.default_rng(0)
    if kind == 2:
        return ["".join(random.choice(list("abc"), 5)) for _ in range(20)]
    return random.integers(0, 256, (20, 8, 8, (1, 3)[kind]), np.uint8)


def kills(random, folder):
    """Kill a training (SIGKILL) after an epoch or two and resume it, until it ends with the weights of one never killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    for attempt in itertools.count():
        kind = attempt % 3
        here, epochs = Path(tempfile.mkdtemp(dir=folder)), EPOCHS_WITH_KILLS
        model = small_models()[kind]
        fit(model, examples(kind), Adam(1e-2), epochs=epochs, batch_size=5, progress=False, checkpoint=here / "whole.npz")
        checkpoint, killed = here / "c.npz", 0
        while True:
            before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            process = subprocess.Popen(
                [sys.executable, "-c", SLOW_TRAINING, str(kind), str(here), str(epochs)], env=environment
            )
            while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns > before):
                time.sleep(0.002)
            time.sleep(random.uniform(0, 0.15))
            if process.poll() is None:
                process.kill()
                killed += 1
            if process.wait() == 0:
                break
        arrays = [np.load(path) for path in (here / "whole.npz", checkpoint)]
        same = all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0].files if name != "meta.json")
        yield from ["resumed"] * (killed - 1) + ["resumed to the same weights" if same else "fault: other weights"]


class Faulty(http.server.BaseHTTPRequestHandler):
    """A server that does what its path says."""

    FAULTS = (
        "403",
        "503",
        "page",
        "short",
        "silent",
        "slow",
        "endless",
        "loop",
        "nowhere",
        "lie",
        "garbage",
        "headers",
        "good",
    )

    def do_GET(self):
        fault, content = self.path.strip("/"), self.server.content
        with contextlib.suppress(OSError):
            if fault.isdecimal():
                return self.send_error(int(fault))
            if fault == "silent":
                return time.sleep(1)
            if fault == "garbage":
                return self.wfile.write(b"\xff\x00 no protocol\r\n\r\n")
            if fault == "headers":
                return self.send_for_ever(b"HTTP/1.0 200 OK\r\nX: ", b"d")
            self.send_response(302 if fault in ("loop", "nowhere") else 200)
            if fault in ("loop", "nowhere"):
                self.send_header("Location", self.path if fault == "loop" else "http://[::bad/")
            elif fault in ("short", "lie"):
                self.send_header("Content-Length", str(len(content) if fault == "short" else 10**30))
            self.end_headers()
            if fault == "good":
                self.wfile.write(content)
            elif fault == "page":
                self.wfile.write(b"<html>please log in</html>")
            elif fault in ("short", "lie"):
                self.wfile.write(content[: len(content) // 2])
            elif fault == "slow":
                self.send_for_ever(b"", b"d")
            elif fault == "endless":
                self.send_for_ever(b"", content, pause=0)

    def send_for_ever(self, beginning, content, pause=0.02):
        self.wfile.write(beginning)
        while True:
            self.wfile.write(content)
            time.sleep(pause)

    def log_message(self, *_):
        pass


def server(random, folder):
    """A download from a server on this machine, which has each fault in turn; a beginning may be there already."""
    content = random.bytes(50_000)
    known = hashlib.sha256(content).hexdigest()
    cache.SECONDS_WITHOUT_DATA, cache.SECONDS_TO_ANSWER, os.environ["no_proxy"] = 0.3, 1.5, "*"
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Faulty) as serving:
        serving.content, serving.daemon_threads = content, True
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        for attempt in itertools.count():
            fault = Faulty.FAULTS[attempt % len(Faulty.FAULTS)]
            url, started = f"http://127.0.0.1:{serving.server_address[1]}/{fault}", time.perf_counter()
            if random.random() < 0.3:
                (folder / f"{fault}.part").write_bytes(content[:1000])
            found = outcome(lambda url: cache.download(url, folder, known, False, 100_000), url)
            if time.perf_counter() - started > 5:
                found = f"fault: {fault} took {time.perf_counter() - started:.0f} s"
            if (found == "read") != (fault == "good"):
                found = f"fault: {fault}: {found}"
            (folder / f"{fault}.part").unlink(missing_ok=True)
            yield found


def full_disk(random, folder):
    """A training or a compression in a process whose files may have so many bytes: one line, and nothing half-written."""

    def limit_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    np.save(folder / "digits.npy", random.integers(0, 256, (200, 28, 28), np.uint8))
    while True:
        limit = int(2 ** random.uniform(4, 19))
        out = Path(tempfile.mkdtemp(dir=folder))
        (out / "a.tqae").write_bytes(b"old")
        arguments = [
            (*TRAIN, "--epochs", "1", "--out", out),
            ("compress", folder / "digits.npy", "-m", "mlp-50", "-o", out / "a.tqae", "--force", "-q"),
        ][random.integers(2)]
        process = command(*arguments, preexec_fn=limit_files)
        _, said = process.communicate(timeout=120)
        left = [path.name for path in out.glob(".*")]
        if left or process.returncode not in (0, 1) or said.count("\n") != process.returncode or "Traceback" in said:
            yield f"fault: exit code {process.returncode}, {said.strip()[-80:]!r}, left {left}"
        else:
            yield "refused" if process.returncode else "written"


FAILING_WRITES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
/* write(2) as on a disk that is full after so many writes to files as WRITES says. */
ssize_t write(int file, const void *content, size_t size) {
    static long done = 0;
    struct stat about;
    const char *allowed = getenv("WRITES");
    if (allowed && fstat(file, &about) == 0 && S_ISREG(about.st_mode) && done++ >= atol(allowed)) {
        errno = ENOSPC;
        return -1;
    }
    return ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(file, content, size);
}
"""


def every_write(random, folder):
    """A training, a compression and a decompression on a disk that is full at the first write, the second, and so on."""
    if sys.platform != "linux" or not (compiler := shutil.which("cc")):
        return
    (folder / "writes.c").write_text(FAILING_WRITES)
    library = folder / "writes.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "writes.c", "-ldl"], check=True)
    np.save(folder / "digits.npy", random.integers(0, 256, (200, 28, 28), np.uint8))
    command("compress", folder / "digits.npy", "-m", "mlp-50", "-q").wait()
    for arguments in (
        (*TRAIN, "--epochs", "1", "--out"),
        ("compress", folder / "digits.npy", "-m", "mlp-50", "-q", "-o"),
        ("decompress", folder / "digits.npy.tqae", "-q", "-o"),
    ):
        for writes in itertools.count():
            here = Path(tempfile.mkdtemp(dir=folder))
            full = {"LD_PRELOAD": str(library), "WRITES": str(writes)}
            process = command(*arguments, here / "out", environment=full)
            _, said = process.communicate(timeout=120)
            left = [path.name for path in [*here.glob(".*"), *here.glob("out/.*")]]
            if left or process.returncode not in (0, 1) or said.count("\n") != process.returncode or "Traceback" in said:
                yield f"fault: write {writes}: exit code {process.returncode}, {said.strip()[-80:]!r}, left {left}"
            else:
                yield "refused" if process.returncode else "written"
            if not process.returncode:
                break


def two_runs(random, folder):
    """Two trainings begun in one folder within a second: one trains, the other is refused in one line."""
    for attempt in itertools.count():
        out = Path(tempfile.mkdtemp(dir=folder)) / f"run{attempt}"
        processes = []
        for _ in range(2):
            processes.append(command(*TRAIN, "--epochs", "8", "--out", out))
            time.sleep(random.uniform(0, 1))
        ends = sorted((process.communicate(timeout=200)[1], process.returncode) for process in processes)
        refused = [said for said, code in ends if code in (1, 2) and said.count("\n") == 1]
        yield "one trains" if ends[0] == ("", 0) and len(refused) == 1 else f"fault: {ends}"


def _train_and_encode(seed):
    model = MLPAutoencoder(Commit(), (12,), (8, 8, 1), seed=seed)
    fit(model, examples(0), Adam(), epochs=1, batch_size=5, progress=False)
    return model.model_id()


def forks_and_threads(random, folder):
    """Several threads, and processes forked while they train, train too: the same weights as alone, settings as before."""

    def blas_threads():
        return [library["num_threads"] for library in threadpoolctl.threadpool_info()]

    expected, before = [_train_and_encode(seed) for seed in range(4)], blas_threads()
    while True:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            trained = [pool.submit(_train_and_encode, seed) for seed in range(4)]
            process = multiprocessing.get_context("fork").Process(target=_train_and_encode, args=(int(random.integers(4)),))
            process.start()
            process.join(60)
            found = [one.result(60) for one in trained]
        if process.exitcode is None:
            process.kill()
        as_it_should = found == expected, process.exitcode == 0, blas_threads() == before
        yield "trained" if all(as_it_should) else f"fault: weights, forked process, BLAS's threads: {as_it_should}"


def fuzzer(random, folder, reader):
    """Coverage-guided mutation of what a reader reads (atheris, fuzz_readers.py), for --seconds."""
    if importlib.util.find_spec("atheris") is None:
        return
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "tests/tools/fuzz_readers.py",
            reader,
            f"-max_total_time={fuzzer.seconds}",
            f"-seed={random.integers(1, 1 << 30)}",
            "-print_final_stats=1",
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TMPDIR": str(folder)},
    )
    runs = [int(line.split()[-1]) for line in done.stderr.splitlines() if line.startswith("stat::number_of_executed_units")]
    yield from ["read or refused"] * sum(runs)
    if done.returncode or not runs:
        said = done.stdout + done.stderr  # The first of which has exceptions.
        found = re.search(r"=== Uncaught Python exception: ===\n(.*)|ERROR: libFuzzer: (.*)", said)
        yield f"fault: {ascii(found and (found[1] or found[2]))}"


CAMPAIGNS = {
    "containers": (containers, 40_000),
    "model-files": (model_files, 5000),
    "pictures": (pictures, 200_000),
    "arrays": (arrays, 200_000),
    "texts": (texts, 2000),
    "options": (options, 10_000),
    "signals": (signals, 60),
    "kills": (kills, 60),
    "server": (server, 200),
    "full-disk": (full_disk, 40),
    "every-write": (every_write, 10**6),
    "two-runs": (two_runs, 12),
    "forks-and-threads": (forks_and_threads, 100),
    **{f"fuzzer-{name}": (functools.partial(fuzzer, reader=name), 10**9) for name in READERS_TO_FUZZ},
}
"""{name: (campaign, attempts)}."""


def attack(name, attempts, seconds, seed=0):
    """Counter of the outcomes of so many attempts of a campaign, or fewer where the time is over."""
    found, deadline, fuzzer.seconds = collections.Counter(), time.monotonic() + seconds, int(seconds)
    with tempfile.TemporaryDirectory() as folder:
        for kind in CAMPAIGNS[name][0](np.random.default_rng(seed), Path(folder)):
            found[kind] += 1
            if found.total() >= attempts or not name.startswith("fuzzer") and time.monotonic() > deadline:
                break
    return found


def table(figures):
    """The figures of campaigns.json as a table in Markdown."""
    lines = ["| campaign | attempts | outcomes | faults | date | command |", "| --- | ---: | --- | --- | --- | --- |"]
    for name, entry in figures.items():
        counts = {True: [], False: []}
        for kind, count in sorted(entry["outcomes"].items()):
            counts[kind.startswith("fault: ")].append(f"{count:,} {kind.removeprefix('fault: ')}")
        lines.append(
            f"| {name} | {sum(entry['outcomes'].values()):,} | {', '.join(counts[False]) or 'not run'} | "
            f"{', '.join(counts[True]).replace('|', '/') or '0'} | {entry['date']} | `{entry['command']}` |"
        )
    return "\n".join(lines)


def main():
    parser = program.OneLineParser(description=__doc__)
    parser.add_argument("name", nargs="?", choices=CAMPAIGNS, help="default: all")
    parser.add_argument("--attempts", type=program.positive_int, metavar="N", help="default: as each campaign says")
    parser.add_argument("--seconds", type=program.positive_int, default=180, help="of one campaign; default: %(default)s")
    parser.add_argument("--seed", type=program.non_negative_int, default=0)
    args = parser.parse_args()
    for name in [args.name] if args.name else CAMPAIGNS:
        attempts = args.attempts or CAMPAIGNS[name][1]
        found = attack(name, attempts, args.seconds, args.seed)
        given = f"python tests/tools/campaigns.py {name} --attempts {attempts} --seconds {args.seconds} --seed {args.seed}"
        # Read at the end, since another campaign may have written in the meantime.
        figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        figures[name] = {"outcomes": dict(found), "date": str(datetime.date.today()), "command": given}
        print(f"{name}: {dict(found)}", flush=True)
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        text = README.read_text()
        README.write_text(text[: text.index(BEGIN)] + f"{BEGIN}\n{table(figures)}\n" + text[text.index(END) :])


if __name__ == "__main__":
    main()
