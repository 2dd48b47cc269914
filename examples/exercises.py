"""Exercises: eight functions to fill in, from the derivative of the logistic function to the right commitment weight.

    python examples/exercises.py             the list: what is solved and what comes next
    python examples/exercises.py check 3     grade exercise 3; without a number, all of them
    python examples/exercises.py hint 3      a hint beyond the docstring

Replace each `raise NotImplementedError` in this file. Most answers are one line of NumPy. Exercises 1 to 6 are the backward
pass of an autoencoder with bits in the middle; 7 and 8 show what it gets wrong, and what the commitment loss does about it.

    h      the encoder's output                      L       the loss
    a      sigma(h), the activation                  dx      the gradient dL/dx, an array of x's shape
    b      1[a > 1/2], the bits                      size    the number of elements of an array: x.size
    sg[x]  stop-gradient: the value of x, but a constant when derivatives are taken

Return new arrays; do not write into the arguments.
"""

import numpy as np


def sigmoid(x):
    """sigma(x) = 1 / (1 + e^-x), already written, with tanh so that it does not overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


# ---- 1 --------------------------------------------------------------------------------------------------------------


def sigmoid_backward(da, a):
    """The gradient at the input of the logistic function.

    a = sigma(h), da (N, K) -> dh (N, K). Chain rule: dh = da * sigma'(h). You are given a, not h:
    write sigma' in terms of a.
    Hint: differentiate (1 + e^-h)^-1 and look for a and 1 - a in what you get.
    """
    raise NotImplementedError


# ---- 2 --------------------------------------------------------------------------------------------------------------


def bce_with_logits_backward(logits, targets):
    """The gradient of the mean binary cross-entropy with respect to the logits.

    L = mean of -t log p - (1 - t) log(1 - p), with p = sigma(l), logits l (N, D), targets t (N, D) in [0, 1] -> dl (N, D).
    Hint: log p = -log(1 + e^-l). Almost everything cancels. The mean runs over all N * D elements.
    """
    raise NotImplementedError


# ---- 3 --------------------------------------------------------------------------------------------------------------


def binarize(a):
    """The bits b = 1[a > 1/2]: 1 where a > 1/2, else 0, at exactly 1/2 as well.

    a of any shape, any real numbers -> b of the same shape and dtype: float32 stays float32.
    """
    raise NotImplementedError


# ---- 4 --------------------------------------------------------------------------------------------------------------


def straight_through(db, a, window=None):
    """The straight-through estimator (STE): what training uses for da, given db.

    The threshold is flat, so its true derivative is 0 and teaches the encoder nothing. The STE is the gradient of another
    function with the same value, the surrogate:

        window None:     a + sg[b - a]                                           value b
        a number, c:     s + sg[b - s] with s = clip(a, 1/2 - c, 1/2 + c)        value b; the clipped STE

    db, a (N, K) -> da (N, K). Hint: sg[.] is a constant, so only the term before it has a derivative.
    Graded against the numeric gradient of the surrogate. Finite differences of the threshold itself would be 0 here: they
    cannot tell a right STE from a wrong one.
    """
    raise NotImplementedError


# ---- 5 --------------------------------------------------------------------------------------------------------------


def commitment_loss_backward(a, b):
    """The gradient of the commitment loss with respect to a.

    C = mean of (sg[b] - a)^2, with a, b (N, K) -> dC/da (N, K). Hint: which of the two does the stop-gradient hold constant?
    """
    raise NotImplementedError


# ---- 6 --------------------------------------------------------------------------------------------------------------


def commit_backward(db, a, b, weight):
    """The complete backward pass of the bottleneck: from the decoder's gradient to the encoder's.

    Objective: L(b) + weight * C, with C the commitment loss. db = dL/db, a = sigma(h) and b = 1[a > 1/2], each (N, K), and
    weight a number -> dh (N, K), the gradient of the objective. L reaches a through the STE of exercise 4, without a window;
    C depends on a directly.
    Hint: first da, a sum of two terms; then dh. Use your answers to exercises 1, 4 and 5.
    """
    raise NotImplementedError


# ---- 7 --------------------------------------------------------------------------------------------------------------


def flip_differences(b, loss):
    """What the encoder really needs to know about each bit: how much better or worse the loss is with the bit on.

    b (K,), bits 0.0 or 1.0; loss, a function of such a vector that returns a number -> D (K,),

        D_k = loss(b with b_k = 1) - loss(b with b_k = 0),     the other bits as they are in b.

    D_k > 0: off is right. Exact, without any derivative; it takes 2K evaluations, which is why nobody trains with it.
    Hint: b.copy().
    """
    raise NotImplementedError


# ---- 8 --------------------------------------------------------------------------------------------------------------


def stable_interval(slope_off, slope_on, difference):
    """The commitment weights for which one bit can settle in its right state and in no other.

    slope_off = dL/db at b = 0, slope_on = dL/db at b = 1, difference = L(b=1) - L(b=0), not 0: its sign says which state is
    right. Training takes small plain gradient steps on a with the STE and the commitment loss w (sg[b] - a)^2, so while the
    bit is b the gradient with respect to a is

        slope + 2 w (a - b),     slope_off for b = 0, slope_on for b = 1.

    A state is stable if steps that start at a = b never carry a across 1/2.
    -> (low, high): for low < w < high the right state is stable and the wrong one is not; low = 0 where the right state is
    stable with no commitment loss at all. None if there is no such weight. L need not be convex.

    Example: logit 4b - 2, target 0.4, cross-entropy. stable_interval(-1.123, 1.923, 0.400) -> (1.123, 1.923). With w = 0 the
    bit oscillates; above 1.923 both states are stable and learning freezes.
    Hint: set the gradient to 0 and ask on which side of 1/2 that point lies. Do this for each state separately.
    """
    raise NotImplementedError


if __name__ == "__main__":
    import exercise_graders  # The file next to this one; try the exercises before you read it.

    exercise_graders.main(globals())
