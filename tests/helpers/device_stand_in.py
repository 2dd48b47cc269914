"""CuPy without a GPU: arrays that live in host memory but refuse whatever would cross between host and device unasked.

`StandIn` takes the place of the module `cupy` in `backend.xp`. Its functions are those that tinyqae uses, with CuPy's
names and arguments: anything else is an AttributeError or a TypeError, as an argument that only NumPy knows is. An array
wraps one of NumPy's and is no subclass of it, so that no function of NumPy can work on it by accident.

What CuPy does was taken from its reference (docs.cupy.dev, "Differences between CuPy and NumPy"), from the signatures of
CuPy 14.2 and from its sources. What matters here:

    operands        arrays of CuPy, Python's numbers, and scalars of NumPy (`np.float32(2)`); an ndarray, also one without
                    axes, is an "Unsupported type", and a list too
    ufuncs          take out, dtype and casting, but no `where`; `reduce` and `reduceat` exist for add and multiply alone
    take, put       wrap around what is out of range; take has no mode, and its out the array's very dtype
    reductions      return an array without axes, which stays on the device
    float(x), ...   and bool, int, item, tolist copy to the host and wait for the device
    x[mask]         counts the mask on the host, and so does x[mask] = value; nonzero and flatnonzero as well
    x[ints] = 1     sends the 1 to the device first; x[slice] = 1 does not
    x[list]         sends the list to the device; so does an ndarray as an index
    np.asarray(x)   and any other implicit conversion is a TypeError

Here all of them that wait or send are errors, outside of `transfers_allowed()`. Stricter than CuPy: a floating scalar of
NumPy must have the dtype of the floating arrays beside it, and arrays of different floating dtypes do not mix, since either
turns a computation in float32 into a slow one in float64.

Streams can be captured into graphs. As on a GPU, what is captured is not done before the graph is launched, numbers are
those of the capture, arrays are places in memory, and nothing keeps that memory but its arrays: a launch after they are
gone is an error. While capturing, what waits or sends is an error whatever is allowed, and so are CuPy's matrix products, a
launch of another graph and, as it would be taken for the graph's own use, memory from the pool that everybody uses.
"""

import contextlib
import operator
from dataclasses import dataclass
from types import SimpleNamespace

import cuda_on_host
import numpy as np

UFUNCS = (
    "absolute",
    "add",
    "copysign",
    "divide",
    "equal",
    "exp",
    "floor_divide",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "remainder",
    "sign",
    "sqrt",
    "subtract",
    "tanh",
)


class Refused(TypeError):
    """What CuPy refuses, or what would cross between host and device without being asked to."""


@dataclass
class Counts:
    """Crossings to either side, and arrays made: with axes (`allocations`), without (`scalars`), and by CuPy for itself
    within matrix and dot products (`copies`).
    """

    to_device: int = 0
    to_host: int = 0
    allocations: int = 0
    scalars: int = 0
    copies: int = 0


