"""The command `tinyqae` as a person uses it: files in, files out, standard streams, exit codes, one line for an error."""

import io
import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinyqae
from tinyqae import backend, checkpoint, codec
from tinyqae.bottlenecks import Commit, Vanilla
from tinyqae.cli import COMMANDS, data, files, main, make_parser, train
from tinyqae.data import TextData, synthetic_digits, synthetic_sentences, synthetic_shapes
from tinyqae.errors import BackendError
from tinyqae.models import MLPAutoencoder, Seq2SeqAutoencoder

REPOSITORY = Path(__file__).parents[2]
TEXT = "where is your daughter\nIt's 7:30.\n\nhe reads\n" + "a line that is much longer than what the model takes\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: path} of small models, which nobody trained."""
    folder = tmp_path_factory.mktemp("models")
    made = {
        "grey": MLPAutoencoder(Commit(), (16,)),
        "other": MLPAutoencoder(Commit(), (16,), seed=1),
        "colour": MLPAutoencoder(Commit(), (24,), (32, 32, 3)),
        "tiny": MLPAutoencoder(Commit(), (4,), (8, 8, 1)),
        "vanilla": MLPAutoencoder(Vanilla(), (16,)),
        "text": Seq2SeqAutoencoder(Commit(), 8, max_length=25),
    }
    for name, model in made.items():
        model.save(folder / f"{name}.npz")
    return {name: str(folder / f"{name}.npz") for name in made}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The empty directory in which the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def digits(here):
    """A stack of ten images in digits.npy."""
    stack = synthetic_digits(train=20, test=10).test_images
    np.save("digits.npy", stack)
    return stack


