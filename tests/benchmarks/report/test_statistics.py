"""What is concluded from figures over seeds: prediction intervals, Welch's test, Holm's correction, and no verdict from one
seed.
"""

import json
import math
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from benchmarks.report import TABLES, claims, misses, page, publish, ranking, readme, readme_tables, significance, weights
from benchmarks.report import why_missed as trials
from benchmarks.report.agreement import NEAR, OFF, RULE, WITHIN, agreement
from benchmarks.report.claims import FAILS, HOLDS, OWN_METRIC_ONLY, UNDECIDED, Check, View
from benchmarks.report.rows import REDUCED
from tinyqae import Adam, MLPAutoencoder, Vanilla

MLP, CNN, LSTM = (TABLES[number] for number in (1, 2, 3))
COLUMN = (20.0, 30.0)
NARROW = (24.9, 25.0)
"""A column in which hardly anything is near."""


# ---- significance ------------------------------------------------------------------------------------------------------


# t(0.975, n - 1) sqrt(1 + 1/n), from tables.
@pytest.mark.parametrize(
    ("seeds", "factor"),
    [(2, 12.7062 * 1.5**0.5), (3, 4.3027 * (4 / 3) ** 0.5), (5, 2.7764 * 1.2**0.5), (101, 1.98397 * (102 / 101) ** 0.5)],
)
@pytest.mark.parametrize("sign", [-1, 1])
def test_within_is_the_prediction_interval_of_one_more_run(seeds, factor, sign):
    assert significance.prediction_reach(0.5, seeds) == pytest.approx(0.5 * factor, rel=2e-5)
    for part, expected in ((0.999, WITHIN), (1.001, OFF)):
        assert agreement(25.0, (25.0 + sign * part * 0.5 * factor, 0.5), seeds, NARROW) == expected


def test_the_prediction_interval_has_one_more_run_in_95_of_100_cases():
    runs = np.random.default_rng(0).normal(size=(40_000, 4))
    one, others = runs[:, 0], runs[:, 1:]
    inside = np.abs(one - others.mean(axis=1)) <= significance.prediction_reach(others.std(axis=1, ddof=1), 3)
    assert inside.mean() == pytest.approx(0.95, abs=0.004)


def test_one_seed_is_never_within_and_no_spread_only_where_the_figures_are_equal():
    assert agreement(25.0, (25.0, None), 1, COLUMN) == NEAR
    assert agreement(25.0, (25.0, 0.0), 3, COLUMN) == WITHIN
    assert agreement(25.0, (25.1, 0.0), 3, COLUMN) == NEAR
    assert "t(0.975, n - 1) s √(1 + 1/n)" in RULE[WITHIN] and "scipy.stats.t" in RULE[WITHIN]


def test_welch_s_p_is_that_of_the_samples():
    a, b = np.random.default_rng(1).normal(size=5), np.random.default_rng(2).normal(1, 3, size=3)
    figures = [(float(np.mean(x)), float(np.std(x, ddof=1)), len(x)) for x in (a, b)]
    assert significance.welch(*figures) == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    # By hand: t = 1 / sqrt(0.09 / 9 + 0.64 / 4), degrees of freedom by Welch and Satterthwaite.
    t, freedom = 1 / math.sqrt(0.17), 0.17**2 / (0.01**2 / 8 + 0.16**2 / 3)
    assert significance.welch((21.0, 0.3, 9), (20.0, 0.8, 4)) == pytest.approx(2 * stats.t.sf(t, freedom))


def test_without_any_spread_what_differs_is_different():
    assert significance.welch((20.0, 0.0, 3), (20.0, 0.0, 2)) == 1
    assert significance.welch((20.1, 0.0, 3), (20.0, 0.0, 2)) == 0
    assert 0 < significance.welch((20.1, 0.0, 3), (20.0, 0.1, 3)) < 1
    assert significance.better([((20.1, 0.0, 3), (20.0, 0.0, 3), "psnr"), ((20.0, 0.0, 3), (20.0, 0.0, 3), "psnr")]) == [
        (True, 0.0),
        (False, 1.0),
    ]


def test_holm_multiplies_the_smallest_p_most_and_keeps_the_order():
    assert significance.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert significance.holm([0.5, 0.9]) == [1.0, 1.0]
    assert significance.holm([0.02]) == [0.02] and significance.holm([]) == []


