"""A training step, and on a GPU the whole of it as one CUDA graph.

A step of a small model is over a hundred launches, each of which takes Python longer than the GPU takes to execute. A CUDA
graph contains them all: captured once, a step is one launch. What a graph contains is fixed, however:

    shapes      there is one graph per shape of batch; the smaller last batch of an epoch is computed eagerly
    numbers     what changes from step to step (learning rate, step counter, slope of an annealed bottleneck) is in device
                arrays. Random numbers drawn on the host are not, so a bottleneck with noise or stochastic bits is computed
                eagerly, as is any part without a fast version, such as a user's own
    addresses   batches are copied to the address of the captured one; the arrays used by the step are kept alive; memory
                allocated during the capture comes from a separate pool
    matmuls     are those of cuda/gemm.py, since CuPy's cannot be captured; without cuBLAS everything is computed eagerly

The first batch of a shape is computed eagerly, which compiles kernels and allocates buffers. The second one is captured, and
this and all following ones are replayed. If a capture fails, training continues eagerly with a warning.
"""

import contextlib
import warnings

from .. import backend, train
from . import bottlenecks, layers, optim

PACKAGE = __package__.split(".")[0]


class TrainingStep(train.TrainingStep):
    """See train.TrainingStep; on a GPU, steps of `batch_size` examples run as CUDA graphs.

    Attributes:
        graphs: {shapes of a batch: Graph}; empty on the CPU.
        capturing: set to False to compute eagerly on a GPU as well.
        sums: on a GPU 0-dimensional arrays, so that the caller decides when to read them.
    """

    capturing = True

    def prepare(self):
        """Called by the engine's `build`."""
        self.graphs, self._seen_shapes, self._stream = {}, set(), None

    def __enter__(self):
        self._captures = self.capturing and backend.gpu_gemm is not None and can_be_captured(self.model, self.optimizer)
        if self._captures:
            xp = backend.xp
            # The default stream cannot be captured, and a non-blocking stream does not wait for it.
            xp.cuda.get_current_stream().synchronize()
            self._stream, self._pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()
            self._stream.__enter__()
        return self

    def __exit__(self, *exception):
        if self._stream is not None:
            self._stream.synchronize()
            self._stream.__exit__(*exception)

    def restart(self):
        if backend.name == "numpy":
            self.sums.clear()
        for total in self.sums.values():
            total.fill(0)

    def __call__(self, batch, lr):
        shapes = shapes_of(batch) if self._captures and len(batch) == self.batch_size else None
        if shapes is None or shapes not in self._seen_shapes:
            self._seen_shapes.add(shapes)
            super().__call__(batch, lr)
            return
        self._fast_optimizer = optim.fast_optimizer(self.optimizer, self.model.engine.parameters)
        self._fast_optimizer.set_lr(lr)
        if shapes in self.graphs or self._capture(batch, shapes):
            self.graphs[shapes].replay(batch)
        else:
            self._step(batch)

    def _capture(self, batch, shapes):
        """Capture a graph for batches of these shapes; False if it fails."""
        try:
            self.graphs[shapes] = Graph(self._step, batch, self._pool, (vars(self.model), self.optimizer, self.sums))
        except Exception as error:  # noqa: BLE001  CUDA and CuPy raise errors of many types; the capture has changed nothing.
            warnings.warn(f"training continues without CUDA graphs: {type(error).__name__}: {error}", stacklevel=3)
            self._captures = False
        return self._captures

    def _step(self, batch):
        self.compute_gradients(batch)
        self._fast_optimizer.apply(self.model.engine.parameters, self.model.engine.gradients)


class Graph:
    """A CUDA graph of function(batch), captured on the current stream, which must be non-blocking.

    `replay` copies other batches to the addresses of this one.

    Args:
        pool: a memory pool that only this kind of graph uses.
        owners: the objects whose arrays the function uses.
    """

    def __init__(self, function, batch, pool, owners):
        self._inputs, self._shapes, self._pool = arrays_in(batch), shapes_of(batch), pool
        stream = backend.xp.cuda.get_current_stream()
        with backend.xp.cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            try:
                function(batch)
            except BaseException:
                with contextlib.suppress(Exception):  # CUDA may raise the error again.
                    stream.end_capture()
                raise
            self._graph = stream.end_capture()
        self._kept_alive = arrays_in(owners)

    def replay(self, batch):
        """Run the graph with another batch. ValueError if its arrays have other shapes or dtypes."""
        if shapes_of(batch) != self._shapes:
            captured, given = (
                ", ".join(f"{dtype} {shape}" for shape, dtype in shapes) for shapes in (self._shapes, shapes_of(batch))
            )
            raise ValueError(f"the captured batch had the arrays {captured}, this one has {given}")
        for captured, array in zip(self._inputs, arrays_in(batch), strict=True):
            if array.data.ptr != captured.data.ptr:
                backend.xp.copyto(captured, array)
        self._graph.launch()


def can_be_captured(model, optimizer):
    """Whether a graph can contain a step: nothing is drawn on the host, and every part has a fast version. Other parts may
    change from step to step, and use CuPy's matmul.
    """
    return (
        not model.bottleneck.draws
        and isinstance(model.bottleneck, bottlenecks.Buffered)
        and type(optimizer) in optim.FAST_OPTIMIZERS
        and not any(isinstance(layer, layers.WrappedLayer) for layer in model.layers)
    )


def shapes_of(batch):
    """The shapes and dtypes of a batch's arrays."""
    return tuple((array.shape, array.dtype) for array in arrays_in(batch))


def arrays_in(root):
    """The device arrays reachable from `root` through lists, tuples, dicts and this package's objects, in a fixed order."""
    found, seen, to_visit = [], set(), [root]
    while to_visit:
        item = to_visit.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if type(item).__module__.split(".")[0] == PACKAGE:
            item = vars(item)
        if isinstance(item, backend.xp.ndarray):
            found.append(item)
        elif isinstance(item, list | tuple):
            to_visit += reversed(item)
        elif isinstance(item, dict):
            to_visit += reversed(item.values())
    return found
