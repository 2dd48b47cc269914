"""The straight-through estimator and the commitment loss by hand: NumPy, one file, no autodiff, under a minute.

    python examples/ste_by_hand.py                        MNIST
    python examples/ste_by_hand.py --dataset synthetic    made-up digits that need no download

An autoencoder 784-50-784 stores a digit in 50 bits:

    h = x w1 + b1       a = sigma(h)       b = 1[a > 1/2]       l = b w2 + b2       image = sigma(l)

with x an image minus the mean image. Three ways to train it, the same in everything else:

    naive     no threshold in training: the decoder sees a, and after training b instead
    ste       the threshold in training, with the straight-through estimator: backward, the gradient of b is passed to a
              as if the threshold were not there. Its true derivative is 0, from which the encoder would learn nothing.
    commit    as ste, plus a commitment loss, the mean of (sg[b] - a)^2, which pulls a towards its current bit b.
              sg[.] is the stop-gradient: b counts as a constant.

The gain of commit over ste is small here; the lesson's page shows other weights and a CNN. A smaller learning rate helps
naive.
"""
import time

import numpy as np

from tinyqae import load_mnist, synthetic_digits
from tinyqae.cli.program import OneLineParser, run_main

BITS, BATCH, EPOCHS, LEARNING_RATE, SEEDS = 50, 128, 4, 0.01, (0, 1, 2)
# Name and weight of the commitment loss, the best of 0.03, 0.1, 0.3 and 1 on the last 5,000 training images.
METHODS = {"naive": 0.0, "ste": 0.0, "commit": 0.3}


def sigma(x):
    return 1 / (1 + np.exp(-x))


def initial_parameters(mean, random):
    """Glorot-uniform weights. The output starts at the mean image, mean (784,)."""
    w = [random.uniform(-limit, limit, shape).astype(np.float32) for shape in ((mean.size, BITS), (BITS, mean.size))
         for limit in [np.sqrt(6 / sum(shape))]]
    p = np.clip(mean, 1e-3, 1 - 1e-3)
    return {"w1": w[0], "b1": np.zeros(BITS, np.float32), "w2": w[1], "b2": np.log(p / (1 - p))}


def encode(parameters, centred):
    """Activations a (N, 50) of centred images (N, 784)."""
    return sigma(centred @ parameters["w1"] + parameters["b1"])


def threshold(a):
    """b = 1[a > 1/2]."""
    return (a > 0.5).astype(a.dtype)


def loss_and_gradients(parameters, x, mean, method, weight):
    """The objective, a scalar, and its gradient with respect to each parameter. x (N, 784) in [0, 1], mean (784,)."""
    # Forward. The binary cross-entropy of sigma(l), -x log sigma(l) - (1 - x) log(1 - sigma(l)), is softplus(l) - x l.
    a = encode(parameters, x - mean)
    b = threshold(a)
    code = a if method == "naive" else b
    l = code @ parameters["w2"] + parameters["b2"]
    reconstruction = np.mean(np.maximum(l, 0) + np.log1p(np.exp(-np.abs(l))) - x * l)
    loss = reconstruction + weight * np.mean((b - a) ** 2)

    # Backward through the decoder.
    dl = (sigma(l) - x) / l.size
    dcode = dl @ parameters["w2"].T
    # Backward through the threshold: db/da is 0, but the STE says 1. For naive, where the code is a, it is 1.
    da = dcode
    # The commitment loss, with b held constant.
    da = da + weight * 2 * (a - b) / a.size
    # Backward through the sigmoid and the encoder.
    dh = da * a * (1 - a)
    return loss, {"w1": (x - mean).T @ dh, "b1": dh.sum(axis=0), "w2": code.T @ dl, "b2": dl.sum(axis=0)}


class Adam:
    """Kingma and Ba 2015, algorithm 1."""

    def __init__(self, parameters):
        self.t, self.m, self.v = 0, *({name: np.zeros_like(p) for name, p in parameters.items()} for _ in range(2))

    def step(self, parameters, gradients, beta1=0.9, beta2=0.999, eps=1e-8):
        self.t += 1
        for name, g in gradients.items():
            self.m[name] += (1 - beta1) * (g - self.m[name])
            self.v[name] += (1 - beta2) * (g * g - self.v[name])
            mean, square = self.m[name] / (1 - beta1 ** self.t), self.v[name] / (1 - beta2 ** self.t)
            parameters[name] -= LEARNING_RATE * mean / (np.sqrt(square) + eps)


def train(images, method, weight, seed, epochs=EPOCHS):
    """(parameters, mean image) after training on images (N, 784) in [0, 1]."""
    random, mean = np.random.default_rng(seed), images.mean(axis=0)
    parameters = initial_parameters(mean, random)
    optimizer, steps = Adam(parameters), epochs * (len(images) // BATCH)
    for step in range(steps):
        if step % (len(images) // BATCH) == 0:
            batches = iter(random.permutation(len(images))[:steps // epochs * BATCH].reshape(-1, BATCH))
        loss, gradients = loss_and_gradients(parameters, images[next(batches)], mean, method, weight)
        optimizer.step(parameters, gradients)
    return parameters, mean


def psnr(parameters, mean, images):
    """The mean PSNR in dB over images (N, 784) of their reconstructions from 50 bits, rounded to integers."""
    bits = threshold(encode(parameters, images - mean))
    decoded = np.rint(255 * sigma(bits @ parameters["w2"] + parameters["b2"]))
    return np.mean(10 * np.log10(255 ** 2 / np.mean((decoded - 255 * images) ** 2, axis=1)))


def main():
    parser = OneLineParser(description=__doc__)
    parser.add_argument("--dataset", choices=("mnist", "synthetic"), default="mnist", help="default: %(default)s")
    parser.add_argument("--data-dir", metavar="DIR", help="data directory; default: $TINYQAE_DATA, else the user's cache")
    args = parser.parse_args()
    data = load_mnist(args.data_dir) if args.dataset == "mnist" else synthetic_digits(seed=0)
    images, held_out = (x.reshape(len(x), -1) / np.float32(255) for x in (data.train_images, data.test_images))

    print(f"{data.name}, {len(images)} images, {BITS} bits each, {EPOCHS} epochs; held-out PSNR in dB, one column per seed")
    for method, weight in METHODS.items():
        started = time.perf_counter()
        scores = [psnr(*train(images, method, weight, seed), held_out) for seed in SEEDS]
        print(f"{method:8} commitment weight {weight:3}  " + "  ".join(f"{score:.2f}" for score in scores)
              + f"   mean {np.mean(scores):.2f}, standard deviation {np.std(scores, ddof=1):.2f}"
              + f"   ({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    run_main(main)
