"""Synthetic sentences from a small grammar, in the style of the Anki pairs, for machines that cannot download those."""

import functools
import hashlib
import itertools
import operator

import numpy as np

from tinyqae.data.anki import TextData

# The first 50,000 Anki sentences have at most 24 characters (in the edition of 76,036 pairs).
LONGEST = 24

# Words, or groups of words, by category.
WORDS = {
    "name": "tom, mary, john",
    "person": "tom, mary, john, she, he",
    "people": "we, they, you, the boys, the girls",
    "owner": "the, my, your, his, her, our",
    "pointing": "this, that",
    "thing": "book, car, house, dog, cat, door, key, letter, box, cup, hat, coat, bike, boat, train, garden, room, "
    "table, chair, bed, lamp, phone, bag, watch, ring, song, game, map, picture, window, kitchen, school, shop, road, "
    "bridge, river, tree, flower, horse, bird",
    "food": "bread, milk, rice, fish, tea, coffee, cake, soup, meat, fruit, water",
    "place": "home, school, work, town, church, bed, prison",
    "quality": "old, new, big, small, red, blue, green, white, black, good, bad, nice, clean, dirty, cold, hot, heavy, "
    "light, cheap, broken, empty, full, open, quiet, dark, wet, dry, strange, famous, lovely",
    "mood": "happy, sad, tired, hungry, angry, busy, late, sick, alone, afraid, ready, right, wrong, rich, poor, sure, shy",
    "did": "saw, bought, sold, found, lost, broke, hid, took, liked, wanted, needed, opened, closed, painted, cleaned, "
    "moved",
    "do": "see, buy, sell, find, lose, break, hide, take, like, want, need, open, close, paint, clean, move, touch, watch",
    "can": "swim, sing, dance, drive, cook, read, write, wait, stay, leave, help, win, run, walk, talk, sleep, fly, ski",
    "when": "now, today, again, soon, tonight, early, alone, here, there, daily",
}

# Each category in braces stands for all its words above.
TEMPLATES = """
{person} {did} {owner} {thing} | {people} {did} {owner} {thing} | i {did} {owner} {thing} |
i {did} {pointing} {quality} {thing} | {person} {did} {pointing} {quality} {thing} | {owner} {thing} is {quality} |
{owner} {thing} was {quality} | is {owner} {thing} {quality} | where is {owner} {thing} |
where is {owner} {quality} {thing} | who {did} {owner} {thing} | {do} {owner} {thing} | please {do} {owner} {thing} |
dont {do} {owner} {thing} | {person} is {mood} | {person} is {mood} {when} | {person} was {mood} | {people} are {mood} |
{people} were {mood} {when} | im {mood} | im not {mood} {when} | are you {mood} {when} | {person} can {can} |
{person} cant {can} {when} | {people} can {can} {when} | let {name} {can} {when} | lets {can} {when} |
i want to {can} {when} | {person} likes {food} | {people} need {food} {when} | i like {quality} {food} |
this {food} is {quality} | {person} went to {place} | {people} went to {place}
"""


def synthetic_sentences(n: int = 20_000, seed: int = 0) -> TextData:
    """`n` different English-like sentences of at most 24 characters, in lower case, shortest first.

    The same arguments give the same sentences with the same NumPy. ValueError for fewer than 1 sentence or more than the
    grammar has, or for a negative seed, TypeError for numbers that are not integers.
    """
    n, seed = operator.index(n), operator.index(seed)
    every = _every_sentence()
    if not 1 <= n <= len(every) or seed < 0:
        raise ValueError(
            f"n must be from 1 to {len(every)}, the number of sentences in the grammar, and seed at least 0, "
            f"got {n} and {seed}"
        )
    chosen = np.random.default_rng(seed).choice(len(every), n, replace=False)
    sentences = sorted(sorted(every[number] for number in chosen), key=len)
    content = "".join(f"{sentence}\n" for sentence in sentences).encode()
    return TextData(
        tuple(sentences),
        "SYNTHETIC, NOT ANKI",
        hashlib.sha256(content).hexdigest(),
        f"sentences of a small grammar drawn by this program with seed {seed}",
    )


@functools.cache
def _every_sentence() -> list[str]:
    """All different sentences of the grammar that are short enough, in the order of the templates."""
    sentences: dict[str, None] = {}
    for template in TEMPLATES.split("|"):
        parts = [WORDS[part[1:-1]].split(", ") if part.startswith("{") else [part] for part in template.split()]
        sentences |= dict.fromkeys(" ".join(words) for words in itertools.product(*parts))
    return [sentence for sentence in sentences if len(sentence) <= LONGEST]