class StandIn:
    """The module `cupy`. Attributes: `counts`, since the last `counting`; `free_memory`, in bytes."""

    __version__ = "of the stand-in"
    inf, pi = np.inf, np.pi

    def __init__(self):
        self.counts, self.free_memory = Counts(), 2**30
        self._allowed = False
        self.ndarray, self.float32, self.float64 = DeviceArray, np.float32, np.float64
        self.lib = SimpleNamespace(stride_tricks=SimpleNamespace(as_strided=self._as_strided))
        self.default_stream, self.stream = SimpleNamespace(ptr=0, synchronize=lambda: None), None
        self.graph, self.owners, self.pool, self._allocator = None, {}, MemoryPool(), None
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(memGetInfo=lambda: (self.free_memory, 2**30), runtimeGetVersion=lambda: 12090),
            Device=lambda: SimpleNamespace(compute_capability="90"),
            MemoryPool=MemoryPool,
            using_allocator=self._using_allocator,
            Stream=lambda non_blocking=False: Stream(self, non_blocking),
            get_current_stream=lambda: self.stream or self.default_stream,
        )
        for name in UFUNCS:
            setattr(self, name, Ufunc(self, getattr(np, name)))
        self.abs = self.absolute

    @contextlib.contextmanager
    def transfers_allowed(self):
        """Inside, what waits for the device or sends to it unasked is counted but not refused."""
        before, self._allowed = self._allowed, True
        try:
            yield
        finally:
            self._allowed = before

    @contextlib.contextmanager
    def counting(self):
        """Yields the Counts of what happens inside."""
        before, self.counts = self.counts, Counts()
        try:
            yield self.counts
        finally:
            self.counts = before

    # ---- crossing -------------------------------------------------------------------------------------------------

    def asarray(self, a, dtype=None, order=None):
        """To the device, unless it is there: the one function that takes an ndarray, a list or a number."""
        if isinstance(a, DeviceArray):
            return a if dtype is None or a.dtype == dtype else a.astype(dtype)
        self.no_capture("asarray")
        self.counts.to_device += 1
        return self.new(np.array(a, dtype, order=order or "C"))

    def crosses(self, what):
        """Refuse a crossing that nobody asked for, unless it is allowed."""
        self.no_capture(what)
        if not self._allowed:
            raise Refused(f"{what} crosses between host and device; use backend.to_host or backend.to_device")

    def no_capture(self, what):
        """Refuse what cannot be captured."""
        if self.graph is not None:
            raise Refused(f"{what} while a stream is being captured")

    def new(self, host):
        """A fresh array of the device with these values."""
        host = np.asarray(host)
        if host.ndim:
            self.counts.allocations += 1
        else:
            self.counts.scalars += 1
        if self.graph is not None:
            if self._allocator is None:
                raise Refused("memory from the common pool while a stream is being captured")
            self._allocator.__self__.held.append(host)
            self.graph.pool_memory.append(host)
        return DeviceArray(self, host)

    def compute(self, function):
        """A fresh array with the values that function() gives, at every launch if this is captured."""
        array = self.new(function())
        if self.graph is not None:
            host = array.host
            self.graph.operations.append(lambda: host.__setitem__(..., function()))
        return array

    def change(self, hosts, function):
        """function(), which writes into these arrays of NumPy's; at every launch instead, if this is captured."""
        if self.graph is not None:
            self.graph.before += [(host, host.copy()) for host in hosts]
            self.graph.operations.append(function)
        function()

    def view(self, function, source):
        """What function() makes of the DeviceArray `source`: a view of it, if NumPy does not have to copy."""
        host = function()
        return DeviceArray(self, host) if np.may_share_memory(host, source.host) else self.compute(function)

    def operand(self, value, floating=()):
        """What NumPy computes with in place of `value`; floating: the floating dtypes of the arrays beside it."""
        if isinstance(value, DeviceArray):
            return required(value).host
        if isinstance(value, np.floating) and floating and value.dtype not in floating:
            raise Refused(f"a scalar of {value.dtype} beside arrays of {', '.join(map(str, floating))}")
        if isinstance(value, bool | int | float | np.generic):
            return value
        raise Refused(f"Unsupported type {type(value)}: only arrays of the device, Python's numbers and NumPy's scalars")

    def apply(self, function, *values, out=None, **options):
        """function of NumPy on these operands, of which some are arrays of the device."""
        arrays = [value for value in (*values, out) if isinstance(value, DeviceArray)]
        floating = {array.dtype for array in arrays if array.dtype.kind == "f"}
        if len(floating) > 1:
            raise Refused(f"arrays of {' and '.join(sorted(map(str, floating)))}")
        operands = [self.operand(value, floating) for value in values]
        if out is None:
            return self.compute(lambda: function(*operands, **options))
        host = required(out).host
        self.change([host], lambda: function(*operands, out=host, **options))
        return out

    # ---- arrays from nothing --------------------------------------------------------------------------------------

    def empty(self, shape, dtype=float, order="C"):
        """Not zero: what was never written must not look as if it had been."""
        host = np.empty(shape, dtype, order)
        host.fill(np.nan if host.dtype.kind == "f" else 113 if host.dtype.kind in "iu" else True)
        return self.new(host)

    def zeros(self, shape, dtype=float, order="C"):
        return self.compute(lambda: np.zeros(shape, dtype, order))

    def ones(self, shape, dtype=float, order="C"):
        return self.compute(lambda: np.ones(shape, dtype, order))

    def full(self, shape, fill_value, dtype=None, order="C"):
        value = self.operand(fill_value)
        return self.compute(lambda: np.full(shape, value, dtype, order))

    def empty_like(self, prototype, dtype=None):
        return self.empty(required(prototype).shape, dtype or prototype.dtype)

    def zeros_like(self, a, dtype=None):
        return self.zeros(required(a).shape, dtype or a.dtype)

    def arange(self, start, stop=None, step=1, dtype=None):
        return self.compute(lambda: np.arange(*((0, start) if stop is None else (start, stop)), step, dtype))

    # ---- other shapes and places ----------------------------------------------------------------------------------

    def ascontiguousarray(self, a, dtype=None):
        return self.view(lambda: np.ascontiguousarray(required(a).host, dtype), a)

    def concatenate(self, tup, axis=0):
        return self.apply(lambda *hosts: np.concatenate(hosts, axis), *map(required, tup))

    def stack(self, tup, axis=0):
        return self.apply(lambda *hosts: np.stack(hosts, axis), *map(required, tup))

    def split(self, ary, indices_or_sections, axis=0):
        return [DeviceArray(self, part) for part in np.split(required(ary).host, indices_or_sections, axis)]

    def pad(self, array, pad_width):
        return self.apply(np.pad, required(array), pad_width=pad_width)

    def repeat(self, a, repeats, axis=None):
        return self.apply(np.repeat, required(a), repeats=operator.index(repeats), axis=axis)

    def _as_strided(self, x, shape=None, strides=None):
        return DeviceArray(self, np.lib.stride_tricks.as_strided(required(x).host, shape, strides))

    def take(self, a, indices, axis=None, out=None):
        """Out of range it wraps, which nobody relies on; so that is an error here."""
        if out is not None and required(out).dtype != required(a).dtype:
            raise Refused("Output dtype mismatch")
        source, index = required(a).host, required(indices).host
        if out is None:
            return self.compute(lambda: np.take(source, index, axis))
        host = out.host
        self.change([host], lambda: host.__setitem__(..., np.take(source, index, axis)))
        return out

    def take_along_axis(self, a, indices, axis):
        source, index = required(a).host, required(indices).host
        return self.compute(lambda: np.take_along_axis(source, index, axis))

    def put(self, a, ind, v):
        """A number for v would be sent."""
        host, index, values = required(a).host, required(ind).host, required(v).host
        self.change([host], lambda: np.put(host, index, values))

    def copyto(self, dst, src, casting="same_kind", where=None):
        host, source = required(dst).host, self.operand(src, [dst.dtype])
        mask = True if where is None else required(where).host
        self.change([host], lambda: np.copyto(host, source, casting, mask))

    def where(self, condition, x, y):
        """With the condition alone it would count, as flatnonzero does."""
        return self.apply(np.where, required(condition), x, y)

    def argsort(self, a, axis=-1, kind=None):
        return self.apply(np.argsort, required(a), axis=axis, kind=kind)

    def flatnonzero(self, a):
        self.crosses("flatnonzero, whose result has as many places as there are values,")
        self.counts.to_host += 1
        return self.new(np.flatnonzero(required(a).host))

    # ---- products and sums ----------------------------------------------------------------------------------------

    def matmul(self, x1, x2, out=None):
        """Counts the copies that CuPy makes where cuBLAS cannot take an operand or a destination as it stands."""
        self.no_capture("a matrix product of CuPy")
        flat = max(required(x1).ndim, required(x2).ndim) <= 2
        for array in (x1, x2):
            fits = array.flags.c_contiguous or flat and array.flags.f_contiguous
            self.counts.copies += not fits
        if out is not None:
            in_place = required(out).flags.c_contiguous and not any(np.may_share_memory(out.host, x.host) for x in (x1, x2))
            self.counts.copies += not in_place
        if not flat and x1.shape[:-2] != x2.shape[:-2]:
            self.counts.copies += 3  # The addresses of every matrix of the three arrays.
        return self.apply(np.matmul, x1, x2, out=out)

    def vdot(self, a, b):
        self.counts.copies += 1  # The products, before their sum.
        return self.apply(np.vdot, required(a), required(b))

    def tensordot(self, a, b, axes=2):
        self.no_capture("a matrix product of CuPy")
        return self.apply(np.tensordot, required(a), required(b), axes=axes)

    def kron(self, a, b):
        return self.apply(np.kron, required(a), required(b))

    def clip(self, a, a_min, a_max, out=None):
        return self.apply(np.clip, required(a), a_min, a_max, out=out)

    def max(self, a, axis=None, out=None, keepdims=False):
        return self.apply(np.max, required(a), axis=axis, out=out, keepdims=keepdims)

    def min(self, a, axis=None, out=None, keepdims=False):
        return self.apply(np.min, required(a), axis=axis, out=out, keepdims=keepdims)

    def sum(self, a, axis=None, dtype=None, out=None, keepdims=False):
        return self.apply(np.sum, required(a), axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def mean(self, a, axis=None, dtype=None, out=None, keepdims=False):
        return self.apply(np.mean, required(a), axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def prod(self, a, axis=None, dtype=None, out=None, keepdims=False):
        return self.apply(np.prod, required(a), axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    # ---- memory ---------------------------------------------------------------------------------------------------

    def get_default_memory_pool(self):
        return self.pool

    @contextlib.contextmanager
    def _using_allocator(self, allocator):
        before, self._allocator = self._allocator, allocator
        try:
            yield
        finally:
            self._allocator = before

    # ---- kernels --------------------------------------------------------------------------------------------------

    def RawModule(self, *, code):
        """Kernels that run on the processor, captured like everything else."""
        module = cuda_on_host.Module(code=code)

        def get_function(name):
            kernel = module.get_function(name)

            def launch(grid, block, args):
                hosts = [required(value).host for value in args if not isinstance(value, np.generic)]
                self.change(hosts, lambda: kernel(grid, block, args))

            return launch

        return SimpleNamespace(get_function=get_function)


class MemoryPool:
    """A pool of memory. It is asked for an allocator only; `held` is what arrays made with it got."""

    def __init__(self):
        self.held = []

    def malloc(self, size):
        raise NotImplementedError

    def free_bytes(self):
        return 0


class Stream:
    """A stream, which can be captured when it is a non-blocking one."""

    def __init__(self, device, non_blocking):
        self._device, self._non_blocking, self.ptr, self._before = device, non_blocking, id(self), []

    def __enter__(self):
        self._before.append(self._device.stream)
        self._device.stream = self
        return self

    def __exit__(self, *exception):
        self._device.stream = self._before.pop()

    def synchronize(self):
        self._device.no_capture("synchronize")

    def begin_capture(self):
        if not self._non_blocking or self._device.stream is not self or self._device.graph is not None:
            raise RuntimeError("cudaErrorStreamCaptureUnsupported: needs a current, non-blocking stream, once")
        self._device.graph = Graph(self._device)

    def end_capture(self):
        graph, self._device.graph = self._device.graph, None
        graph.undo()
        return graph


class Graph:
    """What was captured: `operations`, functions without arguments, and the memory that they are about."""

    def __init__(self, device):
        self._device, self.operations, self.before, self.memory, self.pool_memory = device, [], [], set(), []

    def undo(self):
        """Nothing has been done yet."""
        for host, values in reversed(self.before):
            host[...] = values
        self.before.clear()

    def launch(self, stream=None):
        self._device.no_capture("a launch")
        own = {id(root(host)) for host in self.pool_memory}
        if any(self._device.owners.get(memory, 0) == 0 for memory in self.memory - own):
            raise MemoryError("the graph works on memory that has been freed")
        for operation in self.operations:
            operation()


def root(host):
    """The array of NumPy whose memory `host` is a view of."""
    while isinstance(host.base, np.ndarray):
        host = host.base
    return host


def required(array):
    """`array` if it is one of the device."""
    if not isinstance(array, DeviceArray):
        raise Refused(f"{type(array)} where an array of the device is needed")
    if array._device.graph is not None:
        array._device.graph.memory.add(id(root(array.host)))
    return array


class Ufunc:
    """A ufunc of CuPy: out, dtype and casting by name, out by position too; `at` for add."""

    def __init__(self, device, function):
        self._device, self._function = device, function

    def __call__(self, *args, out=None, dtype=None, casting="same_kind"):
        if len(args) > self._function.nin:
            *args, out = args
        return self._device.apply(self._function, *args, out=out, dtype=dtype, casting=casting)

    def at(self, a, indices, b=None):
        """a[indices] += b, for every index, also where one comes twice."""
        if self._function is not np.add:
            raise Refused(f"`{self._function.__name__}.at` is not supported yet")
        host, index, values = required(a).host, required(indices).host, required(b).host
        self._device.change([host], lambda: np.add.at(host, index, values))


def _binary(name, reflected=False):
    def method(self, other):
        operands = (other, self) if reflected else (self, other)
        return getattr(self._device, name)(*operands)

    return method


def _in_place(name):
    def method(self, other):
        return getattr(self._device, name)(self, other, out=self)

    return method


class DeviceArray:
    """An array of the device; `host` is where the stand-in keeps its values, and no business of the library's."""

    # NumPy's operators and ufuncs leave an array with this to its own methods, and refuse it themselves.
    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, device, host):
        self._device, self.host, self._memory = device, host, id(root(host))
        device.owners[self._memory] = device.owners.get(self._memory, 0) + 1

    def __del__(self):
        self._device.owners[self._memory] -= 1

    data = property(lambda self: SimpleNamespace(ptr=self.host.ctypes.data))
    dtype = property(lambda self: self.host.dtype)
    shape = property(lambda self: self.host.shape)
    strides = property(lambda self: self.host.strides)
    ndim = property(lambda self: self.host.ndim)
    size = property(lambda self: self.host.size)
    nbytes = property(lambda self: self.host.nbytes)
    itemsize = property(lambda self: self.host.itemsize)
    T = property(lambda self: self.transpose())

    @property
    def flags(self):
        """Contiguity."""
        flags = self.host.flags
        return SimpleNamespace(c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous)

    def __repr__(self):
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        """Arrays, in the end some without axes; no numbers."""
        return (self[i] for i in range(len(self)))

    # ---- crossing -------------------------------------------------------------------------------------------------

    def get(self):
        """To the host, on purpose."""
        self._device.no_capture("get")
        self._device.counts.to_host += 1
        return self.host.copy()

    def set(self, arr):
        """From the host, on purpose."""
        if not isinstance(arr, np.ndarray):
            raise Refused("Only numpy.ndarray can be set to cupy.ndarray")
        if (arr.shape, arr.dtype) != (self.shape, self.dtype):
            raise Refused(f"{arr.shape} {arr.dtype} set to {self.shape} {self.dtype}")
        if not self.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        self._device.no_capture("set")
        self._device.counts.to_device += 1
        self.host[...] = arr

    def _number(self, what, kind):
        self._device.crosses(f"{what} of {self!r}")
        self._device.counts.to_host += 1
        return kind(self.host)

    def __float__(self):
        return self._number("float()", float)

    def __int__(self):
        return self._number("int()", int)

    def __bool__(self):
        return self._number("bool()", bool)

    def item(self):
        return self._number("item()", np.ndarray.item)

    def tolist(self):
        return self._number("tolist()", np.ndarray.tolist)

    def __array__(self, dtype=None, copy=None):
        raise Refused("Implicit conversion to a NumPy array is not allowed")

    def __array_function__(self, function, types, args, kwargs):
        raise Refused(f"np.{function.__name__} on an array of the device; call backend.xp.{function.__name__}")

    # ---- places ---------------------------------------------------------------------------------------------------

    def _places(self, index):
        """(NumPy's index, whether there are arrays in it)."""
        parts, arrays = list(index) if isinstance(index, tuple) else [index], False
        for i, part in enumerate(parts):
            if isinstance(part, DeviceArray):
                if part.dtype == bool:
                    self._device.crosses("a boolean mask as an index, whose ones are counted,")
                    self._device.counts.to_host += 1
                parts[i], arrays = part.host, True
            elif not (part is None or part is ... or isinstance(part, slice | int | np.integer)) or isinstance(part, bool):
                raise Refused(f"an index of {type(part)} is sent to the device")
        if not any(part is ... for part in parts):
            parts.append(...)  # So that a single value is an array without axes.
        return tuple(parts), arrays

    def __getitem__(self, index):
        (places, arrays), host = self._places(index), required(self).host
        return self._device.compute(lambda: host[places]) if arrays else DeviceArray(self._device, host[places])

    def __setitem__(self, index, value):
        places, arrays = self._places(index)
        if arrays and not isinstance(value, DeviceArray):
            self._device.crosses("a number assigned to places given by an array")
            self._device.counts.to_device += 1
        host, value = required(self).host, self._device.operand(value)
        self._device.change([host], lambda: host.__setitem__(places, value))

    def fill(self, value):
        host, value = required(self).host, self._device.operand(value)
        self._device.change([host], lambda: host.fill(value))

    def copy(self):
        host = required(self).host
        return self._device.compute(lambda: host.copy())

    def astype(self, dtype, copy=True):
        host = required(self).host
        return self if self.dtype == dtype and not copy else self._device.compute(lambda: host.astype(dtype))

    def reshape(self, *shape):
        host = required(self).host
        return self._device.view(lambda: host.reshape(*shape), self)

    def ravel(self):
        host = required(self).host
        return self._device.view(lambda: host.ravel(), self)

    def transpose(self, *axes):
        return DeviceArray(self._device, self.host.transpose(*axes))

    def repeat(self, repeats, axis=None):
        return self._device.repeat(self, repeats, axis)

    # ---- arithmetic -----------------------------------------------------------------------------------------------

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._device.sum(self, axis, dtype, out, keepdims)

    def mean(self, axis=None, dtype=None, out=None, keepdims=False):
        return self._device.mean(self, axis, dtype, out, keepdims)

    def max(self, axis=None, out=None, keepdims=False):
        return self._device.max(self, axis, out, keepdims)

    def min(self, axis=None, out=None, keepdims=False):
        return self._device.min(self, axis, out, keepdims)

    def argmax(self, axis=None):
        return self._device.apply(np.argmax, self, axis=axis)

    def all(self, axis=None):
        return self._device.apply(np.all, self, axis=axis)

    __add__, __radd__, __iadd__ = _binary("add"), _binary("add", True), _in_place("add")
    __sub__, __rsub__, __isub__ = _binary("subtract"), _binary("subtract", True), _in_place("subtract")
    __mul__, __rmul__, __imul__ = _binary("multiply"), _binary("multiply", True), _in_place("multiply")
    __truediv__, __rtruediv__, __itruediv__ = _binary("divide"), _binary("divide", True), _in_place("divide")
    __pow__ = _binary("power")
    __floordiv__, __mod__, __matmul__ = _binary("floor_divide"), _binary("remainder"), _binary("matmul")
    __eq__, __ne__, __lt__ = _binary("equal"), _binary("not_equal"), _binary("less")
    __le__, __gt__, __ge__ = _binary("less_equal"), _binary("greater"), _binary("greater_equal")

    def __neg__(self):
        return self._device.negative(self)
