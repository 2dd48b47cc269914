"""How rows of Tables 1 and 2 are measured: on which images, and with which bytes."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.report import TABLES, image_tables
from benchmarks.report.image_metrics import report_image_metrics
from benchmarks.report.rows import Row
from tinyqae import recipes
from tinyqae.data import synthetic_digits
from tinyqae.metrics.image import image_metrics

MLP, CNN = TABLES[1], TABLES[2]
DIGITS = synthetic_digits(train=1200, test=60)
RECIPE = recipes.mnist_mlp("report", "commit", (50,))


class HalfLevels:
    """A model whose code is the image and whose reconstructions are between two levels, three quarters up."""

    def encode(self, images):
        return images // 2

    def decode_floats(self, code):
        return (code + 0.75) / 255

    def reconstruct(self, images):
        return np.rint(self.decode_floats(self.encode(images)) * 255).astype(np.uint8)


def trained(table, row, monkeypatch):
    """(the result of `train` with HalfLevels for a model, the data it was trained on)."""
    given = []

    def train_and_measure(recipe, data, *, train_items, **_):
        given.append((data, train_items))
        return SimpleNamespace(model=HalfLevels(), metrics={"test": {}}, history=SimpleNamespace(rows=[], latents=[]))

    monkeypatch.setattr(image_tables.images, "train_and_measure", train_and_measure)
    result, _ = table.train(row, 0, DIGITS)
    return result, given[0]


@pytest.mark.parametrize(
    ("table", "items", "measured"),
    [(MLP, None, 1200), (MLP, 300, 300), (CNN, None, 1000), (CNN, 300, 300), (CNN, 1100, 1000)],
)
def test_the_report_measured_all_images_of_table_1_and_the_first_1000_of_table_2(table, items, measured, monkeypatch):
    result, _ = trained(table, Row("commit 50", 50, RECIPE, items=items), monkeypatch)
    images = DIGITS.train_images[:measured]
    # The authors cut off what is behind the point, where a correct measurement rounds.
    truncated, rounded = images // 2, images // 2 + 1
    for pooling in ("image", "stack"):
        assert result["report_definitions"][pooling] == report_image_metrics(images, truncated, pooling)
    assert result["same_images"] == image_metrics(images, rounded)


@pytest.mark.parametrize(("items", "test_items", "tested"), [(None, None, 60), (300, 20, 20)])
def test_a_row_is_trained_and_measured_on_parts_of_the_data_where_it_says_so(items, test_items, tested, monkeypatch):
    _, (data, train_items) = trained(MLP, Row("commit 50", 50, RECIPE, items=items, test_items=test_items), monkeypatch)
    assert train_items == items and len(data.train_images) == 1200
    np.testing.assert_array_equal(data.test_images, DIGITS.test_images[:tested])
    np.testing.assert_array_equal(data.test_labels, DIGITS.test_labels[:tested])


def test_unrelated_images_are_each_of_the_first_1000_against_the_one_before():
    images = DIGITS.train_images[:1000]
    others = np.concatenate([images[-1:], images[:-1]])
    assert CNN.demonstration(DIGITS) == {
        "unrelated": {"report": report_image_metrics(images, others, "stack"), "correct": image_metrics(images, others)}
    }


def test_codes_of_the_cnn_have_4_x_4_x_16_numbers_times_the_model_s_width():
    assert [CNN.latent_size(size) for size in CNN.sizes] == [256, 512, 768]
    assert [MLP.latent_size(size) for size in MLP.sizes] == [10, 50, 100]


def test_a_row_of_the_default_table_has_the_most_dead_bits_of_its_seeds_and_its_yardstick():
    row = {
        "label": "commit 50",
        "quant": "commit",
        "latent_size": 50,
        "training_images": 55_000,
        "epochs": 20,
        "seeds": 3,
        "bits": 50,
        "cr": 125.44,
        "dead_bits": [1, 4, 2],
        "seconds": 30.4,
        "held_out": {"psnr": (17.5, 0.05), "ssim": (0.7, 0.001), "psnr_of_mean_mse": (16.5, None)},
    }
    limits = {"50": {"gaussian": 15.25, "pca": 21.5}}
    commit, vanilla = image_tables.default_table([row, {**row, "quant": "vanilla"}], limits).splitlines()[2:]
    assert commit == (
        "| commit 50 | 55000 x 20 x 3 | 50 | 125.44 | 17.50 ± 0.05 |  | 0.700 ± 0.001 | 16.50 | Gaussian 15.25 | 4 | 30 |"
    )
    assert "| PCA 21.50 |" in vanilla
    before = {**row, "before_threshold": {"psnr": (19.0, 0.5)}}
    assert "| 17.50 ± 0.05 | 19.00 ± 0.50 | 0.700" in image_tables.default_table([before], limits)
