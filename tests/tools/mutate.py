"""Do the tests notice when the arithmetic is wrong? Changes one token at a time and runs the tests that should see it.

    python tests/tools/mutate.py                      150 random mutations, seed 0: prints the survivors and the share caught
    python tests/tools/mutate.py --count 20 --files tinyqae/ops/lstm.py
    python tests/tools/mutate.py --files benchmarks/report/bounds.py benchmarks/report/claims.py
    python tests/tools/mutate.py --only 17            one of them again

A mutation replaces an operator, a number, a constant or the name of a function by another one, in the reference engine or
the fast engine. It is caught when a test fails, errs or runs far longer than it should. A survivor is either a gap in the
tests or changes nothing (a number that only decides about speed, say): that is for a person to judge. Mutations are made
in copies of the repository, two at a time; the working tree is not touched.
"""

import argparse
import concurrent.futures
import io
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import tokenize
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tinyqae"
SOURCES = [
    *sorted((PACKAGE / "ops").glob("*.py")),
    *sorted((PACKAGE / "bottlenecks").glob("*.py")),
    *sorted((PACKAGE / "models").glob("*.py")),
    *(
        PACKAGE / f"{name}.py"
        for name in (
            "losses",
            "layers",
            "recurrent",
            "initializers",
            "optim",
            "schedules",
            "beam_search",
            "train",
            "gradcheck",
            "model_files",
        )
    ),
    *sorted((PACKAGE / "fast").glob("*.py")),
    *sorted((PACKAGE / "fast" / "numba").glob("*.py")),
]
SWAPS = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "@": "*",
    "**": "*",
    "//": "/",
    "%": "*",
    "+=": "-=",
    "-=": "+=",
    "*=": "/=",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "True": "False",
    "False": "True",
    "and": "or",
    "or": "and",
    "is": "is not",
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
    "min": "max",
    "sum": "mean",
    "mean": "sum",
    "add": "subtract",
    "subtract": "add",
    "multiply": "divide",
    "divide": "multiply",
    "exp": "tanh",
    "log": "exp",
    "sqrt": "exp",
    "tanh": "exp",
    "zeros": "ones",
    "ones": "zeros",
    "zeros_like": "ones_like",
    "sign": "abs",
    "abs": "sign",
    "argmax": "argmin",
    "greater": "less",
    "less": "greater",
    "equal": "not_equal",
    "sin": "cos",
    "cos": "sin",
    "floor": "ceil",
}
# The tests of a file beside those in the file of its own name; the last resort, for all files, comes after them.
TESTS = {
    "tinyqae/ops/": ["tests/ops", "tests/test_layers.py", "tests/test_recurrent.py"],
    "tinyqae/bottlenecks/": ["tests/bottlenecks"],
    "tinyqae/models/": ["tests/models/test_mlp.py", "tests/models/test_cnn.py", "tests/models/test_seq2seq.py"],
    "tinyqae/losses.py": ["tests/test_losses.py", "tests/bottlenecks"],
    "tinyqae/layers.py": ["tests/test_layers.py"],
    "tinyqae/recurrent.py": ["tests/test_recurrent.py"],
    "tinyqae/initializers.py": ["tests/test_layers.py", "tests/test_recurrent.py", "tests/test_initializers.py"],
    "tinyqae/optim.py": ["tests/test_optim.py"],
    "tinyqae/schedules.py": ["tests/test_optim.py"],
    "tinyqae/history.py": ["tests/test_train.py"],
    "tinyqae/recipes.py": ["tests/test_experiment.py", "tests/benchmarks/report/test_committed_results.py"],
    "tinyqae/beam_search.py": ["tests/models/test_seq2seq.py"],
    "tinyqae/train.py": ["tests/test_train.py"],
    "tinyqae/gradcheck.py": ["tests/test_gradcheck.py"],
    "tinyqae/model_files.py": ["tests/models/test_mlp.py"],
    "tinyqae/fast/conv": ["tests/fast/test_conv.py", "tests/fast/test_conv_upsampled.py", "tests/fast/test_layers.py"],
    "tinyqae/fast/windows.py": ["tests/fast/test_conv.py", "tests/fast/test_conv_upsampled.py"],
    "tinyqae/fast/activations.py": ["tests/fast/test_activations_dense_norm.py"],
    "tinyqae/fast/binarize.py": ["tests/fast/test_activations_dense_norm.py"],
    "tinyqae/fast/dense.py": ["tests/fast/test_activations_dense_norm.py"],
    "tinyqae/fast/norm.py": ["tests/fast/test_activations_dense_norm.py"],
    "tinyqae/fast/bottlenecks.py": ["tests/bottlenecks"],
    "tinyqae/fast/optim.py": ["tests/test_optim.py"],
    "tinyqae/fast/batches.py": ["tests/test_batches.py"],
    "tinyqae/fast/parts.py": ["tests/test_engine.py"],
    "tinyqae/fast/layers.py": ["tests/test_layers.py"],
    "tinyqae/fast/recurrent.py": ["tests/test_recurrent.py"],
    "tinyqae/fast/numba/": ["tests/fast/test_numba.py"],
    "benchmarks/report/": ["tests/benchmarks/report"],
    "tinyqae/fast/numba/norm.py": ["tests/fast/test_norm_relu_pool.py", "tests/fast/test_activations_dense_norm.py"],
}
LAST_RESORT = [
    "tests/models",
    "tests/test_engine.py",
    "tests/test_train.py",
    "tests/test_layers.py",
    "tests/test_recurrent.py",
    "tests/fast",
]
SECONDS = 400


