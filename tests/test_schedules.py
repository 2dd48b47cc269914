"""Learning-rate schedules against closed forms and PyTorch's; what they refuse is in tests/test_optim.py."""

import numpy as np
import pytest

from tinyqae.schedules import SCHEDULES, cosine


@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (8, 0), (28, 0), (10, 1), (28, 5)])
def test_cosine_is_the_squared_cosine_of_a_quarter_turn(total, warmup):
    """(1 + cos x) / 2 = cos^2(x / 2), after a rise by equal parts to 1."""
    factor = cosine(total, warmup)
    np.testing.assert_allclose([factor(step) for step in range(warmup)], np.linspace(0, 1, warmup + 1)[1:])
    np.testing.assert_allclose(
        [factor(step) for step in range(warmup, total + 1)],
        np.cos(np.linspace(0, np.pi / 2, total - warmup + 1)) ** 2,
        atol=1e-15,
    )
    assert factor(total + 1) == factor(10 * total) == pytest.approx(0, abs=1e-15)


def test_cosine_agrees_with_torch(torch):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20), []
    for _ in range(21):
        theirs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose([SCHEDULES["cosine"](20)(step) for step in range(21)], theirs, atol=1e-12)


def test_the_names_of_the_schedules_and_that_constant_stays():
    assert list(SCHEDULES) == ["constant", "cosine"]
    assert {SCHEDULES["constant"](20)(step) for step in (0, 10, 19, 20)} == {1.0}