def command(*arguments, **options):
    """`python -m tinyqae` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", "tinyqae", *arguments], capture_output=True, env=environment, timeout=60, **options
    )


def refused(capsys, code, *arguments):
    """The one line that main(arguments) says before it exits with this code. Nothing is printed else."""
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    said, status = capsys.readouterr(), stopped.value.code
    line = said.err.strip()
    if isinstance(status, str):  # what Python itself prints, and exits with 1
        line, status = status, 1
    assert (status, said.out) == (code, "") and line.startswith("error: ") and "\n" not in line
    return line


def standard_input(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# ---- there and back ----------------------------------------------------------------------------------------------------


def test_a_stack_there_and_back(digits, models, capsys):
    assert main(["compress", "digits.npy", "-o", "digits.tqae", "--model", models["grey"]]) == 0
    size = os.path.getsize("digits.tqae")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"10 pictures: 7,968 bytes -> {size} bytes, ratio {7968 / size:.2f}\n"

    assert main(["decompress", "digits.tqae", "-o", "back.npy", "--model", models["grey"]]) == 0
    assert capsys.readouterr() == ("", "")
    np.testing.assert_array_equal(np.load("back.npy"), tinyqae.load(models["grey"]).reconstruct(digits)[..., 0])


def test_a_single_picture_of_another_size(here, models, capsys):
    Image.new("RGB", (50, 40), (10, 200, 30)).save("one.png")
    assert main(["compress", "one.png", "-o", "one.tqae", "--model", models["colour"]]) == 0
    assert main(["decompress", "one.tqae", "-o", "back.png", "--model", models["colour"]]) == 0
    assert capsys.readouterr().err.startswith("1 picture: ")
    assert Image.open("back.png").size == (50, 40)


def test_a_folder_of_pictures_keeps_its_names(here, models):
    Path("album").mkdir()
    for name, side in (("cat", 28), ("dog", 60)):
        Image.new("L", (side, 30), 99).save(f"album/{name}.png")
    assert main(["compress", "album", "-o", "album.tqae", "--model", models["grey"]]) == 0
    assert main(["decompress", "album.tqae", "-o", "back/", "--model", models["grey"]]) == 0
    assert {path.name: Image.open(path).size for path in Path("back").iterdir()} == {
        "cat.png": (28, 30),
        "dog.png": (60, 30),
    }


def test_a_text_says_how_many_lines_are_kept_verbatim_and_why(here, models, capsys):
    Path("book.txt").write_text(TEXT)
    assert main(["compress", "book.txt", "-o", "book.tqae", "--model", models["text"]]) == 0
    said = capsys.readouterr().err
    assert said.startswith(f"5 lines: {len(TEXT)} bytes -> ") and said.count("\n") == 1
    assert (
        "3 of 5 lines stored verbatim (1 with characters other than a to z, 0 to 9 and the space, 1 of more than 25 "
        "characters, 1 empty); --clean would"
    ) in said

    assert main(["decompress", "book.tqae", "-o", "back.txt", "--model", models["text"]]) == 0
    before, back = TEXT.split("\n"), Path("back.txt").read_text().split("\n")
    assert back[1:3] == before[1:3] and back[4:] == before[4:]
    assert [back[0], back[3]] == tinyqae.load(models["text"]).reconstruct([before[0], before[3]])


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_clean_writes_lines_in_the_alphabet_and_counts_them(newline, here, models, capsys):
    Path("book.txt").write_bytes(TEXT.replace("\n", newline).encode())
    assert main(["compress", "book.txt", "-o", "a.tqae", "--model", models["text"], "--clean", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["lines"], report["verbatim_lines"], report["cleaned_lines"]) == (5, 2, 1)
    assert report["verbatim_because"] == {"other_characters": 0, "too_long": 1, "empty": 1, "longest": 25}
    assert main(["decompress", "a.tqae", "-o", "back.txt", "--model", models["text"]]) == 0
    assert Path("back.txt").read_bytes().count(newline.encode()) == 5


def test_clean_keeps_letters_and_word_borders_and_says_what_is_lost(here, models, capsys):
    Path("menu.txt").write_text("Où est le café?\tici\nthe bill\n", encoding="utf-8")
    arguments = ["compress", "menu.txt", "-o", "a.tqae", "--model", models["text"], "--clean"]
    assert main(arguments) == 0
    assert capsys.readouterr().err.endswith("; --clean changed 1 line, 1 character lost\n")
    assert main([*arguments, "--json", "--force"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["verbatim_lines"], report["cleaned_lines"], report["lost_characters"]) == (0, 1, 1)
    assert files._cleaned("Où est le café?\tici\r\nthe bill")[0] == "ou est le cafe ici\r\nthe bill"


def test_standard_input_and_output(digits, models, monkeypatch, capsysbinary):
    standard_input(monkeypatch, Path("digits.npy").read_bytes())
    assert main(["compress", "-", "-o", "-", "--model", models["grey"]]) == 0
    data = capsysbinary.readouterr().out
    assert codec.contents(data)["pictures"] == 10

    standard_input(monkeypatch, data)
    assert main(["decompress", "-", "-o", "-", "--model", models["grey"]]) == 0
    back = np.load(io.BytesIO(capsysbinary.readouterr().out))
    np.testing.assert_array_equal(back, tinyqae.load(models["grey"]).reconstruct(digits)[..., 0])

    standard_input(monkeypatch, data)
    assert main(["info", "-", "--json"]) == 0
    assert json.loads(capsysbinary.readouterr().out)["bytes"] == len(data)


def test_json_says_what_was_done(digits, models, capsys):
    main(["compress", "digits.npy", "-o", "digits.tqae", "--model", models["grey"], "--json"])
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert said.err == ""
    assert report == {
        "kind": "images",
        "pictures": 10,
        "bytes_in": 7968,
        "bytes_out": os.path.getsize("digits.tqae"),
        "ratio": 7968 / os.path.getsize("digits.tqae"),
        "notes": [],
        "output": "digits.tqae",
        "model": models["grey"],
        "model_id": tinyqae.load(models["grey"]).model_id(),
    }


def test_a_shipped_model_is_found_by_its_name_and_by_the_file_s_id(digits, capsys):
    name = next(name for name in codec.shipped_models() if name.startswith("mlp"))
    assert main(["compress", "digits.npy", "-o", "a.tqae", "--model", name]) == 0
    assert main(["decompress", "a.tqae", "-o", "back.npy"]) == 0
    np.testing.assert_array_equal(np.load("back.npy"), codec.shipped(name).reconstruct(digits)[..., 0])
    capsys.readouterr()
    assert main(["info", "a.tqae"]) == 0
    printed = capsys.readouterr().out
    size = os.path.getsize("a.tqae")
    assert f"{name}, which comes with tinyqae" in printed
    assert f"bits per pixel {8 * size / 7840:.4g}, ratio to raw pixels {7840 / size:.4g}" in printed


# ---- info --------------------------------------------------------------------------------------------------------------


def test_info_lists_every_byte(digits, models, capsys):
    main(["compress", "digits.npy", "-o", "a.tqae", "--model", models["grey"]])
    capsys.readouterr()
    assert main(["info", "a.tqae", "--json"]) == 0
    found, size = json.loads(capsys.readouterr().out), os.path.getsize("a.tqae")
    ends = [field["offset"] + field["length"] for field in found["fields"]]
    assert [field["offset"] for field in found["fields"]] == [0, *ends[:-1]] and ends[-1] == size == found["bytes"]
    assert {"magic", "model id", "payload", "checksum"} <= {field["name"] for field in found["fields"]}
    assert (found["pictures"], found["bits"], found["model"]) == (10, 16, None)
    assert found["bits_per_picture"] == 8 * size / 10

    assert main(["info", "a.tqae"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"a.tqae: {size} bytes, 10 pictures\n10 codes of 16 bits, packed\n")
    assert "not one that comes with tinyqae" in printed and f"bits per picture {8 * size / 10:.4g}" in printed


def test_info_on_pictures_of_several_sizes_and_on_a_text(here, models, capsys):
    Image.new("L", (30, 20)).save("a.png")
    Image.new("L", (8, 8)).save("b.png")
    main(["compress", "a.png", "b.png", "-o", "ab.tqae", "--model", models["tiny"]])
    main(["info", "ab.tqae"])
    printed = capsys.readouterr().out
    assert "2 pictures (height x width 20x30, 8x8)\n13 codes of 4 bits" in printed
    assert f"bits per pixel {8 * os.path.getsize('ab.tqae') / 664:.4g}" in printed

    Path("book.txt").write_text(TEXT)
    main(["compress", "book.txt", "-o", "book.tqae", "--model", models["text"]])
    capsys.readouterr()
    main(["info", "book.tqae"])
    printed, size = capsys.readouterr().out, os.path.getsize("book.tqae")
    assert "5 lines of text, 3 of them verbatim" in printed
    assert printed.endswith(f"bits per line {8 * size / 5:.4g}\n")


# ---- what goes wrong ---------------------------------------------------------------------------------------------------


def test_errors_are_one_line_and_leave_no_file(digits, models, capsys):
    main(["compress", "digits.npy", "-o", "a.tqae", "--model", models["grey"]])
    Image.new("RGB", (28, 28), (200, 10, 30)).save("colour.png")
    Path("damaged.tqae").write_bytes(Path("a.tqae").read_bytes()[:-1])
    Path("nothing.txt").write_bytes(b"")
    Path("latin.txt").write_bytes("café\n".encode("latin-1"))
    capsys.readouterr()
    before = sorted(os.listdir())
    to, back = ["-o", "new.tqae", "--model"], ["-o", "new.npy"]
    for arguments_, words in [
        (["compress", "missing.npy", *to, models["grey"]], "missing.npy"),
        (["compress", "digits.npy", *to, "missing.npz"], "missing.npz"),
        (["compress", "digits.npy", *to, "digits.npy"], "not written by tinyqae"),
        (["compress", "digits.npy", *to, models["vanilla"]], "vanilla"),
        (["compress", "colour.png", *to, models["grey"]], "in colour"),
        (["compress", "nothing.txt", *to, models["text"]], "nothing.txt is empty"),
        (["compress", "latin.txt", *to, models["text"]], "UTF-8"),
        (["compress", "digits.npy", "-o", ".", "--model", models["grey"]], "it exists and is not a regular file"),
        (["compress", "digits.npy", "-o", "digits.npy/new", "--model", models["grey"]], "digits.npy"),
        (["decompress", "missing.tqae", *back], "missing.tqae: No such file or directory"),
        (["decompress", "digits.npy", *back], "not a .tqae file"),
        (["decompress", "damaged.tqae", *back, "--model", models["grey"]], "is truncated"),
        (["decompress", "a.tqae", *back], f"needs the model {tinyqae.load(models['grey']).model_id()[:16]}, which does not"),
        (["decompress", "a.tqae", *back, "--model", models["other"]], tinyqae.load(models["other"]).model_id()[:16]),
        (["decompress", "a.tqae", "-o", "new.jpg", "--model", models["grey"]], "new.jpg"),
        (["info", "damaged.tqae"], "is truncated"),
        (["evaluate", models["tiny"]], "images of 8x8x1"),
    ]:
        assert words in refused(capsys, 1, *arguments_)
        assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("arguments_", "words"),
    [
        (["shrink"], "shrink"),
        (["compress", "a.png", "b.png", "--model", "x"], "-o"),
        (["compress"], "INPUT"),
        (["compress", "digits.npy", "-o", "a", "--model", "x", "--level", "9"], "--level"),
        (["decompress", "a.bin"], "-o"),
        (["data"], "action"),
        (["data", "fetch", "imagenet"], "'imagenet' is not one of"),
        (["train"], "MODEL"),
        (["train", "mnist-mlp", "--epochs", "0"], "--epochs"),
        (["evaluate"], "MODEL"),
    ],
)
def test_wrong_usage_is_one_line(arguments_, words, here, capsys):
    assert words in refused(capsys, 2, *arguments_)
    assert os.listdir() == []


def test_wrong_usage_that_only_the_model_tells(digits, models, capsys):
    assert "--clean: it applies to text" in refused(
        capsys, 2, "compress", "digits.npy", "-o", "a", "--model", models["grey"], "--clean"
    )
    assert "standard output" in refused(capsys, 2, "compress", "digits.npy", "-o", "-", "--model", models["grey"], "--json")
    assert "--dataset" in refused(capsys, 2, "evaluate", models["grey"], "--dataset", "anki")
    assert os.listdir() == ["digits.npy"]


def test_a_text_that_comes_out_otherwise_is_written_with_a_warning(here, models, monkeypatch, capsys):
    Path("book.txt").write_text(TEXT)
    main(["compress", "book.txt", "-o", "book.tqae", "--model", models["text"]])
    monkeypatch.setattr(Seq2SeqAutoencoder, "decode", lambda self, code, beam=None: ["otherwise"] * len(code))
    capsys.readouterr()
    assert main(["decompress", "book.tqae", "-o", "back.txt", "--model", models["text"]]) == 3
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("warning: ") and said.err.count("\n") == 1
    assert Path("back.txt").read_text().startswith("otherwise\nIt's 7:30.\n")


# ---- names of outputs, and what must not be overwritten ----------------------------------------------------------------


def test_the_output_is_named_after_the_input_and_back(digits, models, capsys):
    assert main(["compress", "digits.npy", "-m", models["grey"]]) == 0
    os.rename("digits.npy", "original.npy")
    assert main(["decompress", "digits.npy.tqae", "-m", models["grey"]]) == 0
    assert sorted(os.listdir()) == ["digits.npy", "digits.npy.tqae", "original.npy"]
    np.testing.assert_array_equal(np.load("digits.npy"), tinyqae.load(models["grey"]).reconstruct(digits)[..., 0])


def test_a_folder_and_a_text_are_named_likewise(here, models):
    Path("album").mkdir()
    for name in "ab":
        Image.new("L", (28, 28), 9).save(f"album/{name}.png")
    Path("book.txt").write_text(TEXT)
    assert main(["compress", "album/", "-m", models["grey"]]) == 0
    assert main(["compress", "book.txt", "-m", models["text"]]) == 0
    os.rename("album", "before")
    os.rename("book.txt", "before.txt")
    assert main(["decompress", "album.tqae", "-m", models["grey"]]) == 0
    assert main(["decompress", "book.txt.tqae", "-m", models["text"]]) == 0
    assert sorted(os.listdir("album")) == ["a.png", "b.png"] and Path("book.txt").is_file()


def test_standard_input_goes_to_standard_output(digits, models, monkeypatch, capsysbinary):
    standard_input(monkeypatch, Path("digits.npy").read_bytes())
    assert main(["compress", "-", "-q", "-m", models["grey"]]) == 0
    said = capsysbinary.readouterr()
    assert codec.contents(said.out)["pictures"] == 10 and said.err == b""


@pytest.mark.parametrize(
    "command_",
    [
        ["compress", "digits.npy", "-o", "there"],
        ["decompress", "a.tqae", "-o", "there"],
        ["decompress", "a.tqae", "-o", "there.npy"],
    ],
)
def test_an_output_that_exists_is_overwritten_by_force_only(command_, digits, models, capsys):
    main(["compress", "digits.npy", "-o", "a.tqae", "-m", models["grey"]])
    output = Path(command_[-1])
    output.write_bytes(b"precious")
    capsys.readouterr()
    assert f"{output} exists; --force overwrites it" in refused(capsys, 2, *command_, "-m", models["grey"])
    assert output.read_bytes() == b"precious"
    if output.suffix or command_[0] == "compress":
        assert main([*command_, "--force", "-m", models["grey"]]) == 0
        assert output.read_bytes() != b"precious"


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_an_output_that_is_an_input_or_in_one_is_refused(force, digits, models, capsys):
    Path("album").mkdir()
    Image.new("L", (28, 28)).save("album/a.png")
    os.link("digits.npy", "link.npy")
    main(["compress", "digits.npy", "-o", "a.tqae", "-m", models["grey"]])
    model = Path("model.npz")
    model.write_bytes(Path(models["grey"]).read_bytes())
    capsys.readouterr()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    for arguments_, words in [
        (["compress", "digits.npy", "-o", "digits.npy"], "digits.npy is the input digits.npy"),
        (["compress", "digits.npy", "-o", "link.npy"], "link.npy is the input"),
        (["compress", "album", "-o", "album/a.tqae"], "lies in the input album"),
        (["decompress", "a.tqae", "-o", "a.tqae"], "a.tqae is the input"),
        (["decompress", "a.tqae", "-o", "model.npz"], "model.npz is the input model.npz"),
        (["compress", "digits.npy", "-o", "model.npz"], "model.npz is the input model.npz"),
    ]:
        assert words in refused(capsys, 2, *arguments_, *force, "-m", "model.npz")
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def test_an_earlier_run_is_kept_unless_told_otherwise(here, monkeypatch, capsys):
    monkeypatch.setattr(train, "synthetic_digits", lambda seed: synthetic_digits(100, 40, seed))
    arguments_ = ["train", "mnist-mlp", "--dataset", "synthetic", "--epochs", "1", "--bits", "12", "--quiet"]
    assert main(arguments_) == 0
    before = Path("runs/mnist-mlp-commit-12/model.npz").read_bytes()
    assert "--resume continues it, --force replaces it" in refused(capsys, 2, *arguments_, "--seed", "1")
    assert Path("runs/mnist-mlp-commit-12/model.npz").read_bytes() == before
    assert main([*arguments_, "--resume"]) == 0
    assert Path("runs/mnist-mlp-commit-12/model.npz").read_bytes() == before
    assert main([*arguments_, "--seed", "1", "--force"]) == 0
    assert Path("runs/mnist-mlp-commit-12/model.npz").read_bytes() != before


@pytest.mark.skipif(checkpoint.fcntl is None, reason="no file locks on this system")
def test_two_runs_in_one_directory_exclude_each_other(tmp_path, capsys):
    arguments_ = [
        "train",
        "mnist-mlp",
        "--dataset",
        "synthetic",
        "--epochs",
        "1",
        "--train-images",
        "200",
        "-q",
        "-o",
        str(tmp_path),
    ]
    with checkpoint.locked(tmp_path):
        assert "another run is writing there" in refused(capsys, 1, *arguments_)
        assert list(tmp_path.iterdir()) == []
    assert main(arguments_) == 0


def test_bits_mean_the_code_s_size_for_every_model(capsys):
    for name, bits, option, value in (
        ("mnist-mlp", 30, "hidden", (30,)),
        ("cifar-cnn", 512, "size", "medium"),
        ("anki-lstm", 64, "hidden", 32),
    ):
        args = make_parser("train").parse_args(["train", name, "--bits", str(bits)])
        assert getattr(args, option) == value
    assert "256, 512, 768" in refused(capsys, 2, "train", "cifar-cnn", "--bits", "300")


@pytest.mark.parametrize("name", train.PROGRAMS)
def test_help_names_the_values_of_defaults(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", name, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    recipe = {"mnist-mlp": ("mlp", (50,)), "cifar-cnn": ("cnn", "small"), "anki-lstm": ("lstm", 128)}[name][1]
    recipe = train.PROGRAMS[name].recipe("default", "commit", recipe)
    for value in (f"default: {recipe.epochs}", f"default: {recipe.batch_size}", f"default: {recipe.lr:g}"):
        assert value in said
    assert "the recipe's" not in said


@pytest.mark.parametrize(
    "arguments_",
    [["--help"], ["info", "a.tqae"], ["compress", "digits.npy", "-o", "b.tqae", "-m", "mlp-50"]],
    ids=lambda arguments_: arguments_[0],
)
def test_commands_import_only_what_they_need(arguments_, digits):
    main(["compress", "digits.npy", "-o", "a.tqae", "-m", "mlp-50"])
    code = (
        "import sys, tinyqae.cli\ntry:\n    tinyqae.cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('matplotlib', 'skimage', 'scipy', 'numba', 'nltk', 'pooch', 'requests', 'cupy')"
        " if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments_],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=60,
    )
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.skipif(sys.platform == "win32", reason="the console there has another encoding of names")
def test_names_that_the_console_cannot_encode_are_escaped(digits, models):
    os.rename("digits.npy", "数字.npy")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "cp1252"}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tinyqae", *arguments], capture_output=True, env=environment, timeout=60
        )

    done = run("compress", "数字.npy", "-v", "-m", models["grey"])
    assert done.returncode == 0 and rb"\u6570\u5b57.npy.tqae" in done.stderr
    done = run("info", "数字.npy.tqae")
    assert done.returncode == 0 and done.stdout.startswith(rb"\u6570\u5b57.npy.tqae: ")
    done = run("info", "没有.tqae")
    assert done.returncode == 1 and done.stderr.startswith(b"error: ") and done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("option", [["--batch-size", "1"], ["--train-images", "1"]])
def test_too_few_examples_are_one_line(option, here, monkeypatch, capsys):
    monkeypatch.setattr(train, "synthetic_digits", lambda seed: synthetic_digits(20, 10, seed))
    said = refused(capsys, 1, "train", "mnist-mlp", "--dataset", "synthetic", "--epochs", "1", "--quiet", *option)
    assert "batch norm in training needs at least 2 values of each channel, got 1" in said


@pytest.mark.parametrize("option", ["--hidden", "--epochs", "--batch-size", "--train-images", "--bits"])
def test_numbers_beyond_all_arrays_are_wrong_usage(option, here, capsys):
    assert "below 2147483648" in refused(capsys, 2, "train", "mnist-mlp", option, "9" * 23)


def test_every_command_is_in_the_list(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    said = capsys.readouterr().out
    for name, (_, summary) in COMMANDS.items():
        assert f"    {name}" in said and f"{name} {summary}" in " ".join(said.split())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to catch")
def test_sigterm_says_stopped_and_leaves_no_file(digits, models):
    started = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time, tinyqae.cli, tinyqae.codec as codec\n"
            "def slow(*args, **options):\n    print('ready', flush=True)\n    time.sleep(60)\n"
            "codec.compress = slow\ntinyqae.cli.main(['compress', 'digits.npy', '-o', 'a.tqae', '-m', 'mlp-50'])",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert started.stdout.readline() == "ready\n"
    started.terminate()
    assert started.communicate(timeout=30)[1] == "stopped\n" and started.returncode == 143
    assert os.listdir() == ["digits.npy"]


def test_ctrl_c_says_stopped(digits, models, monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(codec, "compress", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main(["compress", "digits.npy", "-o", "a.tqae", "--model", models["grey"]])
    assert stopped.value.code == 130 and capsys.readouterr() == ("", "stopped\n")
    assert os.listdir() == ["digits.npy"]


# ---- as a process ------------------------------------------------------------------------------------------------------


def test_alone_it_prints_its_help_and_with_version_its_version(capsys):
    done = command()
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"usage: tinyqae ") and b"decompress" in done.stdout
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"tinyqae {tinyqae.__version__}\n"


@pytest.mark.parametrize("name", ["compress", "decompress", "info", "train", "evaluate", "export", "data"])
def test_every_command_explains_itself_with_an_example(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert f"\n  tinyqae {name} " in capsys.readouterr().out


def test_a_pipe_between_two_processes_and_a_failure(digits, models):
    done = command("compress", "-", "-o", "-", "--model", models["grey"], input=Path("digits.npy").read_bytes())
    assert done.returncode == 0 and done.stderr.startswith(b"10 pictures: ")
    done = command("decompress", "-", "-o", "-", input=done.stdout)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: - needs the model ") and done.stderr.count(b"\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="closed pipes show otherwise")
def test_a_closed_pipe_ends_it_quietly(digits, models):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "tinyqae", "data", "where"],
        stdout=writing,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=60,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


# ---- train, evaluate, data ---------------------------------------------------------------------------------------------


def test_train_and_evaluate_digits(here, monkeypatch, capsys):
    monkeypatch.setattr(train, "synthetic_digits", lambda seed: synthetic_digits(300, 60, seed))
    arguments_ = ["train", "mnist-mlp", "--dataset", "synthetic", "--epochs", "1", "--hidden", "12", "--json"]
    assert main(arguments_) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["settings"]["command"] == "tinyqae " + " ".join(arguments_)
    assert Path("runs/mnist-mlp-commit-12/model.npz").is_file()

    assert main(["evaluate", "runs/mnist-mlp-commit-12/model.npz", "--dataset", "synthetic"]) == 0
    printed = capsys.readouterr().out
    assert "SYNTHETIC, NOT MNIST\n" in printed and "held-out test images" in printed and "training images" not in printed
    assert "all of them in one .tqae file: " in printed
    assert main(["evaluate", "runs/mnist-mlp-commit-12/model.npz", "--dataset", "synthetic", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["test"] == pytest.approx(trained["test"])
    assert measured["file"]["cr"] == 60 * 784 / measured["file"]["bytes"]
    assert measured["settings"]["data"]["test"] == 60


@pytest.mark.parametrize("engine_name", ["reference", "fast"])
def test_train_and_evaluate_take_an_engine(engine_name, here, monkeypatch, capsys):
    monkeypatch.setattr(train, "synthetic_digits", lambda seed: synthetic_digits(100, 40, seed))
    common = ["--dataset", "synthetic", "--engine", engine_name, "--json"]
    assert main(["train", "mnist-mlp", "--epochs", "1", "--hidden", "12", *common]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert trained["settings"]["engine"] == engine_name
    assert main(["evaluate", "runs/mnist-mlp-commit-12/model.npz", *common]) == 0
    assert json.loads(capsys.readouterr().out)["test"] == pytest.approx(trained["test"])


@pytest.mark.parametrize(
    "arguments_",
    [
        ("evaluate", "mlp-50", "--dataset", "synthetic"),
        ("train", "mnist-mlp", "--dataset", "synthetic"),
        ("compress", "digits.npy", "-o", "digits.tqae", "--model", "mlp-50"),
    ],
    ids=lambda arguments_: arguments_[0],
)
def test_an_unknown_engine_in_the_environment_is_refused_in_one_line(arguments_, digits, monkeypatch, capsys):
    monkeypatch.setattr(train, "synthetic_digits", lambda seed: synthetic_digits(20, 10, seed))
    monkeypatch.setenv("TINYQAE_ENGINE", "turbo")
    assert "TINYQAE_ENGINE='turbo' is unknown; choose one of reference, fast" in refused(capsys, 1, *arguments_)


def test_an_unknown_engine_is_refused_as_wrong_usage(here, capsys):
    assert "--engine: invalid choice: 'turbo'" in refused(capsys, 2, "train", "mnist-mlp", "--engine", "turbo")


def test_evaluate_colour_pictures_and_sentences(models, monkeypatch, capsys):
    monkeypatch.setattr(train, "synthetic_shapes", lambda seed: synthetic_shapes(20, 30, seed))
    assert main(["evaluate", models["colour"], "--dataset", "synthetic"]) == 0
    assert "SYNTHETIC, NOT CIFAR-10\n" in capsys.readouterr().out

    for package in ("rapidfuzz", "nltk", "simplemma"):
        pytest.importorskip(package, reason="sentences are measured with the extra `text`")
    monkeypatch.setattr(train, "synthetic_sentences", lambda seed: synthetic_sentences(100, seed))
    assert main(["evaluate", models["text"], "--dataset", "synthetic", "--split", "length", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["test"]["levenshtein"] > 0 and measured["file"]["cr"] > 0 and "train" not in measured


def test_evaluate_a_model_of_floats_has_no_file(models, monkeypatch, capsys):
    monkeypatch.setattr(train, "synthetic_digits", lambda seed: synthetic_digits(20, 30, seed))
    assert main(["evaluate", models["vanilla"], "--dataset", "synthetic"]) == 0
    printed = capsys.readouterr().out
    assert "512 bits per image" in printed and ".tqae" not in printed


@pytest.fixture
def pairs(here):
    """A data directory with Anki pairs alone."""
    Path("fra-eng").mkdir()
    Path("fra-eng/fra.txt").write_text("Go.\tVa !\nRun!\tCours !\n")
    return here


def test_data_where_and_verify(pairs, capsys):
    assert main(["data", "where", "--data-dir", "."]) == 0
    mnist, cifar10, anki = capsys.readouterr().out.splitlines()
    assert mnist.startswith("mnist: mnist: missing train-images-idx3-ubyte.gz, ")
    assert cifar10.startswith("cifar10: cifar-10-batches-bin: missing data_batch_1.bin, ")
    assert anki == "anki: fra-eng: complete"

    assert main(["data", "verify", "anki", "--data-dir", "."]) == 0
    assert capsys.readouterr().out.startswith("anki: 2 sentences, SHA-256 ")
    assert main(["data", "verify", "--data-dir", "."]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "tinyqae data fetch mnist" in lines[0]


def test_data_verify_names_what_is_altered(pairs, capsys):
    Path("fra-eng/fra.txt").write_text("one column\n")
    Path("mnist").mkdir()
    for file in data.mnist.FILES:
        Path("mnist", file.name).write_bytes(b"something else")
    assert main(["data", "verify", "mnist", "anki", "--data-dir", "."]) == 1
    mnist, anki = capsys.readouterr().out.splitlines()
    assert "mnist/train-images-idx3-ubyte: truncated or not MNIST's file" in mnist
    assert "line 1 has 1 columns" in anki


def test_data_fetch_says_where_it_is(pairs, monkeypatch, capsys):
    assert main(["data", "fetch", "anki", "--data-dir", "."]) == 0
    assert capsys.readouterr().out == "anki: Anki fra-eng, from fra.txt in the data directory: fra-eng\n"

    def load(data_dir, **options):
        asked.append((data_dir, options))
        return TextData(("go",), "CIFAR-10 proxy", "", "nowhere")

    def fail(data_dir, **options):
        raise tinyqae.errors.DataError("MNIST: missing a. Put it there\n  one mirror: HTTP status 503")

    asked = []
    monkeypatch.setitem(data.DATA_SETS, "mnist", data.DataSet("folder", [], fail))
    monkeypatch.setitem(data.DATA_SETS, "cifar10", data.DataSet("folder", [], load))
    # One that fails does not keep the next one from coming.
    assert main(["data", "fetch", "mnist", "cifar10", "--data-dir", ".", "--allow-modified-data"]) == 1
    assert capsys.readouterr() == (
        "cifar10: CIFAR-10 proxy, from nowhere: folder\n",
        "mnist: MNIST: missing a. Put it there\n  one mirror: HTTP status 503\n",
    )
    assert asked == [(".", {"download": True, "progress": False, "allow_modified_data": True})]


# ---- a GPU -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("compress", "digits.npy", "-o", "digits.tqae", "--model", "mlp-50"),
        ("decompress", "digits.tqae", "-o", "back.npy"),
        ("evaluate", "mlp-50"),
        ("train", "mnist-mlp"),
        ("train", "cifar-cnn"),
        ("train", "anki-lstm"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_every_command_takes_a_gpu_and_says_in_one_line_when_there_is_none(arguments, digits, capsys, monkeypatch):
    def missing():
        raise BackendError("no CUDA device can be seen")

    monkeypatch.setattr(backend, "_import_cupy", missing)
    assert "backend='cupy': no CUDA device can be seen" in refused(capsys, 1, *arguments, "--backend", "cupy")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero on this system")
@pytest.mark.parametrize("command_", ["info", "decompress"])
def test_a_file_without_end_is_not_read_to_its_end(command_, capsys, tmp_path):
    arguments_ = [] if command_ == "info" else ["-o", str(tmp_path / "out")]
    assert "this is not a .tqae file: it begins with" in refused(capsys, 1, command_, "/dev/zero", *arguments_)


@pytest.mark.parametrize(
    ("arguments_", "option"),
    [
        (["train", "mnist-mlp", "--out", ""], "-o/--out"),
        (["train", "cifar-cnn", "--images", ""], "--images"),
        (["train", "anki-lstm", "--text="], "--text"),
        (["info", ""], "file"),
        (["compress", "x.npy", "-m", "mlp-50", "-o", ""], "-o/--output"),
        (["data", "where", "--data-dir", ""], "--data-dir"),
    ],
    ids=str,
)
def test_an_empty_value_is_refused(arguments_, option, capsys, here):
    assert f"argument {option}: '' is empty" in refused(capsys, 2, *arguments_)
    assert list(here.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the shell there cannot close streams")
@pytest.mark.parametrize(
    ("arguments_", "closed", "code", "words"),
    [
        ("compress digits.npy -m mlp-50", "<&- >&- 2>&-", 0, ""),
        ("compress digits.npy -m mlp-50", ">&-", 0, "20 pictures"),
        ("compress digits.npy -m mlp-50 -o -", ">&-", 1, "standard output: it is closed"),
        ("compress - -m mlp-50 -o a.tqae", "<&-", 1, "standard input is empty"),
        ("info -", "<&-", 1, "not a .tqae file"),
        ("data where", ">&-", 1, "standard output is closed"),
        ("info nothing", "2>&-", 1, ""),
        ("shrink", "2>&-", 2, ""),
    ],
)
def test_closed_streams(arguments_, closed, code, words, here):
    np.save("digits.npy", synthetic_digits(train=20, test=20).test_images)
    done = subprocess.run(
        f"{sys.executable} -m tinyqae {arguments_} {closed}",
        shell=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, "") and words in done.stderr and done.stderr.count("\n") == bool(words)


@pytest.mark.parametrize(
    ("code", "arguments_", "words"),
    [
        (1, ["train", "cifar-cnn", "--images", "~nouser/x", "-o", "out"], "~nouser/x is not a readable folder"),
        (1, ["train", "anki-lstm", "--text", "~nouser/x", "-o", "out"], "cannot read ~nouser/x"),
        (2, ["train", "anki-lstm", "--language", "french"], "'french' is not a three-letter code"),
        (2, ["train", "anki-lstm", "--recipe", "report", "--say", "a b c " * 10], "longer than the 24 characters"),
        (
            1,
            ["train", "anki-lstm", "--recipe", "report", "--text", "long.txt", "-q", "-o", "out"],
            "... has 99 characters; this model takes up to 24",
        ),
    ],
)
def test_what_people_type_wrong_is_one_line(code, arguments_, words, here, capsys):
    if "--text" in arguments_:
        pytest.importorskip("rapidfuzz", reason="sentences are measured by RapidFuzz")
    Path("long.txt").write_text(f"{'a' * 99}\nb\n" * 10)
    assert words in refused(capsys, code, *arguments_)


def test_warnings_are_one_line_and_silent_with_quiet(here, monkeypatch, capsys):
    def warns(*arguments, **options):
        warnings.warn("this is how it is", stacklevel=1)
        raise tinyqae.errors.DataError("no data")

    monkeypatch.setattr(train, "synthetic_digits", warns)
    with pytest.raises(SystemExit):
        main(["train", "mnist-mlp", "--dataset", "synthetic"])
    assert capsys.readouterr().err == "warning: this is how it is\n"
    assert refused(capsys, 1, "train", "mnist-mlp", "--dataset", "synthetic", "--quiet") == "error: no data"


def test_text_of_the_user_is_not_interpreted(here, capsys):
    folder = Path("$\\frac{1}{$ \udcff\n")
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(folder / f"{i}.png")
    assert main(["train", "cifar-cnn", "--images", str(folder), "--epochs", "1", "-o", "out", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert json.loads(Path("out/metrics.json").read_text())["settings"]["data"]["name"].startswith("images of the folder '$")


def heed_interrupts():
    """In a child process: undo that SIGINT is ignored, as shells have it for what runs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("numpy", ["-m", "tinyqae", "info", "nothing"]),
        ("tinyqae.cli.files", ["-m", "tinyqae", "info", "nothing"]),
        ("tinyqae.backend", [f"{REPOSITORY}/examples/mnist_mlp.py", "--dataset", "synthetic"]),
    ],
)
def test_a_signal_while_it_imports_is_one_line(number, code, module, program, here):
    finder = f"""import os, sys
class Finder:
    def find_spec(name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Finder)
"""
    Path("sitecustomize.py").write_text(finder)
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{REPOSITORY}"}
    done = subprocess.run(
        [sys.executable, *program],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        preexec_fn=heed_interrupts,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "stopped\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_other_code_turns_into_an_error_of_its_own_is_one_line(number, code):
    program = f"""if True:
        import signal
        from tinyqae.cli.program import run_main

        def main():
            try:
                signal.raise_signal(signal.{number})
            except BaseException:
                raise ValueError("Invalid bounding box")

        run_main(main)"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, preexec_fn=heed_interrupts
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "stopped\n")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_in_a_callback_that_python_ignores_exceptions_of_is_not_lost(number, code):
    program = f"""if True:
        import signal, time, weakref
        from tinyqae.cli.program import run_main

        def main():
            something = set()
            watched = weakref.ref(something, lambda _: signal.raise_signal(signal.{number}))
            del something
            time.sleep(20)
            print("went on")

        run_main(main)"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, preexec_fn=heed_interrupts
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "stopped\n")


