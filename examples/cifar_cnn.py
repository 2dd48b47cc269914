"""Compress small color pictures to 256 bits each: a convolutional autoencoder on CIFAR-10, from the data to the pictures.

    python examples/cifar_cnn.py --quant commit              256 bits for a picture of 32x32 pixels
    python examples/cifar_cnn.py --size large                768 bits
    python examples/cifar_cnn.py --train-images 45000        on everything but the validation split (minutes per epoch)

Writes model.npz, metrics.json, history.csv and three pictures to --out. To train on a folder of your own images or resume
runs, and for the report's settings and more bottlenecks, see `tinyqae train cifar-cnn --help`.
"""
import sys
import time
from pathlib import Path

from tqdm import tqdm

from tinyqae import Adam, CNNAutoencoder, backend, cosine, load_cifar10, make_bottleneck, synthetic_shapes
from tinyqae.cli import program
from tinyqae.errors import stop_if_diverged
from tinyqae.experiment import Run, images, settings_of
from tinyqae.history import History, latent_counts
from tinyqae.train import SHUFFLE


def parse_arguments():
    parser = program.OneLineParser(description=__doc__)
    add = parser.add_argument
    add("--quant", choices=("vanilla", "none", "naive", "fence", "commit"), default="commit", help="default: commit")
    add("--size", choices=("small", "medium", "large"), default="small", help="4x4x16, x32 or x48 bits; default: small")
    add("--quant-weight", type=program.non_negative_float, metavar="W",
        help="weight of the commitment loss (default: 0.03) or the fence loss (default: 0.05)")
    add("--ste", choices=("identity", "clipped"), default="identity",
        help="commit's gradient: straight through everywhere, or only where |a - 1/2| <= 0.4; default: identity")
    add("--epochs", type=program.positive_int, default=12, help="default: 12")
    add("--batch-size", type=program.positive_int, default=64, help="default: 64")
    add("--lr", type=program.positive_float, default=0.004, help="Adam's learning rate; default: 0.004")
    add("--seed", type=program.non_negative_int, default=0, help="default: 0")
    add("--dataset", choices=("cifar10", "synthetic"), default="cifar10",
        help="synthetic: made-up shapes that need no download; default: cifar10")
    add("--train-images", type=program.positive_int, metavar="N", default=9000, help="the first N; default: 9000")
    add("--data-dir", metavar="DIR", help="data directory; default: $TINYQAE_DATA, else the user's cache")
    add("--allow-modified-data", action="store_true", help="accept files that are not CIFAR-10's originals, and say so")
    program.add_backend_argument(parser, "auto")
    program.add_engine_argument(parser)
    add("--out", metavar="DIR", type=Path, help="default: runs/cifar-cnn-QUANT-SIZE")
    return parser.parse_args()


def main():
    args = parse_arguments()
    directory = args.out or Path("runs") / f"cifar-cnn-{args.quant}-{args.size}"
    program.require_writable(directory)
    program.use_backend(args.backend)

    # The data: 50,000 training images, uint8 (N, 32, 32, 3), the last 5,000 (or a tenth) of them for validation.
    data = (synthetic_shapes(seed=0) if args.dataset == "synthetic"
            else load_cifar10(args.data_dir, allow_modified_data=args.allow_modified_data))
    held_back = min(5000, len(data.train_images) // 10)
    train, validation = data.train_images[:-held_back][:args.train_images], data.train_images[-held_back:]

    # The model: three blocks of convolution, batch norm, ReLU and max-pooling, down to a 4x4 map of codes, and back up.
    multiple = {"small": 1, "medium": 2, "large": 3}[args.size]
    options = {"fence": {"weight": 0.05}, "commit": {"weight": 0.03, "window": 0.4 if args.ste == "clipped" else None}}
    options = options.get(args.quant, {}) | ({} if args.quant_weight is None else {"weight": args.quant_weight})
    model = CNNAutoencoder(make_bottleneck(args.quant, signed=True, **options), widths=(64, 64, 128 * multiple),
                           latent_channels=16 * multiple, normalize_latent=args.quant in ("fence", "commit"),
                           reconstruction="mse", mean_image=train.mean(axis=0) / 255, seed=args.seed, engine=args.engine)
    optimizer = Adam(args.lr)

    # The training: forward, backward, update.
    batches, history = model.batches(train, args.batch_size), History()
    history.latents.append((0, latent_counts(model.latent(validation[:1000]))))
    schedule, steps = cosine(args.epochs * len(batches)), 0
    with model.engine.working(model, args.batch_size), tqdm(total=args.epochs * len(batches), desc=args.quant) as bar:
        for epoch in range(1, args.epochs + 1):
            started, losses = time.perf_counter(), {}
            for batch in batches.epoch(backend.generator(args.seed, SHUFFLE, epoch - 1)):
                model.loss(batch)                                       # reconstruction + weight * bottleneck loss
                model.backward()                                        # the gradient of every parameter
                optimizer.step(model, args.lr * schedule(steps))        # Adam
                steps += 1
                losses = {term: losses.get(term, 0) + value * len(batch) for term, value in model.terms.items()}
                bar.update()
            losses = {term: float(backend.to_host(total)) / len(train) for term, total in losses.items()}
            stop_if_diverged(losses, epoch - 1, args.lr)
            bar.set_postfix(epoch=f"{epoch}/{args.epochs}", **losses)
            history.rows.append({"epoch": epoch, "lr": args.lr * schedule(steps - 1), **losses,
                                 "seconds": time.perf_counter() - started, **model.validate(validation)})
            history.latents.append((epoch, latent_counts(model.latent(validation[:1000]))))

    # The evaluation: encode to bits, decode, compare, on images that the model has never seen.
    metrics = images.measure(model, train, data.test_images)
    metrics["settings"] = settings_of(model, history, args.seed, command=" ".join(["python", *sys.argv]),
                                      data=images.describe(data, len(train), held_back))
    images.write(Run(model, history, metrics), data, directory, f"CNN {args.size}")
    print(f"\n{data.name}\n{images.results_table(metrics)}\nwritten to {directory}/")


if __name__ == "__main__":
    program.run_main(main)