@pytest.mark.parametrize(("metric", "sign"), [("psnr", 1), ("ssim", 1), ("mse", -1), ("levenshtein", -1)])
def test_better_needs_a_small_p_and_the_right_sign(metric, sign):
    # t(0.975, 4) sqrt(0.09 / 3 + 0.09 / 3) = 0.68006.
    for distance, expected in ((0.6802, True), (0.6799, False), (-0.6802, False)):
        ((found, p),) = significance.better([((20 + sign * distance, 0.3, 3), (20.0, 0.3, 3), metric)])
        assert found is expected and (p < 0.05) == (abs(distance) > 0.68)


def test_a_difference_that_is_significant_alone_may_not_be_among_many():
    close, equal = ((20.7, 0.3, 3), (20.0, 0.3, 3), "psnr"), ((20.0, 0.3, 3), (20.0, 0.3, 3), "psnr")
    assert [found for found, _ in significance.better([close])] == [True]
    assert [found for found, _ in significance.better([close, equal])] == [False, False]


def test_one_seed_is_not_compared_and_is_not_in_the_family():
    close, single = ((20.7, 0.3, 3), (20.0, 0.3, 3), "psnr"), ((29.0, None, 1), (20.0, 0.3, 3), "psnr")
    assert significance.better([single]) == [(None, None)]
    assert [found for found, _ in significance.better([single, close, single])] == [None, True, None]


# ---- claims ------------------------------------------------------------------------------------------------------------


def view(**figures):
    """A View of rows with these figures in every metric, {bottleneck: [(mean, deviation, seeds) of each size]}."""
    rows = {
        (quant, size): {
            "seeds": seeds,
            "undecided": (mean, deviation),
            "measured": dict.fromkeys(claims.NAMES, (mean, deviation)),
        }
        for quant, of_sizes in figures.items()
        for size, (mean, deviation, seeds) in zip("ABC", of_sizes, strict=False)
    }
    return View(rows, tuple("ABC"[: max(map(len, figures.values()))]), lambda row: "measured")


def several(*means):
    return [(mean, 0.01, 3) for mean in means]


def alone(*means):
    return [(mean, None, 1) for mean in means]


def holds(rule, **figures):
    return [check.holds for check in rule(view(**figures))]


def test_the_comparisons_of_a_claim_are_one_family():
    close = {"commit": [(20.7, 0.3, 3)] * 2, "naive": [(20.0, 0.3, 3)] * 2}
    assert holds(claims.better("commit", "naive", "psnr", sizes=("A",)), **close) == [True]
    at_a, at_b = (claims.better("commit", "naive", "psnr", sizes=(size,)) for size in "AB")
    assert holds(claims.both(at_a, at_b), **close) == [False, False]
    (first, second) = claims.both(at_a, at_b)(view(**close))
    alone_p = significance.welch((20.7, 0.3, 3), (20.0, 0.3, 3))
    assert first.p == second.p == float(f"{2 * alone_p:.3g}")


def test_what_is_not_significantly_better_is_no_better():
    rule = claims.not_better("fence", "naive", "psnr")
    assert holds(rule, fence=several(20, 21, 19), naive=several(20, 20, 20)) == [True, False, True]


@pytest.mark.parametrize(
    "rule",
    [
        claims.better("commit", "vanilla", "psnr"),
        claims.not_better("commit", "vanilla", "psnr"),
        claims.grows("psnr"),
        claims.share_kept("commit", "vanilla", "ssim", 0.9),
        claims.at_most_behind("commit", "vanilla", "psnr", 1),
        claims.bounded("commit", "undecided", 0.1, above=True),
    ],
)
def test_no_check_is_decided_by_a_single_seed(rule):
    for figures in ({"commit": alone(20, 25), "vanilla": alone(10, 15)}, {"commit": alone(1, 2), "vanilla": alone(10, 15)}):
        found = rule(view(**figures))
        assert found and all(check.holds is None and check.p is None for check in found)
    mixed = rule(view(commit=[*several(20), *alone(25)], vanilla=[*several(10), *alone(15)]))
    assert mixed[-1].holds is None


