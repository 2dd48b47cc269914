"""How well a figure agrees with the published one."""

from .significance import prediction_reach

WITHIN, NEAR, OFF = "within", "near", "off"
RULE = {
    WITHIN: "within the spread over seeds: the published figure, a single run, lies in the 95% prediction interval of our n "
    "seeds, at most t(0.975, n - 1) s √(1 + 1/n) from their mean, where s is their standard deviation and t the quantile "
    "of Student's t distribution with n - 1 degrees of freedom (scipy.stats.t); never for a single seed",
    NEAR: "not within the spread, but off by at most a tenth of the range of the published figures in the column",
    OFF: "neither",
}


def agreement(published, pair, seeds, column):
    """WITHIN, NEAR or OFF, as RULE says. pair: our mean and standard deviation (None for one seed, which has no spread);
    column: all published figures of this metric.
    """
    mean, deviation = pair
    distance = abs(published - mean)
    if deviation is not None and distance <= prediction_reach(deviation, seeds):
        return WITHIN
    return NEAR if distance <= (max(column) - min(column)) / 10 else OFF
