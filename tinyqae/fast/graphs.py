"""A training step, and on a GPU the whole of it as one CUDA graph.

A step of a small model is a hundred launches and more, each of which takes Python longer than the GPU takes for the work.
A CUDA graph holds them all: captured once, a step is one launch. What a graph holds is fixed, however:

    shapes      a graph for each shape of batch; the odd last batch of an epoch is computed eagerly
    numbers     what changes from step to step (the rate, the step counter, the slope of an annealed bottleneck) lies in
                arrays of the device; what is drawn on the host (noise, stochastic bits) does not, and so such a bottleneck
                always computes eagerly; so does a part that this engine has no version of, such as a user's own
    addresses   batches are copied to where the captured one lay; arrays that the step works on are held, so that their
                memory is not given to others; what is allocated during the capture comes from a pool of the graphs' own
    products    those of cuda/gemm.py, since CuPy's cannot be captured

The first batch of a shape is computed eagerly: it compiles kernels and makes buffers. The second is captured and, like all
that follow, replayed. Where a capture fails, training goes on eagerly and a warning says why.
"""
import warnings

from .. import backend, train
from . import bottlenecks, layers, optim

PACKAGE = __package__.split(".")[0]


class TrainingStep(train.TrainingStep):
    """See train.TrainingStep; on a GPU, whole steps of `batch_size` examples as CUDA graphs.

    graphs: {shapes of a batch: Graph}, empty where there are none. capturing: False to compute eagerly on a GPU too. `sums`
    are arrays without axes on a GPU, read when one likes.
    """

    capturing = True

    def prepare(self):
        """See the engine's `build`."""
        self.graphs, self._met, self._stream = {}, set(), None

    def __enter__(self):
        self._captures = self.capturing and backend.products is not None and can_be_captured(self.model, self.optimizer)
        if self._captures:
            xp = backend.xp
            # The default stream cannot be captured, and a non-blocking one does not wait for it.
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
        if shapes is None or shapes not in self._met:
            self._met.add(shapes)
            super().__call__(batch, lr)
            return
        vector = self.model.engine.parameters
        self._update = optim.prepared(self.optimizer, vector)
        self._update.set_rate(lr)
        if shapes in self.graphs or self._capture(batch, shapes):
            self.graphs[shapes].replay(batch)
        else:
            self._whole(batch)

    def _capture(self, batch, shapes):
        """Whether there is a graph now for batches of these shapes."""
        try:
            self.graphs[shapes] = Graph(self._whole, batch, self._pool, (vars(self.model), self.optimizer, self.sums))
        except Exception as error:  # noqa: BLE001  CUDA and CuPy raise what they like; a capture has done nothing yet.
            warnings.warn(f"training goes on without CUDA graphs: {type(error).__name__}: {error}", stacklevel=3)
            self._captures = False
        return self._captures

    def _whole(self, batch):
        self.compute_gradients(batch)
        self._update.advance(self.model.engine.parameters, self.model.engine.gradients)


class Graph:
    """What function(batch) does, captured on the current stream, which must be a non-blocking one.

    batch: its arrays are where `replay` puts those of other batches. pool: a memory pool for what is allocated meanwhile,
    which serves no one else. owners: the objects whose arrays the function works on.
    """

    def __init__(self, function, batch, pool, owners):
        self._inputs, self._shapes, self._pool = arrays_in(batch), shapes_of(batch), pool
        stream = backend.xp.cuda.get_current_stream()
        with backend.xp.cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            try:
                function(batch)
            except BaseException:
                _abandon(stream)
                raise
            self._graph = stream.end_capture()
        self._held = arrays_in(owners)

    def replay(self, batch):
        """Do it again, on a batch whose arrays have the same shapes and dtypes; else ValueError."""
        if shapes_of(batch) != self._shapes:
            raise ValueError(f"the captured batch had the arrays {_as_text(self._shapes)}, "
                             f"this one has {_as_text(shapes_of(batch))}")
        for place, array in zip(self._inputs, arrays_in(batch), strict=True):
            if array.data.ptr != place.data.ptr:
                backend.xp.copyto(place, array)
        self._graph.launch()


def can_be_captured(model, optimizer):
    """Whether a graph can hold a step: nothing is drawn on the host, and every part has a version of its own here. What
    changes from step to step in other parts nobody knows, and their matrix products are CuPy's.
    """
    return (not model.bottleneck.draws and isinstance(model.bottleneck, bottlenecks.Buffered)
            and type(optimizer) in optim.TUNED and not any(isinstance(layer, layers.Adapted) for layer in model.layers))


def _abandon(stream):
    """End a capture that has failed; CUDA may say so once more."""
    try:
        stream.end_capture()
    except Exception:  # noqa: BLE001  the first error is the one to tell
        pass


def shapes_of(batch):
    """The shapes and dtypes of a batch's arrays."""
    return tuple((array.shape, array.dtype) for array in arrays_in(batch))


def _as_text(shapes):
    return ", ".join(f"{dtype} {shape}" for shape, dtype in shapes)


def arrays_in(thing):
    """The device's arrays within: the thing itself, or those in its items or attributes, if it is a list, a tuple, a dict
    or an object of this package, and so on; each object once, in a fixed order.
    """
    found, seen, to_visit = [], set(), [thing]
    while to_visit:
        one = to_visit.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, backend.xp.ndarray):
            found.append(one)
        elif isinstance(one, list | tuple):
            to_visit += reversed(one)
        elif isinstance(one, dict):
            to_visit += reversed(one.values())
        elif type(one).__module__.split(".")[0] == PACKAGE:
            to_visit += reversed(vars(one).values())
    return found
