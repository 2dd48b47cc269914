"""Runs on sentences: where they come from, what is measured, what is printed and written."""
from ..checkpoint import write_atomically
from ..data import clean_text
from ..metrics import rate
from ..metrics.text import text_compression, text_metrics
from .runs import ROUNDED_AFTERWARDS, Run, train, write_run

SENTENCES_SHOWN = 10
# Training sentences that are measured beside the held-out ones.
MEASURED_IN_TRAINING = 1000


def train_and_measure(recipe, data, *, seed=0, train_items=None, directory=None, resume=False, progress=True,
                      engine=None):
    """Train as `recipe` says on the first `train_items` training sentences and measure on them and on the held-out ones.

    data: SentenceSplit. directory: where the checkpoint goes; None writes nothing. engine: see tinyqae.engine. Returns a
    Run.
    """
    sentences = list(data.train[:train_items])
    model, history, training, settings = train(recipe, sentences, seed=seed, directory=directory, resume=resume,
                                               progress=progress, engine=engine)
    metrics = measure(model, training, list(data.test))
    metrics["settings"] = {"data": describe(data, len(training), len(sentences) - len(training)), **settings}
    return Run(model, history, metrics)


def describe(data, training, validation):
    """What metrics.json says of the data, of which so many sentences were trained and validated on."""
    return {"name": data.name, "sha256": data.sha256, "source": data.source, "split": data.how,
            "training_sentences": training, "validation_sentences": validation, "test_sentences": len(data.test)}


def measure(model, training, test):
    """{"test", "train", "rate", "code"} and, where training saw values that storage rounds,
    "test_before_threshold": the same figures as if these values were stored.

    The code's state is that of the test sentences. "train" is about the first 1,000 training sentences; `training` None
    leaves it out.
    """
    latent, code = model.latent(test), model.encode(test)
    bits = rate.bits_per_item(model.latent_size, "binary" if model.bottleneck.is_binary else "float32")
    compression = text_compression(test, bits)
    metrics = {
        "test": text_metrics(test, model.decode(code)),
        "rate": {"bits_per_item": bits, "cr": compression["compression_ratio"],
                 "bits_per_character": compression["bits_per_character"]},
        "code": rate.code_usage(latent),
    }
    if training is not None:
        measured = training[:MEASURED_IN_TRAINING]
        metrics["train"] = text_metrics(measured, model.reconstruct(measured))
    if model.bottleneck.kind in ROUNDED_AFTERWARDS:
        metrics["test_before_threshold"] = text_metrics(test, model.decode(latent))
    return metrics


def write(run, data, directory, what, beam=None):
    """Write the run's files: model.npz, metrics.json, history.csv, reconstructions.txt and two pictures. Returns the lines
    of reconstructions. what: the model in words, "LSTM 64".
    """
    metrics = run.metrics
    title = (f"{data.name}, split {data.how}: {what}, {run.model.bottleneck.kind}, "
             f"{metrics['rate']['bits_per_item']} bits per sentence, held-out edits {metrics['test']['levenshtein']:.1f} "
             "(fewer is better)")
    write_run(run, directory, title)
    pairs = side_by_side(run.model, spread(data.test, SENTENCES_SHOWN), beam)
    write_atomically(directory / "reconstructions.txt", lambda file: file.write(f"{title}\n\n{pairs}\n".encode()))
    return pairs


def side_by_side(model, sentences, beam):
    """Sentences beside their reconstructions, one pair per line."""
    width = max(map(len, sentences))
    decoded = model.decode(model.encode(sentences), beam)
    return "\n".join(f"{a:{width}}  ->  {b}" for a, b in zip(sentences, decoded, strict=True))


def said(model, sentence, beam):
    """A user's own sentence, its code and its reconstruction."""
    cleaned, _ = clean_text(sentence)
    code = model.encode([cleaned])
    written = "".join(map(str, code[0].astype(int))) if model.bottleneck.is_binary else f"{code.shape[1]} numbers"
    return f"sentence        {cleaned}\ncode            {written}\nreconstruction  {model.decode(code, beam)[0]}"


def spread(sentences, count):
    """`count` of the sentences, evenly spread."""
    return [sentences[i * len(sentences) // count] for i in range(min(count, len(sentences)))]


def title(data):
    """The data in words."""
    return f"{data.name}, split {data.how}"


def results_table(metrics):
    """The figures of metrics.json as lines of text."""
    columns = (("levenshtein", 9, 2), ("cosine_distance", 9, 3), ("jaccard_distance", 9, 3), ("bleu_distance", 10, 3))
    rows = [("held-out sentences", metrics["test"])]
    if "test_before_threshold" in metrics:
        rows.append(("  before the threshold", metrics["test_before_threshold"]))
    if "train" in metrics:
        rows.append(("training sentences", metrics["train"]))
    rate_, code = metrics["rate"], metrics["code"]
    lines = [f"{'':24}{'edits':>9}{'cosine':>9}{'Jaccard':>9}{'1 - BLEU':>10}{'exact':>8}"]
    lines += [f"{name:24}" + "".join(f"{row[c]:>{w}.{d}f}" for c, w, d in columns) + f"{row['exact_match_rate']:>8.1%}"
              for name, row in rows]
    per_character = rate_["bits_per_character"]
    lines.append(f"{rate_['bits_per_item']} bits per sentence, compression ratio {rate_['cr']:.2f}; bits per character: " +
                 ", ".join(f"{name} {bits:.1f}" for name, bits in per_character.items()))
    if per_character["code"] > per_character["gzip"]:
        lines.append("so this code is larger than what gzip makes of the held-out text as a whole, without loss; a code of "
                     "its own for each sentence is what it has instead")
    lines.append(f"code: mean distance to the nearest bit {code['distance_to_bit']:.3f}, bits that never change "
                 f"{code['dead_bits']}, entropy {code['mean_bit_entropy']:.3f} of 1 bit each")
    return "\n".join(lines)