@pytest.mark.parametrize("command", [["compress", "-m", "cnn-small", "-o", "x.tqae"], ["train", "cifar-cnn", "--images"]])
def test_a_damaged_tiff_is_one_line_without_libtiffs_own(here, command):
    data = io.BytesIO()
    Image.new("RGB", (40, 40), (9, 99, 199)).save(data, "TIFF", compression="tiff_lzw")
    whole = data.getvalue()
    Path("album").mkdir()
    for name in ("a.tif", "b.tif"):
        Path("album", name).write_bytes(whole[:8] + b"\xff" * 30 + whole[38:])
    command = [sys.executable, "-m", "tinyqae", *command, "album"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": REPOSITORY})
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and lines and all(line.startswith(("error: ", "warning: ")) for line in lines)


def test_a_picture_that_does_not_fit_is_named(here, models, capsys):
    Path("album").mkdir()
    for name, mode in (("grey", "L"), ("red", "RGB")):
        Image.new(mode, (28, 28), 9).save(f"album/{name}.png")
    assert "the picture red is in colour" in refused(capsys, 1, "compress", "album", "-m", models["grey"])
    assert "album/red.png: picture 0 is in colour" in refused(capsys, 1, "compress", "album/red.png", "-m", models["grey"])


def test_no_old_model_stands_beside_a_new_run_s_checkpoint(here, monkeypatch, capsys):
    monkeypatch.setattr(train, "synthetic_digits", lambda seed: synthetic_digits(100, 40, seed))
    arguments_ = ["train", "mnist-mlp", "--dataset", "synthetic", "--epochs", "1", "--bits", "12", "--quiet", "-o", "out"]
    assert main(arguments_) == 0

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(train.images, "measure", interrupted)
    with pytest.raises(SystemExit):
        main([*arguments_, "--seed", "1", "--force"])
    assert Path("out/checkpoint.npz").exists() and not Path("out/model.npz").exists()
