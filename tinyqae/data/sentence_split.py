"""Which sentences to train on and which to hold out."""
from dataclasses import dataclass

import numpy as np

from tinyqae.data.anki import TextData
from tinyqae.errors import DataError

SPLITS = ("random", "length", "report")
TRAINING_SHARE = {"random": 0.9, "length": 0.8, "report": 0.8}
# The report measured its vanilla models on other sentences than the quantized ones.
REPORT_SENTENCES = {"vanilla": slice(40_001, 40_101), "quantized": slice(45_100, 45_200)}


@dataclass(frozen=True)
class SentenceSplit:
    """Sentences to train on, and held-out ones, none of which is among them.

    train, test: tuples of str, the test sentences all different. report: the two times 100 sentences that the report
    measured on, {"vanilla", "quantized"}, empty for data that is too short for them. how: one of SPLITS.
    name, sha256, source: of the data, as in TextData.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    report: dict[str, tuple[str, ...]]
    how: str
    name: str
    sha256: str
    source: str


def split_sentences(data: TextData, how: str = "random", seed: int = 0) -> SentenceSplit:
    """Split sentences into training and held-out ones.

    how:
      "random"  nine tenths of the different sentences are trained on, one tenth is held out. A split by line would leak:
                an Anki sentence stands once for each of its translations.
      "length"  the report's border: the first 80% of the lines are trained on, each sentence once, and what follows is
                held out. Anki's lines are sorted by length, so these are the longest.
      "report"  the same border, trained on line by line, repetitions included, as the report did. The sentences of
                REPORT_SENTENCES are cut out of all lines.
    seed: of the random order, in which the training sentences of the first two also stand. ValueError for another `how`,
    DataError for fewer than two different sentences, or where nothing would be held out.
    """
    if how not in SPLITS:
        raise ValueError(f"how={how!r} is unknown; choose one of {', '.join(SPLITS)}")
    lines, random = data.sentences, np.random.default_rng(seed)
    if how == "random":
        distinct = sorted(set(lines))
        shuffled = [distinct[i] for i in random.permutation(len(distinct))]
        border = int(len(shuffled) * TRAINING_SHARE[how])
        train, test = shuffled[:border], shuffled[border:]
    else:
        border = int(len(lines) * TRAINING_SHARE[how])
        train = list(lines[:border])
        known = set(train)
        test = [sentence for sentence in dict.fromkeys(lines[border:]) if sentence not in known]
        if how == "length":
            distinct = list(dict.fromkeys(train))
            train = [distinct[i] for i in random.permutation(len(distinct))]
    if not train or not test:
        raise DataError(f"{data.name} has {len(set(lines))} different sentences; a split by how={how!r} leaves "
                        f"{len(train)} to train on and {len(test)} to hold out: give more of them")
    enough = how != "random" and len(lines) >= max(part.stop for part in REPORT_SENTENCES.values())
    report = {name: lines[part] for name, part in REPORT_SENTENCES.items()} if enough else {}
    return SentenceSplit(tuple(train), tuple(test), report, how, data.name, data.sha256, data.source)