@dataclass(frozen=True)
class Mutation:
    """One token replaced: in which file (relative), on which line, at which columns, and by what."""

    file: str
    line: int
    start: int
    end: int
    old: str
    new: str
    text: str

    def __str__(self):
        return f"{self.file}:{self.line}: {self.old} -> {self.new}    {self.text.strip()}"


def mutations_of(path):
    """Every mutation of a file. Tuning constants (upper-case names at the top level), raised errors, decorators and default
    texts are left out.
    """
    source = path.read_text()
    lines = source.splitlines()
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (line, start), (_, end) = token.start, token.end
        text = lines[line - 1] if line <= len(lines) else ""
        stripped = text.strip()
        is_constant = text[:1].isupper() and "=" in text and not text.startswith(("class", "SWAPS"))
        if is_constant or stripped.startswith(("raise", "@", "import", "from", "assert")) or "raise " in stripped:
            continue
        new = None
        if token.type in (tokenize.OP, tokenize.NAME):
            new = SWAPS.get(token.string)
            if token.string in ("*", "**", "-") and not _is_binary(text, start):
                new = None
            if (
                token.type == tokenize.NAME
                and token.string not in ("True", "False", "and", "or", "is")
                and not text[end:].startswith("(")
            ):
                new = None
        elif token.type == tokenize.NUMBER:
            new = _other_number(token.string)
        if new is not None:
            found.append(Mutation(str(path.relative_to(ROOT)), line, start, end, token.string, new, text))
    return found


def _is_binary(text, start):
    before = text[:start].rstrip()
    return bool(before) and (before[-1].isalnum() or before[-1] in ")]_")


def _other_number(text):
    if text.isdigit():
        return str(int(text) + 1)
    try:
        return repr(2 * float(text) or 1.0)
    except ValueError:
        return None


def tests_for(file):
    """The tests that should notice a mutation of this file, the quickest first, in groups."""
    path = Path(file)
    in_package = path.parts[0] == PACKAGE.name
    folder = "tests" / (path.parent.relative_to(PACKAGE.name) if in_package else path.parent)
    of_its_name = [str(folder / f"test_{path.stem}.py"), str(folder.parent / f"test_{path.stem}.py")]
    of_its_name = [test for test in of_its_name if (ROOT / test).exists()]
    others = [test for prefix, tests in TESTS.items() if file.startswith(prefix) for test in tests]
    return of_its_name, [test for test in others if test not in of_its_name], LAST_RESORT if in_package else []


def is_caught(mutation, copy):
    """Whether a test of the copy fails with the mutation in place; the copy is restored."""
    path = copy / mutation.file
    original = path.read_text()
    lines = original.splitlines(keepends=True)
    line = lines[mutation.line - 1]
    lines[mutation.line - 1] = line[: mutation.start] + mutation.new + line[mutation.end :]
    path.write_text("".join(lines))
    try:
        return any(_fails(tests, copy) for tests in tests_for(mutation.file) if tests)
    finally:
        path.write_text(original)


def _fails(tests, copy):
    tests = [test for test in tests if (copy / test).exists()]
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "HYPOTHESIS_DERANDOMIZE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def copies(count, folder):
    """A queue of copies of the repository, with what is compiled already."""
    found = queue.Queue()
    for i in range(count):
        copy = Path(folder) / str(i)
        for part in ("tinyqae", "tests", "benchmarks", "examples", "pyproject.toml", "README.md"):
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part)
            else:
                copy.mkdir(exist_ok=True)
                shutil.copy2(source, copy / part)
        found.put(copy)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=150, help="how many; default: 150")
    parser.add_argument("--seed", type=int, default=0, help="of the choice; default: 0")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time; default: 2")
    parser.add_argument("--files", nargs="+", metavar="FILE", help="mutate these files only")
    parser.add_argument("--only", type=int, nargs="+", metavar="I", help="only these numbers of the choice")
    args = parser.parse_args()
    sources = [ROOT / file for file in args.files] if args.files else SOURCES
    everything = [mutation for path in sources for mutation in mutations_of(path)]
    chosen = random.Random(args.seed).sample(everything, min(args.count, len(everything)))
    numbered = [(i, mutation) for i, mutation in enumerate(chosen) if args.only is None or i in args.only]
    survivors = []
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        available = copies(args.jobs, folder)

        def judge(numbered_mutation):
            copy = available.get()
            try:
                return *numbered_mutation, is_caught(numbered_mutation[1], copy)
            finally:
                available.put(copy)

        for i, mutation, caught in pool.map(judge, numbered):
            print(f"{i:4} {'caught  ' if caught else 'SURVIVED'} {mutation}", flush=True)
            survivors += [] if caught else [(i, mutation)]
    print(f"\n{len(numbered) - len(survivors)} of {len(numbered)} caught, of {len(everything)} possible mutations")
    for i, mutation in survivors:
        print(f"survived: {i} {mutation}")


if __name__ == "__main__":
    main()
