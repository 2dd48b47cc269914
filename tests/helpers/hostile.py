"""What somebody might do to a file, for the tests of single readers and for the campaigns of tests/tools."""

import copy

from tinyqae.errors import TinyqaeError

JSON_VALUES = (
    None,
    True,
    False,
    0,
    1,
    -1,
    3,
    10**30,
    2.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "float64",
    [],
    [1],
    [[1]],
    [None],
    ["a"],
    [1, 2, 3],
    {},
    {"a": 1},
)
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


def damaged(data, random):
    """A copy of these bytes with a random damage: flipped, cut, doubled, inserted or overwritten."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 5)):
        place, length = int(random.integers(0, len(changed) + 1)), int(random.integers(1, 20))
        match int(random.integers(0, 5)):
            case 0 if place < len(changed):
                changed[place] ^= 1 << int(random.integers(0, 8))
            case 1:
                del changed[place:]
            case 2:
                changed[place:place] = changed[place : place + length]
            case 3:
                changed[place:place] = random.bytes(length)
            case _:
                changed[place : place + length] = random.bytes(length)
    return bytes(changed)


def outcome(read, data):
    """The word "read" or "refused", which is an error of tinyqae in one line; anything else is a fault, and its kind."""
    try:
        read(data)
    except TinyqaeError as error:
        return "refused" if "\n" not in str(error) else "fault: a message of several lines"
    except Exception as error:
        return f"fault: {type(error).__name__}: {str(error)[:80]}"
    return "read"
