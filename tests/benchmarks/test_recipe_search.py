"""The search behind the recipe: it goes on where it was stopped, and its best settings are the recipe's."""
import json
from pathlib import Path

from benchmarks import recipe_search
from tinyqae import recipes, synthetic_digits


def test_it_trains_what_is_missing_and_writes_a_table(tmp_path, monkeypatch, capsys):
    trained = []
    monkeypatch.setattr(recipe_search, "load_mnist", lambda directory: synthetic_digits(train=5200, test=10))
    monkeypatch.setattr(recipe_search, "TRIALS", [((6, 5), False, 4e-3, 1.0), ((6, 5), True, 1e-2, 0.5)])
    monkeypatch.setattr(recipe_search, "EPOCHS", 1)
    monkeypatch.setattr(recipe_search, "fit", lambda model, *arguments, **options: trained.append(model.config()))
    for _ in range(2):
        assert recipe_search.main(["--out", str(tmp_path)]) == 0
    assert [config["normalize_hidden"] for config in trained] == [False, True]
    lines = (tmp_path / "recipe_search.md").read_text().splitlines()
    assert lines[-2].startswith("| 784-6-5 | no | 0.004 | 1 | ") and lines[-1].startswith("| 784-6-5 | yes | 0.01 | 0.5 | ")
    assert capsys.readouterr().out.splitlines()[-1] == lines[-1]


def test_the_recipe_s_settings_are_among_the_trials_and_close_to_the_best():
    """Within 0.15 dB, since one rule is for all depths and each figure is of one seed."""
    trials = json.loads((Path(recipe_search.RESULTS) / "recipe_search.json").read_text())["trials"]
    assert [(tuple(one["hidden"]), one["normalized"], one["lr"], one["weight"]) for one in trials] == recipe_search.TRIALS
    for hidden in {tuple(one["hidden"]) for one in trials}:
        recipe = recipes.mnist_mlp("default", "commit", hidden)
        of_network = [one for one in trials if tuple(one["hidden"]) == hidden]
        (ours,) = (one for one in of_network if (one["normalized"], one["lr"], one["weight"])
                   == (True, recipe.lr, recipe.bottleneck["weight"]))
        assert ours["psnr"] > max(one["psnr"] for one in of_network) - 0.15 and ours["dead_bits"] == 0
