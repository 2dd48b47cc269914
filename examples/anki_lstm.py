"""Compress sentences to bits: a character LSTM autoencoder on the English half of the Anki sentence pairs.

    python examples/anki_lstm.py --quant commit --say "where is your daughter"

Writes model.npz, metrics.json, history.csv, reconstructions.txt and two pictures to --out. For your own text, resuming, the
report's settings and more bottlenecks, see `tinyqae train anki-lstm --help`.
"""
import sys
import time
from pathlib import Path

from tqdm import tqdm

from tinyqae import Adam, Seq2SeqAutoencoder, backend, cosine, make_bottleneck
from tinyqae.cli import program
from tinyqae.data import load_anki, split_sentences, synthetic_sentences
from tinyqae.errors import stop_if_diverged
from tinyqae.experiment import Run, sentences, settings_of
from tinyqae.history import History, latent_counts
from tinyqae.metrics.text import require_text_packages
from tinyqae.optim import clip_by_norm
from tinyqae.train import SHUFFLE


def parse_arguments():
    parser = program.OneLineParser(description=__doc__)
    add = parser.add_argument
    add("--quant", choices=("vanilla", "none", "naive", "fence", "commit"), default="commit", help="default: commit")
    add("--hidden", type=int, choices=(32, 64, 128, 256), default=128, help="half the number of bits; default: 128")
    add("--quant-weight", type=program.non_negative_float, metavar="W",
        help="weight of the commitment loss (default: 0.2) or the fence loss (default: 3)")
    add("--ste", choices=("identity", "clipped"), default="identity",
        help="commit's gradient: straight through everywhere, or only where |a - 1/2| <= 0.4; default: identity")
    add("--epochs", type=program.positive_int, default=24, help="default: 24")
    add("--batch-size", type=program.positive_int, default=128, help="default: 128")
    add("--lr", type=program.positive_float, help="Adam's learning rate; default: 0.005, or 0.01 for hidden below 128")
    add("--seed", type=program.non_negative_int, default=0, help="default: 0")
    add("--dataset", choices=("anki", "synthetic"), default="anki", help="synthetic needs no download; default: anki")
    add("--train-sentences", type=program.positive_int, metavar="N", help="train on the first N; default: all")
    add("--data-dir", metavar="DIR", help="data directory; default: $TINYQAE_DATA, else the user's cache")
    add("--say", action="append", default=[], metavar="SENTENCE", help="a sentence to encode and decode; may be repeated")
    program.add_backend_argument(parser, "auto")
    program.add_engine_argument(parser)
    add("--out", metavar="DIR", type=Path, help="default: runs/anki-lstm-QUANT-HIDDEN")
    return parser.parse_args()


def main():
    args = parse_arguments()
    directory = args.out or Path("runs") / f"anki-lstm-{args.quant}-{args.hidden}"
    require_text_packages()
    program.require_writable(directory)
    program.use_backend(args.backend)
    # The data: sentences of a to z, 0 to 9 and spaces; a tenth is held out, 1,000 (or a tenth) of the rest for validation.
    data = split_sentences(synthetic_sentences() if args.dataset == "synthetic" else load_anki(args.data_dir), "random")
    train = list(data.train[:args.train_sentences])
    held_back = min(1000, len(train) // 10)
    train, validation = train[:-held_back], train[-held_back:]

    # The model: an LSTM reads the sentence (backwards), its last state becomes the code, another LSTM reconstructs it.
    options = {"fence": {"weight": 3.0}, "commit": {"weight": 0.2, "window": 0.4 if args.ste == "clipped" else None}}
    options = options.get(args.quant, {}) | ({} if args.quant_weight is None else {"weight": args.quant_weight})
    model = Seq2SeqAutoencoder(make_bottleneck(args.quant, signed=True, **options), args.hidden, units=max(args.hidden, 96),
                               normalize_latent=args.quant != "naive", code_every_step=args.quant != "naive", reverse=True,
                               splice=0.5, beam=8, seed=args.seed, engine=args.engine)
    optimizer = Adam(args.lr or (0.01 if args.hidden < 128 else 0.005))

    # The training: forward, backward, update.
    batches, history = model.batches(train, args.batch_size), History()
    history.latents.append((0, latent_counts(model.latent(validation))))
    schedule, steps = cosine(args.epochs * len(batches)), 0
    with model.engine.working(model, args.batch_size), tqdm(total=args.epochs * len(batches), desc=args.quant) as bar:
        for epoch in range(1, args.epochs + 1):
            started, losses, seen = time.perf_counter(), {}, 0
            for batch in batches.epoch(backend.generator(args.seed, SHUFFLE, epoch - 1)):
                model.loss(batch)                                       # reconstruction + weight * bottleneck loss
                model.backward()                                        # the gradient of every parameter
                clip_by_norm(model.gradients(), 1.0)                    # a recurrent net's gradients can explode
                optimizer.step(model, optimizer.lr * schedule(steps))   # Adam
                steps, seen = steps + 1, seen + len(batch)
                losses = {term: losses.get(term, 0) + value * len(batch) for term, value in model.terms.items()}
                bar.update()
            losses = {term: float(backend.to_host(total)) / seen for term, total in losses.items()}
            stop_if_diverged(losses, epoch - 1, optimizer.lr)
            bar.set_postfix(epoch=f"{epoch}/{args.epochs}", **losses)
            history.rows.append({"epoch": epoch, "lr": optimizer.lr * schedule(steps - 1), **losses,
                                 "seconds": time.perf_counter() - started, **model.validate(validation)})
            history.latents.append((epoch, latent_counts(model.latent(validation))))

    # The evaluation: encode to bits, decode, compare, on sentences that the model has never seen.
    metrics = sentences.measure(model, train, list(data.test))
    metrics["settings"] = settings_of(model, history, args.seed, command=" ".join(["python", *sys.argv]),
                                      data=sentences.describe(data, len(train), held_back))
    pairs = sentences.write(Run(model, history, metrics), data, directory, f"LSTM {args.hidden}")
    said = ["\n" + sentences.said(model, sentence, beam=None) for sentence in args.say]
    print("\n" + data.name, sentences.results_table(metrics), "", pairs, "", f"written to {directory}/", *said, sep="\n")


if __name__ == "__main__":
    program.run_main(main)
