"""What somebody might do to a file, for the tests of single readers and for the campaigns of tests/tools."""
import copy

JSON_VALUES = (None, True, False, 0, 1, -1, 3, 10**30, 2.5, float("nan"), float("inf"), "", "x", "float64", [], [1], [[1]],
               [None], ["a"], [1, 2, 3], {}, {"a": 1})
"""Values of every type that JSON has."""


def with_wrong_values(description, values=JSON_VALUES):
    """Yield the description, a dict of JSON values, with each of these in place of each value in it, at any depth."""
    for path in _paths(description):
        for value in values:
            changed = copy.deepcopy(description)
            part = changed
            for key in path[:-1]:
                part = part[key]
            part[path[-1]] = value
            yield changed


def _paths(value, path=()):
    """The keys that lead to each value within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, part in items:
        yield (*path, key)
        yield from _paths(part, (*path, key))
