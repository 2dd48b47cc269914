"""Training steps as CUDA graphs: on the stand-in, whose captures do nothing before a launch and refuse what CUDA refuses,
with a stand-in for cuBLAS and the kernels on the CPU; and, with the same test bodies, on a GPU.
"""

import contextlib
import warnings

import numpy as np
import pytest
from cublas_stand_in import CuBLASStandIn
from cupy_device import use_fused
from device_models import BOTTLENECKS, MODELS, make
from device_stand_in import Refused, StandIn
from engines import train_once

from tinyqae import SGD, Adam, RMSprop, backend, train
from tinyqae.fast import cuda_graphs
from tinyqae.fast.cuda import gemm
from tinyqae.fast.cuda_graphs import Graph, arrays_in, shapes_of

BATCH = 16


@pytest.fixture
def graph_device(device):
    """The device, with a GEMM that can be captured."""
    if isinstance(device, StandIn):
        backend.gpu_gemm = gemm.CuBLAS(CuBLASStandIn(device), 1 << 20)
    return device


def training_step(model, optimizer, batch_size, clip_norm=None, capturing=True):
    """A TrainingStep of the fast engine, with or without graphs."""
    step = model.engine.build(train.TrainingStep(model, optimizer, batch_size, clip_norm))
    step.capturing = capturing
    return step


