"""examples/exercises.py and its graders: right answers pass, typical wrong ones are refused with the message meant for them.

THE SOLUTIONS ARE IN THIS FILE.
"""

import importlib.util
import inspect
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_arrays import normal

from tinyqae import Commit, MLPAutoencoder, losses, synthetic_digits
from tinyqae.gradients import flip_differences as flip_differences_of_a_model
from tinyqae.ops import activations
from tinyqae.ops import binarize as ops

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name):
    """A module from examples/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


graders, exercises = load("exercise_graders"), load("exercises")
sigmoid = exercises.sigmoid


# ---- the solutions --------------------------------------------------------------------------------------------------


def sigmoid_backward(da, a):
    return da * a * (1 - a)


def bce_with_logits_backward(logits, targets):
    return (sigmoid(logits) - targets) / logits.size


def binarize(a):
    return (a > 0.5).astype(a.dtype)


def straight_through(db, a, window=None):
    return db if window is None else db * (np.abs(a - 0.5) <= window)


def commitment_loss_backward(a, b):
    return 2 * (a - b) / a.size


def commit_backward(db, a, b, weight):
    da = straight_through(db, a) + weight * commitment_loss_backward(a, b)
    return sigmoid_backward(da, a)


def flip_differences(b, loss):
    differences = np.empty(b.size)
    for k in range(b.size):
        on, off = b.copy(), b.copy()
        on[k], off[k] = 1, 0
        differences[k] = loss(on) - loss(off)
    return differences


def stable_interval(slope_off, slope_on, difference):
    off, on = max(0, -slope_off), max(0, slope_on)  # Above these weights the states are stable.
    low, high = (off, on) if difference > 0 else (on, off)
    return (low, high) if low < high else None


SOLUTIONS = {
    function.__name__: function
    for function in (
        sigmoid_backward,
        bce_with_logits_backward,
        binarize,
        straight_through,
        commitment_loss_backward,
        commit_backward,
        flip_differences,
        stable_interval,
    )
}
EVERY_EXERCISE = pytest.mark.parametrize("number", range(1, 9))


def test_each_exercise_has_a_function_to_fill_in_and_a_solution_with_the_same_arguments():
    assert [exercise.name for exercise in graders.EXERCISES] == list(SOLUTIONS)
    for exercise in graders.EXERCISES:
        signature = inspect.signature(getattr(exercises, exercise.name))
        assert f"({exercise.arguments})" == str(signature) == str(inspect.signature(SOLUTIONS[exercise.name]))


@EVERY_EXERCISE
def test_a_right_answer_is_accepted_and_told_what_was_learned(number):
    assert graders.grade(number, SOLUTIONS) == graders.Verdict("passed", graders.EXERCISES[number - 1].learned)


@pytest.mark.parametrize(
    ("number", "other"),
    [
        (1, lambda da, a: da * (a - a * a)),
        (
            2,
            lambda logits, targets: (1 / (1 + np.exp(-logits)) - targets) / np.prod(logits.shape),
        ),  # Overflows, and is right.
        (3, lambda a: np.where(a > 0.5, np.ones_like(a), np.zeros_like(a))),
        (4, lambda db, a, window=None: np.where(np.abs(a - 0.5) < (window or np.inf), db, 0)),
        (5, lambda a, b: -2 * (b - a) / (a.shape[0] * a.shape[1])),
        (6, lambda db, a, b, weight: a * (1 - a) * (db + 2 * weight / a.size * (a - b))),
        (7, lambda b, loss: np.array([loss(np.where(row, 1, b)) - loss(np.where(row, 0, b)) for row in np.eye(b.size)])),
        (
            8,
            lambda off, on, d: (lambda ends: list(ends) if ends[0] < ends[1] else None)(
                (max(-off, 0), max(on, 0))[:: 1 if d > 0 else -1]
            ),
        ),
    ],
)
def test_a_right_answer_in_other_words_is_accepted(number, other):
    assert graders.grade(number, {**SOLUTIONS, graders.EXERCISES[number - 1].name: other}).state == "passed"


# ---- the solutions are the library's functions ----------------------------------------------------------------------


def test_the_functions_of_the_backward_pass_are_those_of_tinyqae():
    h, db, t = 2 * normal(5, 7), normal(5, 7, seed=1), np.abs(normal(5, 7, seed=2)).clip(0, 1)
    a = activations.sigmoid_forward(h)
    b = ops.binarize(a)
    np.testing.assert_array_equal(sigmoid(h), a)
    np.testing.assert_array_equal(sigmoid_backward(db, a), activations.sigmoid_backward(db, a))
    np.testing.assert_array_equal(bce_with_logits_backward(h, t), losses.bce_with_logits_backward(h, t))
    np.testing.assert_array_equal(binarize(a), b)
    for window in (None, 0.1):
        np.testing.assert_array_equal(straight_through(db, a, window), ops.straight_through(db, a, window))
    np.testing.assert_array_equal(commitment_loss_backward(a, b), losses.commitment_loss_backward(a, b))
    bottleneck = Commit(weight=0.7)
    np.testing.assert_array_equal(bottleneck.forward(h), b)
    np.testing.assert_array_equal(commit_backward(db, a, b, 0.7), bottleneck.backward(db))


def test_flip_differences_are_those_of_a_model(plain_engine):
    model = MLPAutoencoder(Commit(), (6,), seed=3, dtype=np.float64)
    x = synthetic_digits(train=1, test=1, seed=0).train_images / 255
    (b,) = ops.binarize(model.bottleneck.latent(model.encoder.forward(x.reshape(1, -1))))

    def loss(bits):
        return losses.bce_with_logits(model.decode_logits(bits[None]), x.reshape(1, -1))

    np.testing.assert_allclose(flip_differences(b, loss), flip_differences_of_a_model(model, x)[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("row", "scale", "offset", "target"),
    [
        (0, 4, -2, 0.4),
        (1, 4, -2, 0.6),
        (2, 4, -2, 0.1),
        (3, 4, -2, 0.9),
        (4, 6, -1, 0.7),
        (5, 6, -5, 0.3),
    ],
)
def test_the_slopes_and_differences_of_exercise_8_are_those_of_the_cross_entropy(row, scale, offset, target):
    def loss_and_slope(b):
        logit, t = np.array([[scale * b + offset]], float), np.array([[target]])
        return losses.bce_with_logits(logit, t), scale * losses.bce_with_logits_backward(logit, t)[0, 0]

    (off, slope_off), (on, slope_on) = loss_and_slope(0), loss_and_slope(1)
    np.testing.assert_allclose(graders.INTERVALS[row][:3], (slope_off, slope_on, on - off), atol=6e-4)


def test_gradient_steps_bear_out_the_intervals():
    """With weights just inside the interval the right state alone is stable, just outside it is not; or never, if None."""
    for slope_off, slope_on, difference, interval in graders.INTERVALS:
        right = int(difference < 0)
        slopes = (slope_off, slope_on)

        def only_the_right_one(weight, right=right, slopes=slopes):
            return [graders.is_stable(bit, slopes[bit], weight) for bit in (right, 1 - right)] == [True, False]

        if interval is None:
            assert not any(only_the_right_one(weight) for weight in np.linspace(0, 4, 41))
            continue
        low, high = interval
        assert only_the_right_one(1.02 * low + 0.001) and only_the_right_one(0.98 * high)
        assert not only_the_right_one(1.02 * high)
        assert only_the_right_one(0) if low == 0 else not only_the_right_one(0.98 * low)


# ---- wrong answers --------------------------------------------------------------------------------------------------


def refuse_each(number, *answers):
    """Parameters for the test below: pairs (answer, a part of the message that it gets)."""
    return [pytest.param(number, answer, message, id=f"{number}-{message}") for answer, message in answers]


def numeric_derivative_of_the_threshold(step):
    def answer(db, a, window=None):
        return db * (binarize(a + step) - binarize(a - step)) / (2 * step)

    return answer


def writes_into_da(da, a):
    da *= a * (1 - a)
    return da


def writes_into_a(a):
    a[:] = a > 0.5
    return a


def in_place(first, last, copied):
    """Flip differences with bits that keep the value they had last."""

    def answer(b, loss):
        bits, differences = b.copy() if copied else b, np.empty(b.size)
        for k in range(b.size):
            values = {}
            for bits[k] in (first, last):
                values[bits[k]] = loss(bits)
            differences[k] = values[1] - values[0]
        return differences

    return answer


def differences_of(pair):
    """Flip differences from pair(b, k), the two vectors whose losses are subtracted."""

    def answer(b, loss):
        return np.array([loss(x) - loss(y) for x, y in (pair(b, k) for k in range(b.size))])

    return answer


def put(b, k, value):
    return np.where(np.arange(b.size) == k, value, b)


def signs_ignored(slope_off, slope_on, difference):
    return tuple(sorted((abs(slope_off), abs(slope_on))))


def difference_ignored(slope_off, slope_on, difference):
    return max(0, -slope_off), max(0, slope_on)


def scaled(factor):
    def answer(*arguments):
        right = stable_interval(*arguments)
        return right and tuple(factor * end for end in right)

    return answer


def changed(change):
    """The right interval, changed where there is one."""
    return lambda *arguments: (right := stable_interval(*arguments)) and change(*right)


@pytest.mark.parametrize(
    ("number", "answer", "message"),
    [
        *refuse_each(
            1,
            (lambda da, a: a * (1 - a), "That is sigma' alone"),
            (lambda da, a: da * sigmoid(a) * (1 - sigmoid(a)), "It applies sigma a second time"),
            (lambda da, a: da * a * (a - 1), "The sign is wrong: sigma rises everywhere"),
            (lambda da, a: da * a, "which is a times something else"),
            (lambda da, a: da * (1 - a), "derivative of log sigma"),
            (lambda da, a: da * (1 - a**2), "derivative of tanh"),
            (lambda da, a: da, "as if sigma were the identity"),
            (lambda da, a: 3 * da, "The gradient check fails: gradient of coordinate"),
            (lambda da, a: da * np.nan, "claimed nan"),
            (lambda da, a: da.astype(str), "It returned an array of <U"),
            (lambda da, a: None, "is the `return` missing?"),
            (lambda da, a: (da * a * (1 - a)).sum(), "It returned a float64: return one array of the shape of da"),
            (lambda da, a: (da * a * (1 - a)).sum(axis=0), r"It returned shape \(4,\): return one array of the shape of da"),
            (writes_into_da, "It wrote into its argument da"),
        ),
        *refuse_each(
            2,
            (lambda l, t: sigmoid(l) - t, "The factor 1/size is missing"),
            (lambda l, t: (sigmoid(l) - t) / len(l), "It divides by N"),
            (lambda l, t: (sigmoid(l) - t) / l.shape[1], "It divides by D"),
            (lambda l, t: (t - sigmoid(l)) / l.size, "The sign is wrong: where p is above the target"),
            (lambda l, t: sigmoid_backward(sigmoid(l) - t, sigmoid(l)) / l.size, "It multiplies by sigma' = p"),
            (lambda l, t: (sigmoid(l) - t) / (sigmoid(l) * (1 - sigmoid(l))) / l.size, "That is dL/dp"),
            (lambda l, t: (l - t) / l.size, "It compares the logits with the targets"),
            (lambda l, t: (np.exp(l) / (1 + np.exp(l)) - t) / l.size, "an e.x overflows"),
            (lambda l, t: 0 * l, "The gradient check fails"),
        ),
        *refuse_each(
            3,
            (lambda a: (a >= 0.5).astype(a.dtype), "use > in place of >="),
            (lambda a: a > 0.5, "It returned booleans"),
            (lambda a: (a > 0.5).astype(int), r"It returned integers \(int64\)"),
            (lambda a: (a > 0.5).astype(float), "It returned float64 for a in float32"),
            (lambda a: (a <= 0.5).astype(a.dtype), "the wrong way round"),
            (lambda a: (a > 0).astype(a.dtype), "The threshold is 1/2, not 0"),
            (np.sign, "defines no function binarize"),
            (lambda a: np.sign(a - 0.5 - 1e-12), "For a = .* it gives -1 instead of 0"),
            (lambda a: 2 * (a > 0.5).astype(a.dtype) - 1, "Those are -1 and .1"),
            (lambda a: np.round(a), "Rounding gives bits only for a between 0 and 1"),
            (writes_into_a, "It wrote into its argument a"),
        ),
        *refuse_each(
            4,
            (numeric_derivative_of_the_threshold(1e-5), "It returned zeros.*finite differences of it give 0"),
            (
                numeric_derivative_of_the_threshold(0.1),
                "passes everywhere, and yours is 0 at a = 0.04. The threshold is flat",
            ),
            (lambda db, a, window=None: np.zeros_like(db), "0 is the true derivative, and it is useless"),
            (lambda db, a, window=None: np.ones_like(db), "by the chain rule da is that slope times db"),
            (lambda db, a, window=None: db * binarize(a), "only where the bit is on"),
            (lambda db, a, window=None: sigmoid_backward(db, a), "That leads from a to h, which is exercise 6"),
            (lambda db, a, window=None: -db, "The sign is wrong: a"),
            (lambda db, a, window=None: db * a, "It multiplies by a"),
            (lambda db, a, window=None: db, "the window is ignored"),
            (lambda db, a, window=None: db if window is None else db * (np.abs(a) <= window), "The window lies around 0"),
            (
                lambda db, a, window=None: db if window is None else db * (np.abs(a - 0.5) > window),
                "The window is inside out",
            ),
            (lambda db, a, window=None: db if window is None else db.clip(-window, window), "It clips the gradient"),
            (lambda db, a, window=None: straight_through(db, a, window and window / 2), "The window is half as wide"),
        ),
        *refuse_each(
            5,
            (lambda a, b: 2 * (a - b), "The factor 1/size is missing"),
            (lambda a, b: 2 * (a - b) / len(a), "It divides by N"),
            (lambda a, b: 2 * (a - b) / a.shape[1], "It divides by K"),
            (lambda a, b: (a - b) / a.size, "The factor 2"),
            (lambda a, b: 2 * (b - a) / a.size, "the gradient with respect to b, but the stop-gradient holds b constant"),
            (lambda a, b: 0 * a, "The stop-gradient holds b constant, not a"),
            (lambda a, b: 2 * (a - binarize(a)) / a.size, "It computes the bits again"),
            (lambda a, b: (2 * (a - b) / a.size, 2 * (b - a) / a.size), "It returned a tuple: return one array"),
        ),
        *refuse_each(
            6,
            (lambda db, a, b, w: db + w * commitment_loss_backward(a, b), "That is da"),
            (lambda db, a, b, w: commit_backward(db, a, b, 1), "The weight is missing"),
            (lambda db, a, b, w: w * commit_backward(db, a, b, 1), "The weight multiplies both terms"),
            (lambda db, a, b, w: sigmoid_backward(db, a), "The commitment loss is missing"),
            (lambda db, a, b, w: commit_backward(0 * db, a, b, w), "The gradient of L is missing"),
            (lambda db, a, b, w: commit_backward(db, a, b, -w), "The commitment gradient has the wrong sign"),
            (lambda db, a, b, w: sigmoid_backward(db, a) + w * commitment_loss_backward(a, b), "Only the STE's part"),
            (lambda db, a, b, w: db + sigmoid_backward(w * commitment_loss_backward(a, b), a), "Only C's part"),
            (
                lambda db, a, b, w: sigmoid_backward(db + w * commitment_loss_backward(a, b), b),
                "is 0 for every bit; take it",
            ),
        ),
        *refuse_each(
            7,
            (differences_of(lambda b, k: (put(b, k, 1 - b[k]), b)), "It flips each bit from its current value"),
            (differences_of(lambda b, k: (put(b, k, 0), put(b, k, 1))), "The sign is wrong: D_k"),
            (differences_of(lambda b, k: (put(b, k, 1), b)), "Where the bit is on it gives 0"),
            (differences_of(lambda b, k: (b, put(b, k, 0))), "Where the bit is off it gives 0"),
            (differences_of(lambda b, k: (put(0 * b, k, 1), 0 * b)), "It switches the other bits off"),
            (differences_of(lambda b, k: (put(b, k, b[k] + 0.01), b)), "It called loss with 1.01 for a bit"),
            (differences_of(lambda b, k: (put(b, k, 1)[k:], b)), r"It called loss with shape \(4,\)"),
            (in_place(1, 0, copied=True), "Bits stay off"),
            (in_place(0, 1, copied=True), "Bits stay on"),
            (in_place(1, 0, copied=False), "It wrote into its argument b"),
            (lambda b, loss: 2 * flip_differences(b, loss), r"it gives D_0 = .* instead of"),
        ),
        *refuse_each(
            8,
            (changed(lambda low, high: (high, low)), "The ends are swapped"),
            (difference_ignored, "The difference is below 0, so here on is the right state"),
            (lambda off, on, d: (off, on), "A weight is never below 0. Mind the signs"),
            (scaled(0.5), "Both ends are half what they should be"),
            (scaled(2), "Both ends are twice what they should be"),
            (signs_ignored, "so no weight is needed: low is 0. At weight 0.000 the off state is stable"),
            (
                lambda *slopes: difference_ignored(*slopes)[:: 1 if slopes[2] > 0 else -1],
                "Nothing lies between them: no weight makes the right state alone stable",
            ),
            (
                lambda off, on, d: stable_interval(off, on, d) or signs_ignored(off, on, d),
                "At weight 2.173 the off state is not stable and the on state is stable, and off is right. The sign of",
            ),
            (
                lambda *slopes: None,
                "At weight 1.523 the off state is stable and the on state is not stable, and off is right",
            ),
            (
                changed(lambda low, high: (low, 2 * high)),
                "At weight 2.885 the off state is stable and the on state is stable",
            ),
            (
                changed(lambda low, high: (low / 3, high)),
                "At weight 0.749 the off state is not stable and the on state is not",
            ),
            (changed(lambda low, high: (low, np.inf)), "must return a pair of numbers"),
            (lambda off, on, d: on, "must return a pair of numbers"),
            (lambda *slopes: "ab", "must return a pair of numbers"),
        ),
    ],
)
def test_a_wrong_answer_is_refused_with_the_message_meant_for_it(number, answer, message):
    verdict = graders.grade(number, {**SOLUTIONS, graders.EXERCISES[number - 1].name: answer})
    assert verdict.state == "not right yet"
    assert re.search(message, verdict.message)


# ---- blanks and exceptions ------------------------------------------------------------------------------------------


@EVERY_EXERCISE
def test_a_blank_says_where_to_start(number):
    exercise = graders.EXERCISES[number - 1]
    verdict = graders.grade(number, vars(exercises))
    assert verdict.state == "not done yet"
    lines = (EXAMPLES / "exercises.py").read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if text.startswith(f"def {exercise.name}("))
    assert verdict.message == f"Start at line {line} of exercises.py: {exercise.start}"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda da, a: da * y * (1 - y), "It uses a name that is not defined.*NameError: name 'y' is not defined"),  # noqa: F821
        (lambda da, a: da * np.ones(3), "The shapes of two arrays do not fit together.*ValueError: operands could"),
        (lambda da, a: da.T @ a.T, "The shapes of two arrays do not fit together.*ValueError: matmul"),
        (lambda da, a: da * None, "An operation got an operand of a type.*TypeError"),
        (lambda da, a: da[7], "The line failed.*IndexError"),
    ],
)
def test_an_exception_is_told_in_words_with_its_line(answer, message):
    verdict = graders.grade(1, {"sigmoid_backward": answer})
    assert verdict.state == "not right yet"
    line = answer.__code__.co_firstlineno
    assert re.match(f"It stopped at line {line} of your file, in <lambda>: `.*lambda da, a: .*{message}", verdict.message)


def test_a_function_that_calls_itself_for_ever_is_told_so():
    def sigmoid_backward(da, a):
        return sigmoid_backward(da, a)

    assert "keeps calling itself" in graders.grade(1, {"sigmoid_backward": sigmoid_backward}).message


def test_other_arguments_and_a_lost_function_are_told_in_words():
    assert "It cannot be called with (da, a)" in graders.grade(1, {"sigmoid_backward": lambda a: a}).message
    assert "write it as `def binarize(a):`" in graders.grade(3, {}).message


# ---- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in a copy with these exercises solved or this code written: (exit code, output, errors)."""
    monkeypatch.syspath_prepend(EXAMPLES)
    text, end = (EXAMPLES / "exercises.py").read_text(), "if __name__"

    def call(*arguments, solved=(), written=""):
        answers = "\n\n".join([*(inspect.getsource(SOLUTIONS[name]) for name in solved), written])
        path = tmp_path / "exercises.py"
        path.write_text(text.replace(end, f"{answers}\n\n{end}"))
        monkeypatch.setattr(sys, "argv", [path.name, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(path), run_name="__main__")
        return stopped.value.code, *capsys.readouterr()

    return call


def test_the_list_ticks_what_is_solved_marks_what_is_wrong_and_names_the_next(run):
    wrong = "def commitment_loss_backward(a, b):\n    return 2 * (a - b)"
    code, out, _ = run(solved=["sigmoid_backward", "binarize"], written=wrong)
    rows = [line for line in out.splitlines() if line.startswith("[")]
    assert code == 0 and [row[:5] for row in rows] == [
        "[✓] 1",
        "[ ] 2",
        "[✓] 3",
        "[ ] 4",
        "[ ] 5",
        "[ ] 6",
        "[ ] 7",
        "[ ] 8",
    ]
    assert [row[7:].split()[0] for row in rows] == list(SOLUTIONS)
    assert [row.endswith("(not right yet)") for row in rows] == [row[4] == "5" for row in rows]
    assert "Next: exercise 2, not done yet. Start at line " in out and out.endswith("python examples/exercises.py check 2\n")


def test_the_list_of_all_solved_says_how_to_go_on(run):
    code, out, _ = run(solved=SOLUTIONS)
    assert code == 0 and out.count("[✓]") == 8 and "All solved. Next: python examples/mnist_mlp.py" in out


@EVERY_EXERCISE
def test_check_grades_one(number, run):
    name = list(SOLUTIONS)[number - 1]
    code, out, _ = run("check", number)
    assert code == 1 and out.startswith(f"{number} {name}: not done yet. Start at line ")
    code, out, _ = run("check", number, solved=SOLUTIONS)
    assert code == 0 and out.startswith(f"{number} {name}: passed. ")


def test_check_says_why_an_answer_is_wrong_and_in_which_line_it_stopped(run):
    code, out, _ = run("check", 3, written="def binarize(a):\n    return (a >= 0.5).astype(a.dtype)")
    assert code == 1
    assert out == "3 binarize: not right yet. At exactly 1/2 the bit is 0, and yours is 1: use > in place of >=.\n"
    code, out, _ = run("check", 3, written="def binarize(a):\n    return aa > 0.5")
    assert code == 1 and "of your file, in binarize: `return aa > 0.5`." in " ".join(out.split())


def test_an_answer_that_needs_another_exercise_says_which(run):
    code, out, _ = run("check", 6, solved=["straight_through", "commitment_loss_backward", "commit_backward"])
    assert code == 1 and "It calls sigmoid_backward, exercise 1, which is not done yet." in " ".join(out.split())


def test_check_alone_grades_all(run):
    code, out, _ = run("check", solved=list(SOLUTIONS)[:7])
    assert code == 1 and out.count(": passed.") == 7 and "8 stable_interval: not done yet." in out
    code, out, _ = run("check", solved=SOLUTIONS)
    assert code == 0 and out.count(": passed.") == 8


@EVERY_EXERCISE
def test_a_hint_says_more_than_the_docstring(number, run):
    code, out, _ = run("hint", number)
    exercise = graders.EXERCISES[number - 1]
    assert code == 0 and out.split() == exercise.hint.split()
    assert exercise.hint not in getattr(exercises, exercise.name).__doc__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", 0], "argument NUMBER: '0' is not the number of an exercise, 1 to 8"),
        (["check", 9], "argument NUMBER: '9' is not the number of an exercise, 1 to 8"),
        (["hint", "STE"], "argument NUMBER: 'STE' is not the number of an exercise, 1 to 8"),
        (["hint"], "the following arguments are required: NUMBER"),
        (["grade", 3], "argument COMMAND: invalid choice: 'grade'"),
    ],
)
def test_bad_usage_is_one_line(arguments, message, run):
    code, out, error = run(*arguments)
    (line,) = error.splitlines()
    assert code == 2 and out == "" and line.startswith(f"error: {message}")


def test_it_runs_as_a_program_on_a_terminal_without_unicode():
    done = subprocess.run(
        [sys.executable, EXAMPLES / "exercises.py"],
        capture_output=True,
        encoding="ascii",
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("[ ] 1  sigmoid_backward ")
