"""The graders of exercises.py. They give answers away: try the exercises first.

A gradient is checked in float64 against central differences (tinyqae.gradcheck), the straight-through estimator against
its surrogate. An answer that fails is compared with typical mistakes, and the message says which one it is.
"""

import argparse
import inspect
import sys
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinyqae.cli.program import OneLineParser, run_main
from tinyqae.gradcheck import check_coordinates
from tinyqae.losses import bce_with_logits, commitment_loss
from tinyqae.ops.activations import sigmoid_forward

PASSED, WRONG, BLANK = "passed", "not right yet", "not done yet"


class WrongAnswer(Exception):
    """Raised for a wrong answer; the message says why."""


class NotDone(Exception):
    """Raised if the function has not been filled in yet."""


@dataclass(frozen=True)
class Exercise:
    """name: of the function. arguments: its signature. task: one line for the list. grader(answer): raises WrongAnswer or
    NotDone. start: where to begin. hint: goes beyond the docstring. learned: the takeaway, shown once it is solved.
    """

    name: str
    arguments: str
    task: str
    grader: Callable
    start: str
    hint: str
    learned: str


@dataclass(frozen=True)
class Verdict:
    """state: PASSED, WRONG or BLANK; message: why, or what was learned."""

    state: str
    message: str


def grade(number, functions):
    """The Verdict on exercise `number`, 1 to 8. functions: the names defined in the student's file, a dict."""
    exercise = EXERCISES[number - 1]
    function = functions.get(exercise.name)
    try:
        if not inspect.isfunction(function):
            raise WrongAnswer(
                f"exercises.py defines no function {exercise.name} any more; write it as "
                f"`def {exercise.name}({exercise.arguments}):`"
            )
        with np.errstate(all="ignore"):
            exercise.grader(Answer(function))
    except NotDone:
        line = function.__code__.co_firstlineno
        return Verdict(BLANK, f"Start at line {line} of exercises.py: {exercise.start}")
    except WrongAnswer as refusal:
        return Verdict(WRONG, str(refusal))
    return Verdict(PASSED, exercise.learned)


class Answer:
    """The student's function. Any error while it runs is raised as WrongAnswer, with a plain explanation."""

    def __init__(self, function):
        self.function = function

    def __call__(self, **arguments):
        """Call the function and return its result; arguments are passed by position, their names are for messages."""
        kept = {name: value.copy() for name, value in arguments.items() if isinstance(value, np.ndarray)}
        try:
            result = self.function(*arguments.values())
        except WrongAnswer:
            raise
        except Exception as error:
            raise self._in_words(error, arguments) from None
        for name, value in kept.items():
            if not np.array_equal(arguments[name], value):
                raise WrongAnswer(
                    f"It wrote into its argument {name}, which the rest of the program still needs. Compute a "
                    f"new array, or work on {name}.copy()."
                )
        return result

    def array(self, **arguments):
        """Call the function and return its result, which must be an array of the first argument's shape."""
        result = self(**arguments)
        name, first = next(iter(arguments.items()))
        wanted = f"return one array of the shape of {name}, here {first.shape}"
        if result is None:
            raise WrongAnswer(f"It returned None: is the `return` missing? {wanted.capitalize()}.")
        if not isinstance(result, np.ndarray):
            raise WrongAnswer(f"It returned {_a(type(result).__name__)}: {wanted}.")
        if result.shape != first.shape:
            raise WrongAnswer(f"It returned shape {result.shape}: {wanted}.")
        if result.dtype.kind not in "biuf":
            raise WrongAnswer(f"It returned an array of {result.dtype}: return real numbers.")
        return result

    def _in_words(self, error, arguments):
        """Convert an exception to NotDone or WrongAnswer, with the line of the student's file that raised it."""
        lines = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == self.function.__code__.co_filename
        ]
        if not lines:
            return WrongAnswer(f"It cannot be called with ({', '.join(arguments)}): {error}. Keep its arguments.")
        line, own_name = lines[-1], self.function.__name__
        if isinstance(error, NotImplementedError):
            number = next((n for n, exercise in enumerate(EXERCISES, 1) if exercise.name == line.name), None)
            if line.name == own_name or number is None:
                return NotDone()
            return WrongAnswer(f"It calls {line.name}, exercise {number}, which is not done yet. Do that one first.")
        return WrongAnswer(
            f"It stopped at line {line.lineno} of your file, in {line.name}: `{line.line}`. "
            f"{_meaning(error)} (Python says {type(error).__name__}: {error}.)"
        )


