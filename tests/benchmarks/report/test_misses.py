"""How much of a distance a trial closes, and when its move is more than chance."""

import pytest

from benchmarks.report import TABLES, misses
from benchmarks.report.misses import Trial
from benchmarks.report.rows import ALL_IMAGES, REDUCED

CNN = TABLES[2]
PSNR, SSIM, MSE = CNN.published["vanilla", "small"]
RANGES = {
    metric: max(column) - min(column)
    for metric, column in zip(CNN.metrics, zip(*CNN.published.values(), strict=True), strict=True)
}


def by_name(figures):
    return dict(zip(CNN.metrics, figures, strict=True))


def reason(trial, figures, deviation=0.0, seeds=3):
    """The Reason that `trial` is for a row of vanilla small with these figures."""
    pairs = {metric: (value, deviation) for metric, value in by_name(figures).items()}
    row = {
        "label": "vanilla small",
        "quant": "vanilla",
        "size": "small",
        "seeds": seeds,
        "epochs": 4,
        "published": (PSNR, SSIM, MSE),
        "training_images": 10_000,
        "report_stack": pairs,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(misses, "_recorded", lambda number: [trial])
        (miss,) = misses.misses({2: CNN}, {2: {"tables": {"report": [row]}}}, REDUCED)
    (found,) = miss.reasons
    return found


def whole_row(end, seeds=1):
    """A trial that begins at the row itself."""
    return Trial(2, "vanilla small", "more images", None, by_name(end), seeds, "a source")


# t(0.975, n - 1) s sqrt(1/n + 1/k) for s = 0.1, of n seeds of the row and k of the trial.
@pytest.mark.parametrize(("seeds", "of_trial", "reach"), [(4, 1, 0.355808), (5, 8, 0.158282), (3, 3, 0.351310)])
def test_a_move_within_t_of_its_standard_errors_is_chance(seeds, of_trial, reach):
    start = PSNR - 1
    for factor, explains in ((0.99, False), (1.01, True)):
        found = reason(whole_row((start + factor * reach, SSIM, MSE), of_trial), (start, SSIM, MSE), 0.1, seeds)
        assert found.explains == explains
        assert ("within chance" in found.sentence) == (not explains)
        assert found.share == pytest.approx(factor * reach if explains else 0)


# With both sides in the trial: its own seeds on both sides, and the row's spread with t(0.975, 2); or the error of its pairs
# with t(0.975, 7) or t(0.975, 1).
@pytest.mark.parametrize(
    ("of_trial", "error", "reach"), [(8, None, 0.215133), (2, None, 0.430265), (8, 0.25, 0.591156), (2, 0.25, 3.176551)]
)
def test_a_trial_with_both_sides_has_the_spread_of_its_own_seeds_or_of_its_pairs(of_trial, error, reach):
    start = PSNR - 2
    for factor, explains in ((0.99, False), (1.01, True)):
        sides = by_name((start, SSIM, MSE)), by_name((start + factor * reach, SSIM, MSE))
        of_pairs = error and dict.fromkeys(CNN.metrics, error)
        trial = Trial(2, "vanilla small", "more images", *sides, of_trial, "a source", of_pairs)
        assert ("within chance" in reason(trial, (PSNR - 3, SSIM, MSE), 0.1).sentence) == (not explains)


def test_shares_are_of_all_figures_together_in_units_of_their_columns_ranges():
    start = PSNR - RANGES["psnr"], SSIM - 2 * RANGES["ssim"], MSE + 5 * RANGES["mse"]
    end = PSNR - 0.5 * RANGES["psnr"], SSIM - 2 * RANGES["ssim"], MSE + 2 * RANGES["mse"]
    # Of 1 + 2 + 5 ranges 0.5 + 2 + 2 are left.
    found = reason(whole_row(end), start)
    assert found.share == pytest.approx(1 - 4.5 / 8)
    assert found.sentence.endswith("; closes 44% of the distance and leaves the rest unexplained.")


@pytest.mark.parametrize(
    ("left", "verdict"),
    [
        (0.499, "closes 50% of the distance."),
        (0.504, "closes 50% of the distance and leaves the rest unexplained."),
        (0.899, "closes 10% of the distance and leaves the rest unexplained."),
        (0.91, "does not explain it."),
        (1.099, "does not explain it."),
        (1.11, "does not explain it and moves away from the published figures."),
    ],
)
def test_verdicts_by_the_share_of_the_distance_that_is_left(left, verdict):
    found = reason(whole_row((PSNR - 2 * left, SSIM, MSE)), (PSNR - 2, SSIM, MSE))
    assert found.share == pytest.approx(1 - left)
    assert found.sentence.endswith("; " + verdict)
    assert found.explains == (left < 0.9)


@pytest.mark.parametrize(
    ("published", "ours", "is_chance"), [(28.19, 27.61, True), (28.19, 27.59, False), (28.21, 28.0, False)]
)
def test_a_row_is_chance_where_both_its_psnrs_are_near_that_of_unrelated_images(published, ours, is_chance):
    demonstration = {"demonstration": {"unrelated": {"report": {"psnr": 27.9}}}}
    said = misses._chance(demonstration, [misses.Figure("psnr", published, (ours, None), 1)])
    assert said == is_chance * [
        "Unrelated images score 27.90 dB by this definition: PSNR and MSE, published and ours, are at chance."
    ]


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("psnr", "PSNR 1.23, ours 4.57 ± 0.99"),
        ("ssim", "SSIM 1.235, ours 4.568 ± 0.988"),
        ("mse", "MSE 1.2, ours 4.6 ± 1.0"),
        ("mae", "MAE 1.2, ours 4.6 ± 1.0"),
        ("levenshtein", "edits 1.23, ours 4.57 ± 0.99"),
        ("jaccard_distance", "Jaccard 1.235, ours 4.568 ± 0.988"),
    ],
)
def test_a_figure_as_text_has_the_digits_of_its_metric(metric, text):
    assert str(misses.Figure(metric, 1.2346, (4.5678, 0.9876), 3)) == text
    assert str(misses.Figure(metric, 1.2346, (4.5678, None), 1)) == text.split(" ±")[0]


def test_one_seed_on_all_images_explains_nothing_but_the_smallest_row_s_several_do(monkeypatch):
    """And what a row was trained on cannot be a reason for itself."""

    def row(size, images, figures, seeds):
        whole = images == 50_000
        return {
            "label": f"vanilla {size}" + ALL_IMAGES * whole,
            "quant": "vanilla",
            "size": size,
            "seeds": seeds,
            "epochs": 4 if whole else 3,
            "published": CNN.published["vanilla", size],
            "training_images": images,
            "report_stack": {metric: (value, 0.001 if seeds > 1 else None) for metric, value in by_name(figures).items()},
        }

    rows = []
    for size, seeds in (("small", 3), ("medium", 1)):
        psnr, ssim, mse = CNN.published["vanilla", size]
        rows += [
            row(size, 10_000, (psnr - 1, ssim - 0.2, mse + 20), seeds),
            row(size, 50_000, (psnr - 0.1, ssim, mse), seeds),
        ]
    monkeypatch.setattr(misses, "_recorded", lambda number: [])
    found = {miss.label: miss for miss in misses.misses({2: CNN}, {2: {"tables": {"report": rows}}}, REDUCED)}
    own, of_smallest = found["vanilla medium"].reasons
    assert "the row has one seed, so the change may be chance" in own.sentence and not own.explains
    assert of_smallest.sentence.startswith("As for vanilla small: on 50,000 images") and of_smallest.explains
    assert found["vanilla medium, all images"].reasons == []
