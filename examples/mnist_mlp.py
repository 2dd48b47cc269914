"""Compress handwritten digits to 50 bits each: an MLP autoencoder on MNIST, from the data to the pictures.

    python examples/mnist_mlp.py --quant commit      threshold, straight-through gradient and commitment loss
    python examples/mnist_mlp.py --quant naive       the same network, thresholded only after training
    python examples/mnist_mlp.py --hidden 256,50     with a hidden layer of 256 on each side

Writes the model, metrics and pictures to --out. To resume, and for more bottlenecks, see `tinyqae train mnist-mlp --help`.
"""
import copy
import sys
import time
from pathlib import Path

from tqdm import tqdm

from tinyqae import Adam, MLPAutoencoder, backend, cosine, load_mnist, make_bottleneck, synthetic_digits
from tinyqae.cli import program
from tinyqae.errors import stop_if_diverged
from tinyqae.experiment import Run, images, settings_of
from tinyqae.history import History, latent_counts
from tinyqae.train import SHUFFLE


def parse_arguments():
    parser = program.OneLineParser(description=__doc__)
    add = parser.add_argument
    add("--quant", choices=("vanilla", "none", "naive", "fence", "commit"), default="commit", help="default: commit")
    add("--hidden", type=program.widths, default=(50,), metavar="N[,N...]",
        help="widths of the encoder's layers; the last one is the number of bits; default: 50")
    add("--quant-weight", type=program.non_negative_float, metavar="W",
        help="weight of the commitment loss (default: 1, halved for each hidden layer) or the fence loss (half of that)")
    add("--ste", choices=("identity", "clipped"), default="identity",
        help="commit's gradient: straight through everywhere, or only where |a - 1/2| <= 0.4; default: identity")
    add("--epochs", type=program.positive_int, default=20, help="default: 20")
    add("--batch-size", type=program.positive_int, default=128, help="default: 128")
    add("--lr", type=program.positive_float,
        help="Adam's learning rate; default: 0.01, halved for each hidden layer after the first; 0.00025 for naive")
    add("--seed", type=program.non_negative_int, default=0, help="default: 0")
    add("--dataset", choices=("mnist", "synthetic"), default="mnist", help="synthetic needs no download; default: mnist")
    add("--data-dir", metavar="DIR", help="data directory; default: $TINYQAE_DATA, else the user's cache")
    program.add_backend_argument(parser, "auto")
    program.add_engine_argument(parser)
    add("--out", metavar="DIR", type=Path, help="default: runs/mnist-mlp-QUANT-HIDDEN")
    return parser.parse_args()


def main():
    args = parse_arguments()
    hidden = "-".join(map(str, args.hidden))
    directory = args.out or Path("runs") / f"mnist-mlp-{args.quant}-{hidden}"
    program.require_writable(directory)
    program.use_backend(args.backend)

    # The data: 60,000 training images, uint8 (N, 28, 28, 1), the last 5,000 (or a tenth) of them for validation.
    data = synthetic_digits(seed=0) if args.dataset == "synthetic" else load_mnist(args.data_dir)
    held_back = min(5000, len(data.train_images) // 10)
    train, validation = data.train_images[:-held_back], data.train_images[-held_back:]

    # The model: pixels -> hidden layers -> bottleneck -> hidden layers -> pixels.
    deeper, naive = len(args.hidden) - 1, args.quant == "naive"
    options = {"fence": {"weight": 0.5 / 2**deeper},
               "commit": {"weight": 1 / 2**deeper, "window": 0.4 if args.ste == "clipped" else None}}
    options = options.get(args.quant, {}) | ({} if args.quant_weight is None else {"weight": args.quant_weight})
    model = MLPAutoencoder(make_bottleneck(args.quant, signed=True, **options), args.hidden, seed=args.seed,
                           normalize_hidden=not naive, normalize_latent=not naive, mean_image=train.mean(axis=0) / 255,
                           engine=args.engine)
    optimizer = Adam(args.lr or (0.00025 if naive else 0.01 / 2**max(deeper - 1, 0)))

    # The training: forward, backward, update.
    batches, history = model.batches(train, args.batch_size), History()
    history.latents.append((0, latent_counts(model.latent(validation[:1000]))))
    schedule = cosine(args.epochs * len(batches))
    with model.engine.working(model, args.batch_size), tqdm(total=args.epochs * len(batches), desc=args.quant) as bar:
        for epoch in range(1, args.epochs + 1):
            started, losses = time.perf_counter(), {}
            for batch in batches.epoch(backend.generator(args.seed, SHUFFLE, epoch - 1)):
                model.loss(batch)                                   # reconstruction + weight * bottleneck loss
                model.backward()                                    # the gradient of every parameter
                optimizer.step(model, optimizer.lr * schedule(bar.n))   # Adam; bar.n: steps done
                losses = {term: losses.get(term, 0) + value * len(batch) for term, value in model.terms.items()}
                bar.update()
            losses = {term: float(backend.to_host(total)) / len(train) for term, total in losses.items()}
            stop_if_diverged(losses, epoch - 1, optimizer.lr)
            bar.set_postfix(epoch=f"{epoch}/{args.epochs}", **losses)
            history.rows.append({"epoch": epoch, "lr": optimizer.lr * schedule(bar.n - 1), **losses,
                                 "seconds": time.perf_counter() - started, **model.validate(validation)})
            history.latents.append((epoch, latent_counts(model.latent(validation[:1000]))))
            if epoch == 1:
                early = copy.deepcopy(model)

    # The evaluation: encode to bits, decode, compare, on images that the model has never seen.
    metrics = images.measure(model, train, data.test_images)
    metrics["settings"] = settings_of(model, history, args.seed, command=" ".join(["python", *sys.argv]),
                                      data=images.describe(data, len(train), held_back))
    images.write(Run(model, history, metrics, early), data, directory, f"MLP {hidden}")
    print(f"\n{data.name}\n{images.results_table(metrics)}\nwritten to {directory}/")


if __name__ == "__main__":
    program.run_main(main)
