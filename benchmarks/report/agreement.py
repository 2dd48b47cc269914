"""How well a figure agrees with the published one."""
import math

WITHIN, NEAR, OFF = "within", "near", "off"
RULE = {
    WITHIN: "within the spread over seeds: the published figure, which is one run's, is at most 2 s √(1 + 1/n) away from "
            "the mean of our n seeds with standard deviation s",
    NEAR: "at most a tenth of the distance between the smallest and the largest published figure of the column away",
    OFF: "neither",
}


def agreement(published, pair, seeds, column):
    """WITHIN, NEAR or OFF, as RULE says. pair: our mean and standard deviation (None for one seed, which has no spread);
    column: all published figures of this metric.
    """
    mean, deviation = pair
    distance = abs(published - mean)
    if deviation is not None and distance <= 2 * deviation * math.sqrt(1 + 1 / seeds):
        return WITHIN
    return NEAR if distance <= (max(column) - min(column)) / 10 else OFF
