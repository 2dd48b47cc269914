"""What a training run records: the histogram of the values before the threshold, and what is read from it."""

import numpy as np
import pytest

from tinyqae.history import History, latent_counts, undecided


def test_values_are_counted_in_40_bins_of_equal_width_and_outside_0_to_1_in_the_end_bins():
    values = np.array([[-3.0, 0.0, 0.024], [0.026, 0.49, 0.51], [0.976, 1.0, 7.0]])
    expected = np.zeros(40, int)
    expected[[0, 1, 19, 20, 39]] = 3, 1, 1, 1, 3
    counts = latent_counts(values)
    assert counts == expected.tolist() and all(type(count) is int for count in counts)


def test_counts_are_those_of_whole_fortieths():
    values = np.random.default_rng(0).uniform(0, 1, (50, 30))
    assert latent_counts(values) == np.bincount(np.floor(40 * values).astype(int).ravel(), minlength=40).tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_the_undecided_share_is_of_the_values_between_a_quarter_and_three_quarters_at_the_end(seed):
    before, after = np.random.default_rng(seed).uniform(-0.5, 1.5, (2, 70, 9))
    share = np.mean((after >= 0.25) & (after < 0.75))
    assert undecided([(0, latent_counts(before)), (1, latent_counts(after))]) == pytest.approx(share)


def test_a_table_of_no_epochs_is_empty_and_each_epoch_is_a_line(tmp_path):
    path = tmp_path / "history.csv"
    History().save_csv(path)
    assert path.read_bytes().strip() == b""
    History([{"epoch": 1, "lr": 0.5}]).save_csv(path)
    assert path.read_bytes() == b"epoch,lr\n1,0.5\n"
    History([{"epoch": 1, "lr": 0.5}, {"epoch": 2, "lr": 0.25}]).save_csv(path)
    assert path.read_bytes() == b"epoch,lr\n1,0.5\n2,0.25\n"


def test_a_history_is_short_when_it_is_printed():
    rows = [{"epoch": 1, "lr": 0.01, "reconstruction": 0.3}, {"epoch": 2, "lr": 0.005, "reconstruction": 0.25}]
    assert repr(History(rows)) == "<History of 2 epochs; the last: lr=0.005, reconstruction=0.25>"
    assert repr(History()) == "<History of 0 epochs; the last: >"