@contextlib.contextmanager
def no_warning():
    """A capture that fails is a warning, and here an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def state_after(steps, model, bottleneck, captured, optimizer=Adam, clip_norm=1.0, **arguments):
    """(sums of the losses, the model's state and the optimizer's, the TrainingStep) after some epochs."""
    m, examples = make(model, bottleneck, **arguments)
    optimizer, batches = optimizer(1e-2), m.batches(examples, BATCH)
    with no_warning(), training_step(m, optimizer, BATCH, clip_norm, captured) as step:
        done = 0
        while done < steps:
            # One epoch over and over: few shapes, each of them often.
            for batch in batches.epoch(np.random.default_rng(0)):
                step(batch, 1e-2 / (1 + done))
                done += 1
                m.bottleneck.set_progress(done / steps)
        sums = {name: float(backend.to_host(value)) for name, value in step.sums.items()}
    return sums, m.state_arrays() | optimizer.state_arrays(), step


def assert_same(ours, theirs):
    assert ours[0] == theirs[0]
    assert ours[1].keys() == theirs[1].keys()
    for name, array in theirs[1].items():
        np.testing.assert_array_equal(ours[1][name], array, err_msg=name)


# On the stand-in a fused kernel runs thread by thread on the CPU, which is slow.
@pytest.mark.parametrize("kernels", ["plain", pytest.param("fused", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", MODELS)
def test_replayed_steps_are_bit_identical_to_eager_ones(model, kernels, graph_device, monkeypatch):
    if kernels == "fused":
        use_fused(monkeypatch)
    eager, replayed = (state_after(20, model, "commit", captured) for captured in (False, True))
    assert not eager[2].graphs and replayed[2].graphs
    assert_same(replayed, eager)
    assert int(replayed[1]["steps"]) == 20


@pytest.mark.parametrize("bottleneck", [b for b in BOTTLENECKS if "noise" not in b and b != "stochastic"])
def test_every_bottleneck_that_draws_nothing_is_captured(bottleneck, graph_device):
    eager, replayed = (state_after(10, "mlp", bottleneck, captured) for captured in (False, True))
    assert replayed[2].graphs
    assert_same(replayed, eager)


@pytest.mark.parametrize("bottleneck", ["stochastic", "naive with noise", "commit with noise"])
def test_a_bottleneck_that_draws_random_numbers_is_computed_eagerly(bottleneck, graph_device):
    assert not state_after(10, "mlp", bottleneck, True)[2].graphs


@pytest.mark.parametrize("optimizer", [RMSprop, SGD])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_other_optimizers_and_no_clipping(optimizer, clip_norm, graph_device):
    eager, replayed = (state_after(10, "mlp", "naive", captured, optimizer, clip_norm) for captured in (False, True))
    assert replayed[2].graphs
    assert_same(replayed, eager)


def test_in_double_precision_too(graph_device):
    assert_same(*(state_after(10, "cnn", "fence", captured, dtype=np.float64) for captured in (True, False)))


@pytest.mark.parametrize("model", MODELS)
def test_fit_replays_graphs_and_computes_the_odd_last_batch_eagerly(model, graph_device, monkeypatch):
    made, replays, results = [], [], []

    class Counted(Graph):
        def __init__(self, function, batch, *others):
            made.append(len(batch))
            super().__init__(function, batch, *others)

        def replay(self, batch):
            replays.append(len(batch))
            super().replay(batch)

    monkeypatch.setattr(cuda_graphs, "Graph", Counted)
    for captured in (True, False):
        monkeypatch.setattr(cuda_graphs.TrainingStep, "capturing", captured)
        m, examples = make(model, "annealed")
        with no_warning():
            # Validation and the values before the threshold need larger buffers than a training step.
            history = train.fit(
                m,
                examples[: 5 * BATCH - 3],
                Adam(1e-2),
                epochs=4,
                batch_size=BATCH,
                schedule="cosine",
                validation=examples,
                progress=False,
            )
        results.append(([{k: v for k, v in row.items() if k != "seconds"} for row in history.rows], m.state_arrays()))
    assert set(made) == set(replays) == {BATCH}
    # Of each shape the first step is eager. Images have one shape, sentences several.
    assert len(replays) == 4 * 4 - 1 if model != "seq2seq" else len(replays) > len(made)
    assert results[0][0] == results[1][0]
    for name, array in results[1][1].items():
        np.testing.assert_array_equal(results[0][1][name], array, err_msg=name)


def test_reallocated_buffers_do_not_invalidate_the_graphs(graph_device):
    m, examples = make("mlp", "commit")
    other, _ = make("mlp", "commit")
    for model, captured in ((m, True), (other, False)):
        optimizer = Adam()
        with no_warning(), training_step(model, optimizer, BATCH, capturing=captured) as step:
            for epoch in range(3):
                for batch in model.batches(examples[: 2 * BATCH], BATCH).epoch(np.random.default_rng(epoch)):
                    step(batch, 1e-3)
                model.latent(examples[: BATCH + 5 * epoch])  # Larger every time.
    np.testing.assert_array_equal(m.state_arrays()["parameters"], other.state_arrays()["parameters"])


def captured_sum(xp):
    """(a Graph that adds up what batches hold, its total, the stream to replay it on)."""
    stream, pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()
    with stream:
        total = xp.zeros(3, np.float32)

        def add(batch):
            xp.add(total, batch * np.float32(2), out=total)

        add(xp.ones(3, np.float32))
        total.fill(0)
        graph = Graph(add, xp.ones(3, np.float32), pool, [total])
        stream.synchronize()
    return graph, total, stream


def test_a_graph_takes_batches_of_its_shapes_only(graph_device):
    graph, total, stream = captured_sum(backend.xp)
    with stream:
        assert backend.to_host(total).tolist() == [0, 0, 0]  # Captured is not done.
        for value in (1, 5):
            graph.replay(backend.xp.full(3, value, np.float32))
        assert backend.to_host(total).tolist() == [12, 12, 12]
        for other in (
            backend.xp.ones(4, np.float32),
            backend.xp.ones(3, np.float64),
            [backend.xp.ones(3, np.float32), backend.xp.ones(3, np.float32)],
        ):
            with pytest.raises(ValueError, match=r"captured batch had the arrays float32 \(3,\), this one has float"):
                graph.replay(other)
        assert backend.to_host(total).tolist() == [12, 12, 12]


def test_if_a_capture_fails_training_continues_with_a_warning(graph_device, monkeypatch):
    expected = state_after(10, "mlp", "commit", False)

    def cannot(*arguments):
        raise RuntimeError("cudaErrorStreamCaptureUnsupported")

    monkeypatch.setattr(cuda_graphs, "Graph", cannot)
    m, examples = make("mlp", "commit")
    optimizer, batches = Adam(1e-2), m.batches(examples, BATCH)
    with (
        pytest.warns(UserWarning, match="without CUDA graphs: RuntimeError: cudaErrorStream.*") as caught,
        training_step(m, optimizer, BATCH, 1.0) as step,
    ):
        done = 0
        for _ in range(2):
            for batch in batches.epoch(np.random.default_rng(0)):
                step(batch, 1e-2 / (1 + done))
                done += 1
    assert len(caught) == 1
    np.testing.assert_array_equal(m.state_arrays()["parameters"], expected[1]["parameters"])


@pytest.mark.parametrize("model", MODELS)
def test_a_replayed_step_transfers_nothing_and_allocates_nothing(model, graph_device):
    m, examples = make(model, "commit")
    batches = m.batches(examples, BATCH)
    with no_warning(), training_step(m, Adam(), BATCH) as step:
        for repetition in range(3):
            for batch in batches.epoch(np.random.default_rng(0)):
                if len(batch) < BATCH:
                    continue
                with graph_device.counting() as counts:
                    step(batch, 1e-3 / (1 + repetition))
                if repetition == 2:
                    assert (counts.to_device, counts.to_host, counts.allocations) == (0, 0, 0)


@pytest.mark.parametrize("model", MODELS)
def test_a_step_has_as_many_launches_for_a_large_batch_as_for_a_small_one(model, device, monkeypatch):
    use_fused(monkeypatch)
    if not isinstance(device, StandIn):
        pytest.skip("CuPy does not report the number of kernels in a graph")
    backend.gpu_gemm, launches = gemm.CuBLAS(CuBLASStandIn(device), 1 << 20), []
    for batch_size in (2, 16):
        m, examples = make(model, "commit")
        examples = examples if model != "seq2seq" else ["a b c"] * 70
        with no_warning(), training_step(m, Adam(), batch_size) as step:
            for batch in m.batches(examples[: 4 * batch_size], batch_size).epoch(np.random.default_rng(0)):
                step(batch, 1e-3)
            (graph,) = step.graphs.values()
        launches.append(len(graph._graph.operations))
    assert launches[0] == launches[1] < 400


def test_an_error_in_a_capture_leaves_the_stream_usable(graph_device):
    xp = backend.xp
    stream, pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()

    def fails(batch):
        raise KeyError("a mistake")

    with stream:
        with pytest.raises(KeyError, match="a mistake"):
            Graph(fails, xp.ones(3, np.float32), pool, [])
        assert backend.to_host(xp.ones(3, np.float32) + 1).tolist() == [2, 2, 2]


# ---- without a device, and the stand-in itself ----------------------------------------------------------------------


def test_on_the_cpu_a_training_step_is_a_step():
    results = []
    for by_hand in (True, False):
        m, examples = make("mlp", "commit")
        optimizer = Adam()
        with training_step(m, optimizer, BATCH) as step:
            total = 0
            for batch in m.batches(examples, BATCH).epoch(np.random.default_rng(0)):
                if by_hand:
                    total += train_once(m, batch)["reconstruction"] * len(batch)
                    optimizer.step(m, 1e-3)
                else:
                    step(batch, 1e-3)
            total = total if by_hand else step.sums["reconstruction"]
            assert not step.graphs
        results.append((float(total), m.model_id()))
    assert results[0] == results[1]


def test_arrays_are_found_wherever_the_package_keeps_them(monkeypatch):
    m, examples = make("cnn", "commit")
    train_once(m, next(iter(m.batches(examples, BATCH).epoch(np.random.default_rng(0)))))
    found = {id(array) for array in arrays_in(m)}
    block = m.encoder.layers[0]
    for array in (
        *m.parameters(),
        *m.gradients(),
        block.out,
        block.plans[0].x_windows.padded,
        block.scratch[0].row,
        block.state["mean"],
        m.bottleneck._code,
        m.criterion._dlogits,
    ):
        assert id(array) in found
    array = np.ones(3)
    assert [a.shape for a in arrays_in({"b": [array, array], "a": (np.ones(2), "text")})] == [(3,), (2,)]
    assert shapes_of(array) == (((3,), "float64"),)


REFUSED_IN_A_CAPTURE = {
    "get": lambda xp, x: x.get(),
    "set": lambda xp, x: x.set(np.ones(3, np.float32)),
    "float": lambda xp, x: float(x[0]),
    "asarray": lambda xp, x: xp.asarray([1.0]),
    "mask": lambda xp, x: x[x > 1],
    "matmul": lambda xp, x: xp.matmul(x, x),
    "memory": lambda xp, x: x + 1,
    "synchronize": lambda xp, x: xp.cuda.get_current_stream().synchronize(),
}


@pytest.mark.parametrize("what", REFUSED_IN_A_CAPTURE)
def test_the_stand_in_refuses_while_capturing(what):
    xp = StandIn()
    x = xp.ones(3, np.float32)
    with xp.cuda.Stream(non_blocking=True) as stream, xp.transfers_allowed():
        stream.begin_capture()
        with pytest.raises(Refused, match="while a stream is being captured"):
            REFUSED_IN_A_CAPTURE[what](xp, x)
        stream.end_capture()


def test_the_stand_in_captures_as_a_gpu_does():
    xp = StandIn()
    x, factor, pool = xp.ones(3, np.float32), 2, xp.cuda.MemoryPool()
    with xp.cuda.Stream(non_blocking=True) as stream, xp.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        y = x * factor
        xp.add(x, y, out=x)
        x[1:] = y[1:]
        graph = stream.end_capture()
        factor = 5  # Numbers are constants of the capture.
        assert x.get().tolist() == [1, 1, 1]
        for expected in ([3, 2, 2], [9, 4, 4]):
            graph.launch()
            assert x.get().tolist() == expected
        x.fill(1)
        graph.launch()
        assert x.get().tolist() == [3, 2, 2]
        del x
        with pytest.raises(MemoryError, match="freed"):
            graph.launch()
    assert factor == 5
    with pytest.raises(RuntimeError, match="non-blocking"):
        xp.cuda.Stream().begin_capture()
