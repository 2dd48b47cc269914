"""Significance of differences over seeds: Welch's t-test with Holm's correction, and the prediction interval of another run.

A figure is (mean, standard deviation or None, seeds); one seed has no standard deviation, and nothing is concluded from it.
The distributions are SciPy's, which scikit-image needs as well.
"""

import math

from scipy import stats

LEVEL = 0.05
HIGHER_IS_BETTER = {"psnr", "ssim"}


def in_words(family):
    """Describe the test of `better` as the end of a sentence. family: a description of the comparisons in one family."""
    return (
        f"by Welch's t-test (unequal variances), two-sided p below {LEVEL} after Holm's correction over {family}; if "
        "neither figure varies over its seeds, the better one is ahead, and figures of a single seed are not compared"
    )


def t_quantile(freedom):
    """The 0.975 quantile of the t distribution with `freedom` degrees of freedom."""
    return float(stats.t.ppf(1 - LEVEL / 2, freedom))


def prediction_reach(deviation, seeds):
    """Half the width of the 95% prediction interval of another run after `seeds` runs: t(0.975, n - 1) s sqrt(1 + 1/n)."""
    return t_quantile(seeds - 1) * deviation * math.sqrt(1 + 1 / seeds)


def welch(a, b):
    """The two-sided p-value of Welch's t-test, with the Welch-Satterthwaite degrees of freedom, that figures a and b have
    equal expectations; None if one has a single seed. If neither has any spread, 1 for equal means and otherwise 0.
    """
    if a[1] is None or b[1] is None:
        return None
    if a[1] == b[1] == 0:
        return float(a[0] == b[0])
    return float(stats.ttest_ind_from_stats(*a, *b, equal_var=False).pvalue)


def holm(values):
    """p-values, a list, after Holm's step-down correction (Holm 1979): the k-th smallest of n times n - k + 1, at most 1 and
    no smaller than the one before.
    """
    adjusted, largest = [0.0] * len(values), 0.0
    for rank, i in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = largest
    return adjusted


def better(comparisons):
    """[(whether a is significantly better than b, the corrected p)] for comparisons of one family, a list of (a, b, metric);
    (None, None) where a or b has a single seed.
    """
    raw = [welch(a, b) for a, b, _ in comparisons]
    corrected = iter(holm([p for p in raw if p is not None]))
    found = []
    for (a, b, metric), p in zip(comparisons, raw, strict=True):
        if p is None:
            found.append((None, None))
            continue
        p = next(corrected)
        leads = a[0] > b[0] if metric in HIGHER_IS_BETTER else a[0] < b[0]
        found.append((leads and p < LEVEL, p))
    return found