def _meaning(error):
    """Return a sentence on what an exception usually means."""
    if isinstance(error, NameError):
        return "It uses a name that is not defined: a typing error, or an argument under another name?"
    if "broadcast" in str(error) or "matmul" in str(error):
        return "The shapes of two arrays do not fit together."
    if isinstance(error, TypeError):
        return "An operation got an operand of a type that it does not support."
    if isinstance(error, RecursionError):
        return "The function keeps calling itself."
    return "The line failed."


def _a(noun):
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _normal(*shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def _check_gradient(value, x, claimed, mistakes):
    """Raise WrongAnswer unless `claimed` is the numeric gradient of value() with respect to x.

    mistakes: pairs (the result of a typical mistake, the message for it).
    """
    try:
        check_coordinates(value, x, claimed)
    except AssertionError as error:
        _recognize(claimed, mistakes)
        raise WrongAnswer(f"The gradient check fails: {error}.") from None


def _recognize(got, mistakes):
    for wrong, message in mistakes:
        if np.allclose(got, wrong, rtol=1e-6, atol=1e-12):
            raise WrongAnswer(message)


# ---- the graders ----------------------------------------------------------------------------------------------------


def grade_sigmoid_backward(answer):
    h, da = _normal(3, 4, seed=0), _normal(3, 4, seed=1)
    a = sigmoid_forward(h)
    again = sigmoid_forward(a)
    _check_gradient(
        lambda: np.vdot(da, sigmoid_forward(h)),
        h,
        answer.array(da=da, a=a),
        [
            (a * (1 - a), "That is sigma' alone. The chain rule multiplies it by da, the upstream gradient."),
            (da * again * (1 - again), "It applies sigma a second time: a is sigma(h) already. Write sigma' in terms of a."),
            (-da * a * (1 - a), "The sign is wrong: sigma rises everywhere, so dh has the sign of da."),
            (da * a, "A factor is missing: d/dh (1 + e^-h)^-1 = e^-h (1 + e^-h)^-2, which is a times something else."),
            (da * (1 - a), "A factor is missing: that is the derivative of log sigma. sigma' has a factor a as well."),
            (da * (1 - a * a), "That is the derivative of tanh, 1 - tanh^2, not the one of sigma."),
            (da, "It passes da on unchanged, as if sigma were the identity. Multiply by sigma'(h)."),
        ],
    )


def grade_bce_with_logits_backward(answer):
    l, t = _normal(3, 4, seed=2), np.random.default_rng(3).random((3, 4))
    p = sigmoid_forward(l)
    right = (p - t) / l.size
    _check_gradient(
        lambda: bce_with_logits(l, t),
        l,
        answer.array(logits=l, targets=t),
        [
            (p - t, "The factor 1/size is missing: L is a mean over all elements, so each gets that share of the gradient."),
            ((p - t) / len(l), "It divides by N. The mean runs over all N * D elements: divide by size."),
            ((p - t) / l.shape[1], "It divides by D. The mean runs over all N * D elements: divide by size."),
            (-right, "The sign is wrong: where p is above the target, the loss rises with the logit."),
            (
                right * p * (1 - p),
                "It multiplies by sigma' = p (1 - p) once more. The p (1 - p) in the denominator of dL/dp has "
                "cancelled it already; that is the advantage of working with logits.",
            ),
            (right / (p * (1 - p)), "That is dL/dp. For the logits, multiply by dp/dl = sigma'(l) as well."),
            ((l - t) / l.size, "It compares the logits with the targets. The targets are compared with p = sigma(l)."),
        ],
    )
    large = np.array([[-1000.0, 1000.0]])
    if not np.allclose(answer.array(logits=large, targets=np.array([[0.0, 1.0]])), 0, atol=1e-9):
        raise WrongAnswer(
            "Right for small logits, wrong at -1000 and 1000, where the gradient is 0: an e^x overflows. "
            "Use sigmoid(), which is given."
        )


def grade_binarize(answer):
    for dtype in (np.float64, np.float32):
        half = dtype(0.5)
        a = np.array([[-2, 0, np.nextafter(half, dtype(0)), half], [np.nextafter(half, dtype(1)), 0.9, 1, 3]], dtype)
        b = answer.array(a=a)
        if b.dtype == bool:
            raise WrongAnswer(
                "It returned booleans. The decoder computes with the bits, and booleans do not add as "
                "numbers do: True + True is True. Convert them to a's dtype."
            )
        if np.issubdtype(b.dtype, np.integer):
            raise WrongAnswer(
                f"It returned integers ({b.dtype}). The decoder multiplies the bits by its weights, and "
                f"{b.dtype} times float32 is float64, not the model's dtype. Convert them to a's dtype."
            )
        if b.dtype != dtype:
            raise WrongAnswer(f"It returned {b.dtype} for a in {dtype.__name__}. The dtype is kept: float32 stays float32.")
        wanted = np.array([[0, 0, 0, 0], [1, 1, 1, 1]], dtype)
        if np.array_equal(b, wanted):
            continue
        _recognize(
            b,
            [
                (a >= 0.5, "At exactly 1/2 the bit is 0, and yours is 1: use > in place of >=."),
                (1 - wanted, "The bits are the wrong way round: 1 stands for a above 1/2."),
                (a > 0, "The threshold is 1/2, not 0: a = sigma(h) is above 0 whatever h is."),
                (2 * wanted - 1, "Those are -1 and +1. The bits are 0 and 1."),
                (np.round(a), "Rounding gives bits only for a between 0 and 1, and a may be any number. Compare with 1/2."),
            ],
        )
        wrong = tuple(np.argwhere(b != wanted)[0])
        raise WrongAnswer(f"For a = {float(a[wrong])!r} it gives {b[wrong]:g} instead of {wanted[wrong]:g}.")


FLAT = (
    "The threshold is flat, so finite differences of it give 0 except where their step crosses 1/2. 0 is the true "
    "derivative, and it is useless: the encoder would learn nothing. Finite differences of the threshold cannot tell "
    "a right STE from a wrong one either, since the STE is the derivative of another function: a + sg[b - a], where the "
    "bracket is a constant."
)


def grade_straight_through(answer):
    a, db = np.linspace(0.04, 0.97, 12).reshape(3, 4), _normal(3, 4, seed=4)
    bits, derivative = (a > 0.5).astype(a.dtype), a * (1 - a)

    claimed, stopped = answer.array(db=db, a=a, window=None), bits - a
    mistakes = [
        (np.zeros_like(db), f"It returned zeros. {FLAT}"),
        (np.ones_like(db), "The slope of the surrogate is 1, but by the chain rule da is that slope times db."),
        (db * bits, "It lets the gradient pass only where the bit is on. The surrogate has slope 1 for both bits."),
        (
            db * derivative,
            "It multiplies by sigma' = a (1 - a). That leads from a to h, which is exercise 6; here the "
            "gradient stops at a.",
        ),
        (-db, "The sign is wrong: a + sg[b - a] rises with a."),
        (db * a, "It multiplies by a. The surrogate a + sg[b - a] has slope 1 whatever a is."),
    ]
    blocked = (claimed == 0) & (db != 0)
    if blocked.any():  # Whatever else is wrong.
        mistakes.append(
            (claimed, f"With window None the gradient passes everywhere, and yours is 0 at a = {a[blocked][0]:.2f}. {FLAT}")
        )
    _check_gradient(lambda: np.vdot(db, a + stopped), a, claimed, mistakes)

    window = 0.2

    def surrogate():
        return np.vdot(db, a.clip(0.5 - window, 0.5 + window) + stopped)

    inside = np.abs(a - 0.5) <= window
    stopped = bits - a.clip(0.5 - window, 0.5 + window)
    _check_gradient(
        surrogate,
        a,
        answer.array(db=db, a=a, window=window),
        [
            (db, "Without a window it is right, with window=0.2 the window is ignored: clip is flat where |a - 1/2| > 0.2."),
            (db * (np.abs(a) <= window), "The window lies around 0. The threshold is at 1/2: compare |a - 1/2| with it."),
            (db * ~inside, "The window is inside out: clip has slope 1 near 1/2 and is flat far from it."),
            (
                db.clip(-window, window),
                "It clips the gradient. The window applies to a: the gradient passes where a is near 1/2.",
            ),
            (
                db * (np.abs(a - 0.5) <= window / 2),
                "The window is half as wide as it should be: it reaches from 1/2 - window to 1/2 + window.",
            ),
        ],
    )


def grade_commitment_loss_backward(answer):
    a, b = np.random.default_rng(5).random((3, 4)), (_normal(3, 4, seed=6) > 0).astype(float)
    right = 2 * (a - b) / a.size
    own = (a > 0.5).astype(float)
    _check_gradient(
        lambda: commitment_loss(a, b),
        a,
        answer.array(a=a, b=b),
        [
            (
                right * a.size,
                "The factor 1/size is missing: the loss is a mean. A sum would make the right weight depend on the "
                "size of the code and of the batch.",
            ),
            (right * a.shape[1], "It divides by N. The mean runs over all N * K elements: divide by size."),
            (right * len(a), "It divides by K. The mean runs over all N * K elements: divide by size."),
            (right / 2, "The factor 2 of the square is missing."),
            (
                -right,
                "The sign is wrong. 2 (b - a)/size is the gradient with respect to b, but the stop-gradient holds "
                "b constant; a step against it would push a away from its bit.",
            ),
            (np.zeros_like(a), "It returned zeros. The stop-gradient holds b constant, not a: the loss still depends on a."),
            (
                2 * (a - own) / a.size,
                "It computes the bits again. Use the argument b, which may differ because of noise.",
            ),
        ],
    )


def grade_commit_backward(answer):
    h, db, weight = _normal(3, 4, seed=7), _normal(3, 4, seed=8), 3.0
    a = sigmoid_forward(h)
    b = (a > 0.5).astype(float)
    stopped, derivative, commitment = b - a, a * (1 - a), 2 * (a - b) / a.size

    def objective():
        now = sigmoid_forward(h)
        return np.vdot(db, now + stopped) + weight * commitment_loss(now, b)

    _check_gradient(
        objective,
        h,
        answer.array(db=db, a=a, b=b, weight=weight),
        [
            (db + weight * commitment, "That is da. One step is missing to dh: a = sigma(h), so multiply by sigma'."),
            ((db + commitment) * derivative, "The weight is missing: the objective is L + weight * C."),
            (
                weight * (db + commitment) * derivative,
                "The weight multiplies both terms; it belongs to the commitment loss alone.",
            ),
            (db * derivative, "The commitment loss is missing: add weight times its gradient to da before going to h."),
            (weight * commitment * derivative, "The gradient of L is missing: with the STE it reaches a unchanged."),
            ((db - weight * commitment) * derivative, "The commitment gradient has the wrong sign: both terms are added."),
            (
                db * derivative + weight * commitment,
                "Only the STE's part is multiplied by sigma'. C depends on h through a as "
                "well: add first, then multiply the sum.",
            ),
            (
                db + weight * commitment * derivative,
                "Only C's part is multiplied by sigma'. The STE leads to a, not to h: add first, then multiply the sum.",
            ),
            (
                np.zeros_like(h),
                "It returned zeros. If you took sigma' at b: b (1 - b) is 0 for every bit; take it at a. If you "
                "used the derivative of the threshold: that is what the STE replaces.",
            ),
        ],
    )


def grade_flip_differences(answer):
    weights, targets = _normal(5, 6, seed=9), np.random.default_rng(10).random(6)
    b = np.array([1.0, 0.0, 1.0, 1.0, 0.0])

    def value(bits):
        return float(bce_with_logits(bits @ weights, targets))

    def loss(bits):
        bits = np.asarray(bits, float)
        if bits.shape != b.shape:
            raise WrongAnswer(f"It called loss with shape {bits.shape}. Call it with all {b.size} bits.")
        if not ((bits == 0) | (bits == 1)).all():
            raise WrongAnswer(
                f"It called loss with {bits[(bits != 0) & (bits != 1)][0]:g} for a bit. Steps between 0 and 1 "
                "measure a slope, which is what the STE uses; the flip difference is the whole jump."
            )
        return value(bits)

    def with_bit(k, bit, others):
        bits = others.copy()
        bits[k] = bit
        return bits

    def differences(others_of):
        return np.array([value(with_bit(k, 1, others_of(k))) - value(with_bit(k, 0, others_of(k))) for k in range(b.size)])

    def left_at(bit):
        return differences(lambda k: np.where(np.arange(b.size) < k, bit, b))

    right, got = differences(lambda k: b), answer.array(b=b, loss=loss)
    if np.allclose(got, right, rtol=1e-9, atol=1e-12):
        return
    _recognize(
        got,
        [
            (
                right * (1 - 2 * b),
                "It flips each bit from its current value: loss after minus loss before. D_k is on minus off, "
                "whatever the bit is now; only then can it be compared with the slope dL/db_k.",
            ),
            (-right, "The sign is wrong: D_k is the loss with the bit on minus the loss with the bit off."),
            (
                right * (1 - b),
                "Where the bit is on it gives 0: the second loss is the current one. Set the bit to 0 for it.",
            ),
            (right * b, "Where the bit is off it gives 0: the first loss is the current one. Set the bit to 1 for it."),
            (left_at(0), "Bits stay off once their turn is over. Everything else is held fixed: start from b for each k."),
            (left_at(1), "Bits stay on once their turn is over. Everything else is held fixed: start from b for each k."),
            (differences(lambda k: 0 * b), "It switches the other bits off. They stay as they are in b."),
        ],
    )
    k = int(np.argmax(~np.isclose(got, right)))
    raise WrongAnswer(f"For b = {b.astype(int)} it gives D_{k} = {got[k]:.6g} (k from 0) instead of {right[k]:.6g}.")


# slope_off, slope_on, difference, interval. One bit, cross-entropy; the last row is a loss that is not convex.
INTERVALS = (
    (-1.123, 1.923, 0.400, (1.123, 1.923)),  # logit 4b - 2, target 0.4
    (-1.923, 1.123, -0.400, (1.123, 1.923)),  # logit 4b - 2, target 0.6
    (0.077, 3.123, 1.600, (0, 3.123)),  # logit 4b - 2, target 0.1
    (-3.123, -0.077, -1.600, (0, 3.123)),  # logit 4b - 2, target 0.9
    (-2.586, 1.760, 0.493, None),  # logit 6b - 1, target 0.7
    (-1.760, 2.586, -0.493, None),  # logit 6b - 5, target 0.3
    (0.3, -0.2, 0.1, None),
)


def is_stable(bit, slope, weight, steps=1000):
    """Whether gradient steps from a = bit leave the bit as it is: the definition in exercise 8, step by step."""
    a, rate = float(bit), 0.1 / (1 + weight)
    for _ in range(steps):
        a -= rate * (slope + 2 * weight * (a - bit))
        if (a > 0.5) != bit:
            return False
    return True


def grade_stable_interval(answer):
    for slope_off, slope_on, difference, right in INTERVALS:
        got = answer(slope_off=slope_off, slope_on=slope_on, difference=difference)
        given = f"stable_interval({slope_off:g}, {slope_on:g}, {difference:g})"
        if got is not None:
            try:
                got = np.array(got, float)
            except (TypeError, ValueError):
                got = np.array(np.nan)
            if got.shape != (2,) or not np.isfinite(got).all():
                raise WrongAnswer(f"{given} must return a pair of numbers (low, high), or None if there is no such weight.")
        if got is None and right is None or got is not None and right is not None and np.allclose(got, right, atol=1e-9):
            continue
        raise WrongAnswer(_why_not(got, right, slope_off, slope_on, difference, given))


def _why_not(got, right, slope_off, slope_on, difference, given):
    """Return the message that explains why the interval `got` is wrong."""

    def seen(weight):
        """Return a sentence on which states gradient steps show to be stable at this weight."""
        off, on = (
            "stable" if is_stable(bit, slope, weight) else "not stable" for bit, slope in enumerate((slope_off, slope_on))
        )
        return (
            f"At weight {weight:.3f} the off state is {off} and the on state is {on}, and "
            f"{'off' if difference > 0 else 'on'} is right."
        )

    if got is None:
        return f"{given} returned None, but there are such weights. {seen(sum(right) / 2)}"
    low, high = got
    returned = f"{given} returned ({low:g}, {high:g})."
    if min(got) < 0:
        return (
            f"{returned} A weight is never below 0. Mind the signs: a negative slope_off pulls a up, towards 1/2, and a "
            "positive slope_on pulls it down. A slope of the other sign keeps its state stable without any weight."
        )
    if right is None and low >= high:
        return f"{returned} Nothing lies between them: no weight makes the right state alone stable. Return None."
    if right is None:
        return (
            f"{returned} {seen((low + high) / 2)} The sign of the difference says which state is right, the slopes say "
            "which one is stable. Here no weight makes the right one alone stable: None."
        )
    if np.allclose((high, low), right, atol=1e-9) and difference > 0:
        return f"{returned} The ends are swapped: low comes first."
    if np.allclose((high, low), right, atol=1e-9):
        return (
            f"{returned} The difference is below 0, so here on is the right state. low is the weight above which the "
            "right state is stable, high the one above which the wrong state is."
        )
    for factor, size in ((0.5, "half"), (2, "twice")):
        if np.allclose(got, np.multiply(right, factor), atol=1e-9):
            return (
                f"{returned} Both ends are {size} what they should be. The gradient is 0 at a distance of |slope|/(2w) "
                "from the bit, and that distance has to be less than 1/2."
            )
    if right[0] == 0 < low:
        return f"{returned} The right state's slope pushes a away from 1/2, so no weight is needed: low is 0. {seen(0)}"
    end = 1 if np.isclose(low, right[0]) else 0
    return f"{returned} {seen((got[end] + right[end]) / 2)}"


EXERCISES = (
    Exercise(
        "sigmoid_backward",
        "da, a",
        "the derivative of the logistic function, from its value",
        grade_sigmoid_backward,
        "write sigma'(h) in terms of a = sigma(h), then apply the chain rule.",
        "e^-h (1 + e^-h)^-2 is a product of two factors: (1 + e^-h)^-1, which is a, and e^-h (1 + e^-h)^-1, which is "
        "1 minus something you know.",
        "sigma' is at most 1/4 and nearly 0 where a is close to 0 or 1: a saturated activation hardly moves any more.",
    ),
    Exercise(
        "bce_with_logits_backward",
        "logits, targets",
        "the gradient of the cross-entropy with respect to logits",
        grade_bce_with_logits_backward,
        "the gradient of one element's loss first, then the mean.",
        "With log p = l - log(1 + e^l) and log(1 - p) = -log(1 + e^l), an element's loss is log(1 + e^l) - t l. The "
        "derivative of log(1 + e^l) is sigma(l).",
        "The gradient is the error p - t, times each element's share of the mean. It never vanishes where p is wrong.",
    ),
    Exercise(
        "binarize",
        "a",
        "the threshold",
        grade_binarize,
        "compare a with 1/2, then turn the mask into numbers.",
        "`a > 0.5` is an array of booleans; `.astype(...)` converts it. a.dtype is the dtype to convert to.",
        "The bits are what the decoder sees. The function is flat on both sides of its jump; see exercise 4.",
    ),
    Exercise(
        "straight_through",
        "db, a, window=None",
        "the straight-through estimator, with and without a window",
        grade_straight_through,
        "without the window: what is the derivative of a + constant?",
        "Without a window the slope is 1 everywhere. clip(a, low, high) has slope 1 between low and high and "
        "0 outside; low and high are 1/2 - window and 1/2 + window. Multiply by an array of booleans to mask.",
        "This is the surrogate's gradient. The threshold's is 0, and so are its finite differences: no gradient check "
        "of the threshold can confirm the STE.",
    ),
    Exercise(
        "commitment_loss_backward",
        "a, b",
        "the gradient of the commitment loss",
        grade_commitment_loss_backward,
        "treat b as a constant and differentiate the mean of (b - a)^2 with respect to a.",
        "d/da (b - a)^2 = -2 (b - a). The mean divides by a.size, the number of all elements.",
        "A step against this gradient pulls a towards the bit that it already is, whether that bit is right or wrong.",
    ),
    Exercise(
        "commit_backward",
        "db, a, b, weight",
        "from the decoder's gradient to the encoder's: all of it together",
        grade_commit_backward,
        "write down da = (the STE's part) + weight * (the commitment loss's part).",
        "Three of your functions, in this order: straight_through(db, a), commitment_loss_backward(a, b), and for the "
        "sum of the two terms sigmoid_backward(..., a).",
        "This is the whole method: class Commit in tinyqae/bottlenecks/report.py does the same.",
    ),
    Exercise(
        "flip_differences",
        "b, loss",
        "what each bit is really worth",
        grade_flip_differences,
        "a loop over k; in it two copies of b, one with b[k] = 1 and one with b[k] = 0.",
        "on = b.copy(); on[k] = 1; off = b.copy(); off[k] = 0. D[k] is the difference of two losses, in this order.",
        "The STE uses the slope dL/db at the current bit in place of D. It helps where the two have the same sign.",
    ),
    Exercise(
        "stable_interval",
        "slope_off, slope_on, difference",
        "the commitment weights that keep only the right bit",
        grade_stable_interval,
        "find the a at which the gradient of the off state is 0. For which w is it below 1/2?",
        "Off: slope_off + 2 w a = 0 at a = -slope_off/(2w), below 1/2 if w > -slope_off; for a slope_off of 0 or more, "
        "every w works. Work out the on state in the same way. Then `difference` says which of the two thresholds "
        "is low and which is high, and low must be less than high.",
        "Below both thresholds a bit oscillates, above both it freezes. Training sees the slopes only, and there are "
        "losses for which no weight selects the right state. If L is a convex quadratic in b, one always does: D is "
        "the mean of the two slopes.",
    ),
)


# ---- the command line -----------------------------------------------------------------------------------------------


def main(functions):
    """Run the command line. functions: the names defined in the student's file, a dict."""
    sys.exit(run_main(lambda: _run(_parse_arguments(), functions)))


def _parse_arguments():
    parser = OneLineParser(description="Lists the exercises; `check` grades them, `hint` helps with one.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=OneLineParser)
    check = commands.add_parser("check", help="grade one exercise, or all")
    check.add_argument("number", type=_number, nargs="?", metavar="NUMBER", help="1 to 8; default: all")
    hint = commands.add_parser("hint", help="a hint beyond the docstring")
    hint.add_argument("number", type=_number, metavar="NUMBER", help="1 to 8")
    return parser.parse_args()


def _number(text):
    """An argparse type: the number of an exercise."""
    if text not in [str(number) for number in range(1, len(EXERCISES) + 1)]:
        raise argparse.ArgumentTypeError(f"{text!r} is not the number of an exercise, 1 to {len(EXERCISES)}")
    return int(text)


def _run(args, functions):
    """Do what the command line asks; return the exit code."""
    if args.command == "hint":
        print(_wrapped(EXERCISES[args.number - 1].hint))
        return 0
    if args.command == "check":
        numbers = [args.number] if args.number else range(1, len(EXERCISES) + 1)
        verdicts = [grade(number, functions) for number in numbers]
        for number, verdict in zip(numbers, verdicts, strict=True):
            print(_wrapped(f"{number} {EXERCISES[number - 1].name}: {verdict.state}. {verdict.message}"))
        return 0 if all(verdict.state == PASSED for verdict in verdicts) else 1
    _print_list([grade(number, functions) for number in range(1, len(EXERCISES) + 1)])
    return 0


def _print_list(verdicts):
    tick = "✓" if "utf" in (sys.stdout.encoding or "").lower() else "x"
    for number, (exercise, verdict) in enumerate(zip(EXERCISES, verdicts, strict=True), 1):
        mark, note = (tick, "") if verdict.state == PASSED else (" ", f"  ({WRONG})" if verdict.state == WRONG else "")
        print(f"[{mark}] {number}  {exercise.name:26}{exercise.task}{note}")
    following = next((number for number, verdict in enumerate(verdicts, 1) if verdict.state != PASSED), None)
    if following is None:
        print("\nAll solved. Next: python examples/mnist_mlp.py --quant commit, which trains with these functions.")
    else:
        verdict = verdicts[following - 1]
        print("\n" + _wrapped(f"Next: exercise {following}, {verdict.state}. {verdict.message}"))
        print(f"Then: python examples/exercises.py check {following}")


def _wrapped(text):
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)
