"""benchmarks/speed/gpu.py: its checks find what differs, a failure costs no more than itself, its figures are right."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

# The benchmarks are scripts that import each other by name.
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks" / "speed"))
import gpu  # noqa: E402

from tinyqae import MLPAutoencoder, Naive, Seq2SeqAutoencoder, backend, codec  # noqa: E402
from tinyqae.data import synthetic_digits  # noqa: E402


@pytest.fixture
def few(monkeypatch):
    """Little data, so that the stand-in is done soon."""
    for name, count in (("synthetic_digits", 40), ("synthetic_shapes", 20)):
        make = getattr(gpu, name)
        monkeypatch.setattr(gpu, name, lambda train, test, make=make, count=count: make(train=count, test=4))
    make_sentences = gpu.synthetic_sentences
    monkeypatch.setattr(gpu, "synthetic_sentences", lambda n: make_sentences(40))


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_numpy_and_the_device_agree(engine, few, device, monkeypatch):
    monkeypatch.setenv("TINYQAE_ENGINE", engine)
    with device.transfers_allowed():
        found = list(gpu.agreement("CuPy reference"))
    assert len(found) == 3 * 3 + len(codec.shipped_models())
    assert [check["check"] for check in found if not check["passed"]] == []


def test_a_slightly_wrong_update_is_found(few, device, monkeypatch):
    def fit_wrongly_on_the_device(model, examples, optimizer, **options):
        optimizer.lr *= 1.05 if backend.name == "cupy" else 1
        return right(model, examples, optimizer, **options)

    right = gpu.fit
    monkeypatch.setattr(gpu, "fit", fit_wrongly_on_the_device)
    with device.transfers_allowed():
        found = [check for check in gpu.agreement("CuPy reference") if "steps" in check["check"]]
    assert len(found) == 6 and not any(check["passed"] for check in found)


def test_a_difference_is_found(device):
    digits = synthetic_digits(train=40, test=4).train_images
    model = codec.shipped("mlp-50")
    with device.transfers_allowed():
        assert gpu.codes_agree(model, digits, "as it is")["passed"]
        right = model.decode
        model.decode = lambda bits: right(bits) // 2
        wrong = gpu.codes_agree(model, digits, "half as bright")
    assert not wrong["passed"] and wrong["bits_equal"] == 1 and wrong["decoded_equal"] < 1


def rows(rates, model="mlp"):
    """Rows of `speed` from {batch size: {contender: steps per second}}."""
    return [
        {
            "name": name,
            "model": model,
            "case": {"batch_size": size},
            "ms": 1e3 / rate,
            "range": [1, 2],
            "gpu_megabytes": None,
        }
        for size, of_size in rates.items()
        for name, rate in of_size.items()
    ]


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ({16: {"NumPy fast": 100}}, "not measured"),
        ({16: {"NumPy fast": 100, "CuPy fused": 200}}, "at every batch size measured, from 16 on"),
        (
            {16: {"NumPy fast": 400, "CuPy fused": 100}, 64: {"NumPy fast": 100, "CuPy fused": 90}},
            "at no batch size up to 64",
        ),
        # 1/4 at 16 and 4 times at 256: even in the middle, on logarithmic axes.
        (
            {256: {"NumPy fast": 10, "CuPy graphs": 40}, 16: {"NumPy fast": 400, "CuPy fused": 50, "CuPy graphs": 100}},
            "from a batch size of about 64 on",
        ),
        # The fastest form of each side counts.
        ({16: {"NumPy reference": 100, "NumPy fast": 300, "CuPy fused": 200}}, "at no batch size up to 16"),
    ],
)
def test_where_the_gpu_begins_to_win(rates, said):
    assert gpu.crossover(rows(rates)) == said


def test_goals_are_judged_by_our_fastest_form():
    found = gpu.goals(
        rows({16: {"CuPy fused": 100, "CuPy graphs": 600, "PyTorch CUDA eager": 100, "PyTorch CUDA graphs": 700}})
    )
    assert found == [
        "- mlp, batch 16: 6.00 times the speed of PyTorch CUDA eager (goal 5): met",
        "- mlp, batch 16: 0.86 times the speed of PyTorch CUDA graphs (goal 1): MISSED",
    ]


def test_a_step_takes_at_least_its_operations_and_its_bytes():
    ceiling = {"gflops": 100, "gigabytes_per_second": 10}
    assert gpu.floor_seconds(50, 1, ceiling) == 0.5
    assert gpu.floor_seconds(1, 20, ceiling) == 2


@pytest.mark.parametrize(
    ("model", "built", "width"),
    [
        ("mlp", lambda: MLPAutoencoder(Naive(), (50,)), {"hidden": 50}),
        ("lstm", lambda: Seq2SeqAutoencoder(Naive(), 32), {"hidden": 32}),
    ],
)
def test_the_bytes_of_no_examples_are_ten_passes_over_the_parameters(model, built, width):
    parameters = sum(array.size for array in built().parameters())
    # PyTorch's LSTM has two biases, of which the count has both.
    assert gpu.gigabytes(model, 0, **width) * 1e9 == pytest.approx(40 * parameters, rel=0.02)


@pytest.fixture
def run(tmp_path):
    """A run with a minute of time, as on a machine with a card."""
    started = gpu.Run(tmp_path, 60, "python benchmarks/speed/gpu.py")
    started.result["environment"] = {"card": "a card", "machine": "a machine", "versions": ["numpy 2"]}
    return started


def worker_that(run, monkeypatch, *attempts):
    """The run's workers report these, one list for each start."""
    left = [list(reports) for reports in attempts]
    monkeypatch.setattr(run, "_worker", lambda task, environment: iter(left.pop(0)))