def test_margins_are_those_of_the_means():
    assert holds(claims.share_kept("commit", "vanilla", "ssim", 0.75), commit=several(6, 5.9), vanilla=several(8, 8)) == [
        True,
        False,
    ]
    assert holds(
        claims.at_most_behind("commit", "vanilla", "levenshtein", 1), commit=several(4, 4.1), vanilla=several(3, 3)
    ) == [True, False]
    assert holds(claims.bounded("naive", "undecided", 0.1, above=False), naive=several(0.09, 0.1)) == [True, False]


def test_verdicts_of_checks_that_are_undecided():
    yes, no, open_ = (Check("", (1.0, 0.1, 3), None, outcome) for outcome in (True, False, None))
    assert claims.verdict([yes], [yes, yes]) == HOLDS
    assert claims.verdict([yes], [yes, open_]) == claims.verdict(None, [open_]) == UNDECIDED
    assert claims.verdict([yes, yes], [no, open_]) == OWN_METRIC_ONLY
    assert claims.verdict([yes, open_], [no, open_]) == claims.verdict([no], [no]) == FAILS


def test_of_the_report_s_recipe_the_row_on_all_images_is_the_one_that_claims_are_about():
    def rows(*labels):
        return [{"label": label, "quant": "commit", "size": "small"} for label in labels]

    both = rows("commit small", "commit small, all images")
    seen = claims.views(CNN, {"report": both, "default": both})
    assert {name: one.rows["commit", "small"]["label"] for name, one in seen.items()} == {
        "own": "commit small, all images",
        "correct": "commit small, all images",
        "default": "commit small",
    }
    assert claims.views(CNN, {"report": rows("commit small")})["own"].rows["commit", "small"]["label"] == "commit small"


def test_the_page_and_the_readme_say_what_is_not_decided():
    checks = [
        Check("a comparison", (20.0, None, 1), (10.0, None, 1), None),
        Check("another", (3.0, 0.1, 3), None, True, 0.0123),
    ]
    claim = claims.CLAIMS[0]
    results = SimpleNamespace(
        published={1: {"tables": {"report": []}}},
        claims={1: [(claim, UNDECIDED, {"own": checks, "correct": checks, "default": []})]},
    )
    text = page.section(results, "claims")
    assert '<td class="undecided">one seed</td>' in text and '<td class="undecided">not decided: single seeds</td>' in text
    assert "1 of 2" in text and "(1 with one seed)" in text and "<td>0.0123</td>" in text
    counted = readme_tables.claims(SimpleNamespace(content={"claims": [{"verdict": UNDECIDED}, {"verdict": HOLDS}]}))
    assert counted.startswith("Of 2 checks of the report's claims, 1 hold, 1 are not decided (single seeds).")


# ---- the order of the bottlenecks, the weight of the commit loss ---------------------------------------------------------


def place(quant, mean, deviation, seeds):
    return {
        "label": f"{quant} 50",
        "quant": quant,
        "size": 50,
        "seeds": seeds,
        "normalized": True,
        "dead_bits": [0],
        "held_out": {"psnr": (mean, deviation)},
    }


def ranked(*rows):
    (found,) = ranking.rankings(MLP, {"tables": {"default": list(rows)}})
    return found


def test_who_is_worse_than_the_first_is_tested_as_one_family_and_one_seed_not_at_all():
    commit, close = place("commit", 20.7, 0.3, 3), place("fence", 20.0, 0.3, 3)
    assert ranking.against_the_first(ranked(commit, close)) == {"fence": True}
    found = ranked(commit, close, place("naive", 20.1, 0.3, 3), place("clipped", 10.0, None, 1))
    assert ranking.against_the_first(found) == {"naive": False, "fence": False, "clipped": None}
    assert ranking.words(found).endswith(". Not significantly worse: naive, fence. Not decided, with one seed: clipped.")
    far = ranked(commit, place("fence", 10.0, 0.3, 3), place("clipped", 10.0, None, 1))
    assert ranking.words(far).endswith("the next, fence. Not decided, with one seed: clipped.")


