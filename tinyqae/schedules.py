"""Learning-rate schedules: functions from the step to a factor of the learning rate."""

import math
from collections.abc import Callable

__all__ = ["SCHEDULES", "Schedule", "constant", "cosine"]

Schedule = Callable[[int], float]


def constant() -> Schedule:
    """A schedule that keeps the learning rate: a function of the step that returns the factor 1."""
    return lambda step: 1.0


def cosine(total_steps: int, warmup_steps: int = 0) -> Schedule:
    """A schedule: linear rise over `warmup_steps`, then half a cosine from 1 down to 0 at `total_steps`.

    Loshchilov and Hutter 2017, arXiv:1608.03983, without restarts. Steps count from 0.
    """
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(f"warmup_steps={warmup_steps} must be at least 0 and below total_steps={total_steps}")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / (total_steps - warmup_steps)
        return (1 + math.cos(math.pi * min(progress, 1.0))) / 2

    return factor


SCHEDULES: dict[str, Callable[[int], Schedule]] = {"constant": lambda total_steps: constant(), "cosine": cosine}
