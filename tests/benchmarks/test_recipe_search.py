"""The searches behind the recipes: they go on where they were stopped, and their best settings are the recipes'."""

import json
from pathlib import Path

import pytest

from benchmarks import recipe_search
from tinyqae import recipes, synthetic_digits, synthetic_sentences


def test_it_trains_what_is_missing_and_writes_a_table(tmp_path, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(recipe_search, "load_mnist", lambda directory: synthetic_digits(train=5200, test=10))
    monkeypatch.setattr(
        recipe_search.MLPSearch,
        "trials",
        [{"hidden": [6, 5], "normalized": normalized, "lr": 4e-3, "weight": 0.5} for normalized in (False, True)],
    )
    monkeypatch.setattr(recipe_search, "fit", lambda model, *arguments, **options: trained.append(model.config()))
    for _ in range(2):
        assert recipe_search.main(["mlp", "--out", str(tmp_path)]) == 0
    assert [config["normalize_hidden"] for config in trained] == [False, True]
    lines = (tmp_path / "recipe_search.md").read_text().splitlines()
    assert lines[-2].startswith("| 784-6-5 | no | 0.004 | 0.5 | ")
    assert lines[-1].startswith("| 784-6-5 | yes | 0.004 | 0.5 | ")
    assert capsys.readouterr().out.splitlines()[-1] == lines[-1]


def test_a_trial_of_the_lstm_changes_what_it_says(tmp_path, monkeypatch):
    pytest.importorskip("rapidfuzz")
    trained = []

    def remember(model, examples, optimizer, **arguments):
        trained.append(
            (model.units, model.splice, optimizer.lr, model.bottleneck.weight, model.bottleneck.noise, arguments["epochs"])
        )

    monkeypatch.setattr(recipe_search, "load_anki", lambda directory: synthetic_sentences(200))
    monkeypatch.setattr(
        recipe_search.LSTMSearch, "trials", [{"units": 5, "lr": 0.01, "weight": 0.3, "splice": 0.25, "noise": 0.1}]
    )
    monkeypatch.setattr(recipe_search, "fit", remember)
    assert recipe_search.main(["lstm", "--out", str(tmp_path)]) == 0
    assert trained == [(5, 0.25, 0.01, 0.3, 0.1, recipe_search.LSTMSearch.epochs)]
    assert "| 5 | 0.01 | 0.3 | 25% | 0.1 | " in (tmp_path / "recipe_search.md").read_text()


def published(name):
    """The trials of a search, which are all that it asks for."""
    trials = json.loads((Path(recipe_search.RESULTS) / "recipe_search.json").read_text())[name]["trials"]
    asked = recipe_search.SEARCHES[name].trials
    assert [{key: one[key] for key in settings} for one, settings in zip(trials, asked, strict=True)] == asked
    return trials


def test_the_mlps_recipe_is_among_the_trials_and_close_to_the_best():
    """Within 0.15 dB, since one rule is for all depths and each figure is of one seed."""
    trials = published("mlp")
    for hidden in {tuple(one["hidden"]) for one in trials}:
        recipe = recipes.mnist_mlp("default", "commit", hidden)
        of_network = [one for one in trials if tuple(one["hidden"]) == hidden]
        (ours,) = (
            one
            for one in of_network
            if (one["normalized"], one["lr"], one["weight"]) == (True, recipe.lr, recipe.bottleneck["weight"])
        )
        assert ours["psnr"] > max(one["psnr"] for one in of_network) - 0.15 and ours["dead_bits"] == 0


def test_the_transform_code_s_recipe_is_among_the_trials_and_close_to_the_best():
    """Within 0.02 dB: each figure is of one seed."""
    recipe, trials = recipes.cifar_cnn("default", "commit", "small", transform=True), published("transform")
    settings = recipe.lr, recipe.bottleneck["weight"], list(recipe.model["correction"])
    (ours,) = (one for one in trials if (one["lr"], one["weight"], one["correction"]) == settings)
    assert max(one["psnr"] for one in trials) - 0.02 < ours["psnr"] and ours["psnr"] > ours["untrained"]


def test_the_lstms_recipe_is_among_the_trials_and_close_to_the_best_as_small():
    """Within 0.15 edits: each figure is of one seed."""
    recipe, trials = recipes.anki_lstm("default", "commit", recipe_search.LSTMSearch.hidden), published("lstm")
    (ours,) = (
        one
        for one in trials
        if (one["units"], one["lr"], one["weight"], one["splice"], one["noise"])
        == (
            recipe.model["units"],
            recipe.lr,
            recipe.bottleneck["weight"],
            recipe.model["splice"],
            recipe.bottleneck.get("noise", 0),
        )
    )
    assert ours["edits"] < min(one["edits"] for one in trials if one["units"] == ours["units"]) + 0.15