def test_weights_are_worse_than_the_best_by_the_same_rule():
    def weighted(weight, psnr, deviation=0.05, seeds=3):
        return {
            "label": f"commit 50, weight {weight:g}",
            "weight": weight,
            "seeds": seeds,
            "bits": 50,
            "held_out": {"psnr": (psnr, deviation), "ssim": (0.5, 0.01)},
            "distance_to_bit": (0.1, 0.01),
            "undecided": (0.1, 0.01),
            "dead_bits": [0] * seeds,
        }

    def said(*rows):
        return weights.words(weights.commit_weights(MLP, {"tables": {"default": list(rows)}}))

    # t(0.975, 4) sqrt(0.0025 * 2 / 3) is 0.113.
    assert "Significantly worse: 0.3 by 0.12 dB." in said(weighted(1, 18.0), weighted(0.3, 17.88))
    among_many = said(weighted(1, 18.0), weighted(0.3, 17.88), weighted(3, 18.0), weighted(10, 9.0, None, 1))
    assert "; not significantly worse: 0.3, 3. Not decided, with one seed: 10. Significance is decided" in among_many


# ---- why rows miss -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (0.5, misses.EXPLAINED),
        (0.499, misses.PARTLY_EXPLAINED),
        (0.1, misses.PARTLY_EXPLAINED),
        (0.099, misses.NOT_EXPLAINED),
        (-1.0, misses.NOT_EXPLAINED),
    ],
)
def test_the_share_of_the_distance_decides_on_the_verdict(share, verdict):
    assert misses._verdict(share) == verdict


def test_verdicts_are_counted():
    assert misses.counted([misses.NOT_EXPLAINED, misses.EXPLAINED, misses.NOT_EXPLAINED]) == "1 explained, 2 not explained"
    content = {
        "tables": {"1": {"tables": {"report": [{"label": label, "published": (1,)} for label in "abcde"]}}},
        "misses": [
            {"table": 1, "label": label, "verdict": verdict}
            for label, verdict in (("a", misses.EXPLAINED), ("b", misses.PARTLY_EXPLAINED), ("c", misses.NOT_EXPLAINED))
        ],
    }
    results = readme_tables.Results.__new__(readme_tables.Results)
    results.content = content
    assert results.missed(1) == (
        "2 of 5 rows of recipe `report` match all published figures within the spread over seeds. "
        "The others: 1 explained, 1 partly explained, 1 not explained (c); the reasons are in "
        "[tables.md](report/tables.md)."
    )


def test_a_trial_of_a_row_with_one_seed_explains_nothing(monkeypatch):
    psnr, ssim, mse = CNN.published["vanilla", "small"]
    end = dict(zip(CNN.metrics, (psnr, ssim, mse), strict=True))
    trial = misses.Trial(2, "vanilla small", "more of it", None, end, 1, "a source")
    monkeypatch.setattr(misses, "_recorded", lambda number: [trial])
    for deviation, seeds, verdict in ((0.01, 3, misses.EXPLAINED), (None, 1, misses.NOT_EXPLAINED)):
        figures = {metric: (value, deviation) for metric, value in zip(CNN.metrics, (psnr - 1, ssim, mse), strict=True)}
        row = {
            "label": "vanilla small",
            "quant": "vanilla",
            "size": "small",
            "seeds": seeds,
            "epochs": 4,
            "published": (psnr, ssim, mse),
            "report_stack": figures,
        }
        (miss,) = misses.misses({2: CNN}, {2: {"tables": {"report": [row]}}}, REDUCED)
        assert miss.verdict == verdict
        assert ("the row has one seed" in misses.why_in_words(miss)) == (seeds == 1)


# ---- the trials --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_keras_adam_does_keras_step(engine):
    model = MLPAutoencoder(Vanilla(), input_shape=(4, 4, 1), hidden=(3,), seed=0, dtype=np.float64, engine=engine)
    optimizer = trials.KerasAdam(lr=0.01, eps=1e-3)
    m = v = 0.0
    for t in (1, 2, 3):
        model.loss(np.random.default_rng(t).random((5, 4, 4, 1)))
        model.backward()
        before, g = (
            np.concatenate([array.ravel() for array in arrays]) for arrays in (model.parameters(), model.gradients())
        )
        optimizer.step(model)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        step = 0.01 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-3)
        after = np.concatenate([array.ravel() for array in model.parameters()])
        np.testing.assert_allclose(after, before - step, rtol=1e-10, atol=1e-14)
        # Adam's own eps stands beside the root of v / (1 - beta2^t).
        of_adam = 0.01 / (1 - 0.9**t) * m / (np.sqrt(v / (1 - 0.999**t)) + 1e-3)
        assert np.abs(step - of_adam).max() > 1e-4
    assert not isinstance(Adam(), trials.KerasAdam)