def test_a_failed_case_costs_no_more_than_itself(run, monkeypatch):
    cases = [("mlp", {"batch_size": n}) for n in (1, 2, 3)]
    worker_that(run, monkeypatch, [{"ms": 1}, "exit code 1: CUDA error"], [{"ms": 3}])
    assert list(run.task("speed", "CuPy fused", cases=cases)) == [{"ms": 1}, {"ms": 3}]
    (failure,) = run.result["failures"]
    assert failure["case"] == cases[1] and "CUDA error" in failure["why"]


def test_what_fails_the_same_way_at_once_is_not_tried_for_every_case(run, monkeypatch):
    cases = [("mlp", {"batch_size": n}) for n in range(9)]
    worker_that(run, monkeypatch, ["exit code 1: no module"], ["exit code 1: no module"])
    assert list(run.task("speed", "CuPy fused", cases=cases)) == []
    assert len(run.result["failures"]) == 2


def test_a_worker_that_fails_after_its_last_case_has_lost_nothing(run, monkeypatch):
    worker_that(run, monkeypatch, [{"ms": 1}, "stopped after 2 s"])
    assert list(run.task("speed", "PyTorch CPU", cases=[("mlp", {"batch_size": 1})])) == [{"ms": 1}]
    assert run.result["failures"] == []


def test_without_time_or_card_nothing_is_started(run):
    run.deadline = 0
    assert list(run.task("speed", "NumPy fast", cases=[("mlp", {"batch_size": 1})])) == []
    run.result["environment"]["no_gpu"] = "no driver"
    assert list(run.task("speed", "CuPy fused", cases=[("mlp", {"batch_size": 1})])) == []
    assert [one["why"] for one in run.result["failures"]] == [gpu.NO_TIME, "no GPU"]


def test_a_real_worker_reports_and_a_hanging_one_is_stopped(run, monkeypatch):
    (found,) = run.task("environment", "cpu")
    assert found["machine"].startswith("numpy") and found["cores"] >= 1
    monkeypatch.setattr(gpu, "__file__", str(run.out / "hangs.py"))
    run.out.mkdir(exist_ok=True)
    (run.out / "hangs.py").write_text("import time\nprint('@@ {\"ms\": 1}', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(gpu, "WORKER_SECONDS", 1.5)
    assert list(run.task("speed", "NumPy fast", cases=[("mlp", 1), ("mlp", 2)])) == [{"ms": 1}]
    assert run.result["failures"][0]["why"] == "stopped after 2 s"


def test_results_are_written_as_they_come(run):
    run.result["speed"] = rows({16: {"NumPy fast": 100, "CuPy graphs": 200, "PyTorch CUDA eager": 50}})
    run.result["ceilings"] = {"cpu": {"gflops": 100, "gigabytes_per_second": 10}}
    run.result["agreement"] = {"CuPy fused": [{"check": "mlp", "passed": True}, {"check": "lstm", "passed": False}]}
    run.fail("speed", "CuPy fused", "CUDA error", ("mlp", {"batch_size": 16}))
    text = (run.out / "gpu-a-card.md").read_text()
    assert "1 of 2 checks agree; DIFFERS: lstm" in text
    assert "| mlp, batch 16 | CuPy graphs | 5.000 | 200 | 4.00 |" in text
    assert "CUDA error" in text and "CuPy beats NumPy, mlp: at every batch size measured, from 16 on." in text
    assert json.loads((run.out / "gpu-a-card.json").read_text()) == json.loads(json.dumps(run.result))
    assert (run.out / "gpu-a-card.png").read_bytes().startswith(b"\x89PNG")


def test_a_step_is_timed_as_long_as_it_takes(monkeypatch):
    monkeypatch.setattr(backend, "name", "numpy")
    array = np.zeros(10)
    found = gpu.timed(lambda: array.sum())
    assert 0 < found["range"][0] <= found["ms"] <= found["range"][1] < 5
