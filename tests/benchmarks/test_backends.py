"""benchmarks/backends.py: where the GPU begins to win, the floors, and what is said of contenders that cannot run."""
import contextlib
import sys
from pathlib import Path

import pytest

# The benchmarks are scripts that import each other by name.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import backends  # noqa: E402

from tinyqae import MLPAutoencoder, Naive, Seq2SeqAutoencoder  # noqa: E402


def races(rates):
    """Of one width, from {batch size: {contender: steps per second}}."""
    return [{"model": "mlp", "case": {"batch_size": size, "hidden": 50}, "failed": {"torch CUDA": "no card"},
             "rows": {name: {"ms": 1e3 / rate, "steps_per_second": rate, "ratio": None, "of_floor": 0.5}
                      for name, rate in of_size.items()}} for size, of_size in rates.items()]


@pytest.mark.parametrize(("rates", "said"), [
    ({16: {"numpy": 100}}, "not measured"),
    ({16: {"numpy": 100, "cupy": 200}}, "at every batch size measured, from 16 on"),
    ({16: {"numpy": 400, "cupy": 100}, 64: {"numpy": 100, "cupy": 90}}, "at none, up to 64"),
    # 1/4 at 16 and 4 times at 256: even in the middle, on logarithmic axes.
    ({256: {"numpy": 10, "cupy, graphs": 40}, 16: {"numpy": 400, "cupy": 50, "cupy, graphs": 100}},
     "from a batch of about 64 on"),
    # The better form of each side counts.
    ({16: {"numpy": 100, "numpy + numba": 300, "cupy": 200}}, "at none, up to 16"),
])
def test_where_the_gpu_begins_to_win(rates, said):
    assert backends.crossover(races(rates)) == said


@pytest.mark.parametrize("model", backends.WIDTHS)
def test_our_contenders_are_the_fast_engine_whatever_the_environment_says(model, monkeypatch):
    monkeypatch.setenv("TINYQAE_ENGINE", "reference")
    monkeypatch.setattr(backends.backend, "temporarily", lambda which: contextlib.nullcontext())  # As where there is a GPU.
    running, _ = backends.contenders(model)
    engines = {name: environment.get("TINYQAE_ENGINE") for name, (environment, _) in running.items()
               if not name.startswith("torch")}
    assert set(engines.values()) == {"fast"} and set(engines) >= {"numpy", "cupy", "cupy, graphs"}


def test_a_step_takes_at_least_its_products_and_its_bytes():
    ceiling = {"gflops": 100, "gigabytes_per_second": 10}
    assert backends.floor_seconds(50, 1, ceiling) == 0.5
    assert backends.floor_seconds(1, 20, ceiling) == 2


@pytest.mark.parametrize(("model", "built", "width"), [
    ("mlp", lambda: MLPAutoencoder(Naive(), (50,)), {"hidden": 50}),
    ("lstm", lambda: Seq2SeqAutoencoder(Naive(), 32), {"hidden": 32}),
])
def test_the_bytes_of_no_examples_are_ten_passes_over_the_parameters(model, built, width):
    parameters = sum(array.size for array in built().parameters())
    # PyTorch's LSTM has two biases, of which the count has both.
    assert backends.gigabytes(model, 0, **width) * 1e9 == pytest.approx(40 * parameters, rel=0.02)


def test_what_cannot_run_is_in_the_table_with_the_reason(tmp_path):
    result = {"command": "python benchmarks/backends.py", "machine": "a machine", "card": "a card", "tf32": "off",
              "versions": ["numpy 2"], "threads": 1, "rounds": 1, "date": "2026-01-01",
              "ceilings": {"cpu": {"gflops": 40, "gigabytes_per_second": 10}},
              "races": races({16: {"numpy": 100}, 64: {"numpy": 50}})}
    text = backends.as_markdown(result)
    assert "| 16 | torch CUDA | did not run: no card | | | |" in text
    assert "| 64 | numpy | 20.000 | 50 |  | 50% |" in text and "a card" in text and "TF32: off" in text
    assert "| mlp | hidden 50 | not measured |" in text
    backends.draw(result, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