def test_trials_of_rows_trained_for_longer_are_other_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "TRIALS", tmp_path / "trials.json")
    (tmp_path / "trials.json").write_text("[]")
    rows = {epochs: SimpleNamespace(label="vanilla 256", recipe=SimpleNamespace(epochs=epochs)) for epochs in (5, 50)}
    for epochs, figure in ((5, 1.0), (50, 2.0), (5, 3.0)):
        means = {"all": {"levenshtein": 9.0}, "more": {"levenshtein": figure}}
        (made,) = trials.trials_of("lstm-longer", rows[epochs], means)
        trials.record("vanilla 256", [{"experiment": "lstm-longer", **made}])
    kept = json.loads((tmp_path / "trials.json").read_text())
    assert {(one["epochs"], one["change"], one["end"]["levenshtein"]) for one in kept} == {
        (5, "10 epochs in place of 5", 3.0),
        (50, "65 epochs in place of 50", 2.0),
    }


def test_a_quick_trial_trains_on_a_few_examples_and_records_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(trials, "TRIALS", tmp_path / "none.json")
    given = []

    def run(table, row, seed, data):
        given.append((row.label, row.items, seed))
        return {"a change": dict.fromkeys(table.metrics, 1.0)}

    monkeypatch.setitem(trials.EXPERIMENTS, "mlp", (1, run))
    monkeypatch.setattr(type(MLP), "load", staticmethod(lambda *_: SimpleNamespace(name="digits")))
    trials.main(["mlp", "--rows", "vanilla 10", "--seeds", "3", "--quick"])
    assert given == [("vanilla 10", trials.QUICK_ITEMS[1], 3)] and not (tmp_path / "none.json").exists()
    assert "vanilla 10 3 {'a change'" in capsys.readouterr().out


# ---- the committed results ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "amounts", "command"),
    [
        (
            ["--reduced"],
            {"report": "reduced", "default": "reduced"},
            "python -m benchmarks.report all --reduced --seeds 0-4",
        ),
        (
            ["--reduced", "default", "--seeds", "0-1"],
            {"report": "full", "default": "reduced"},
            "python -m benchmarks.report all --reduced default --seeds 0-1",
        ),
        ([], {"report": "full", "default": "full"}, "python -m benchmarks.report all --seeds 0-4"),
    ],
)
def test_publishing_takes_the_files_over_and_updates_the_readme(arguments, amounts, command, tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    page_ = tmp_path / "results" / "README.md"
    page_.write_text("".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in readme.OF_THE_REPORT))
    monkeypatch.setattr(publish, "REPORT", tmp_path / "results" / "report")
    monkeypatch.setattr(publish, "ARCHIVE", tmp_path / "results" / "report" / "rows.zip")
    monkeypatch.setattr(readme, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(readme, "SECTIONS", {name: lambda name=name: f"new {name}" for name in readme.OF_THE_REPORT})
    asked = {}

    def reproduce(tables, out, **settings):
        asked.update(settings)
        out.mkdir()
        for name in publish.FILES:
            (out / name).write_text(f"made: {name}")
        rows = [out / "asked.json", out / "beyond.json"]
        for path in rows:
            path.write_text("{}")
        asked_for, beyond = ([SimpleNamespace(path=path)] for path in rows)
        return SimpleNamespace(done=asked_for, beyond=beyond, missing=[], failures={})

    monkeypatch.setattr(publish, "reproduce", reproduce)
    publish.main(["--work", str(tmp_path / "work"), *arguments])
    assert asked["amounts"] == amounts and asked["command"] == command
    assert all((tmp_path / "results" / "report" / name).read_text() == f"made: {name}" for name in publish.FILES)
    assert zipfile.ZipFile(publish.ARCHIVE).namelist() == ["asked.json", "beyond.json"]
    assert "new table1\n" in page_.read_text() and "old" not in page_.read_text()
