"""The encoder's gradients with and without straight-through, for a model trained here for one epoch."""

from dataclasses import asdict

from tinyqae import backend, recipes
from tinyqae.gradients import EncoderGradients, encoder_gradients
from tinyqae.train import fit

HIDDEN = (256, 50)
IMAGES, BATCH = 25_600, 128
SEED = 0


def before_and_after(images):
    """[{"label", "gradients"}] before training and after one epoch: plain data for results.json. images (N, H, W, C), bytes.

    The last images are the batch, the first ones train.
    """
    recipe = recipes.mnist_mlp("default", "commit", HIDDEN)
    batch, training = images[-BATCH:], images[:-BATCH][:IMAGES]
    model = recipe.make_model(training, SEED)
    # One thread, as for the rows: the same figures wherever this is computed.
    with backend.one_blas_thread():
        found = [("before training", encoder_gradients(model, batch))]
        fit(model, training, recipe.make_optimizer(), epochs=1, batch_size=BATCH, seed=SEED, progress=False)
        found.append((f"after {-(-len(training) // BATCH)} steps", encoder_gradients(model, batch)))
    return [{"label": label, "gradients": asdict(gradients)} for label, gradients in found]


def labelled(content):
    """Return [(label, EncoderGradients)] from the result of before_and_after, also if it was read back from JSON."""
    return [(one["label"], EncoderGradients(**one["gradients"])) for one in content]


def words(label, gradients):
    """Describe the comparison in sentences."""
    straight, flips, without = (
        gradients.cosines[a][b]
        for a, b in (("straight-through", "flips"), ("no threshold", "flips"), ("straight-through", "no threshold"))
    )
    still = max(
        (step for step, turned in zip(gradients.steps, gradients.turned["straight-through"], strict=True) if turned == 0),
        default=None,
    )
    best = {way: min(changes) for way, changes in gradients.changes.items()}
    said = f"{label.capitalize()}, the true derivative is {max(gradients.norms['threshold']):g} in every layer"
    if still is not None:
        said += (
            f": a step against the straight-through gradient of up to {still:.0e} of the weights' norm flips none of the "
            f"{gradients.images * gradients.bits:,} bits"
        )
    return (
        f"{said}. The cosine between the straight-through and the exact flip gradient is {straight:.2f}, that between the "
        f"one without a threshold and the flip gradient {flips:.2f}, between the first two {without:.2f}. The best "
        f"step downhill lowers the loss of {gradients.loss:.4f} by {-best['straight-through']:.4f} with straight-through, "
        f"by {-best['flips']:.4f} with the flips and by {-best['no threshold']:.4f} without a threshold."
    )
