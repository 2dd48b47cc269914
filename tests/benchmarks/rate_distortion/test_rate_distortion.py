"""benchmarks/rate_distortion: payloads cut out of real files, curves at equal rate, remarks that follow the figures."""

import io
import json
import math
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.rate_distortion import codecs, curves, measure, page, picture
from benchmarks.rate_distortion.codecs import CODECS, decode, text_compressors
from benchmarks.report.image_tables import Table1
from benchmarks.report.jobs import Job
from benchmarks.report.rows import FULL, QUICK, REDUCED, Row
from tinyqae import Commit, MLPAutoencoder, Seq2SeqAutoencoder, Vanilla, load, recipes
from tinyqae.bottlenecks import REPORT_KINDS, VARIANTS
from tinyqae.codec import IMAGES, Container, to_bytes
from tinyqae.data import synthetic_digits, synthetic_shapes

AVAILABLE = [codec for codec in CODECS.values() if not codec.missing()]
IMAGES_OF = {
    "grey": synthetic_digits(train=10, test=6, seed=1).test_images,
    "colour": synthetic_shapes(train=10, test=6, seed=1).test_images,
}
# What may differ between the headers of two images at one setting: lengths and checksums, in bytes.
VARYING_HEADER_BYTES = {"JPEG": 0, "JPEG 2000": 4, "WebP": 8, "AVIF": 12, "PNG": 20}


def payload_file(codec, image, setting):
    """(the file that the payload is cut from, the payload)."""
    options = codec.options(setting, image.shape) | codec.payload_options
    file = codecs._save(image, codec.format, options)
    return file, codec.payload(file)


# ---- payloads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", IMAGES_OF)
@pytest.mark.parametrize("codec", AVAILABLE, ids=lambda codec: codec.name)
def test_what_is_left_out_of_a_file_is_the_same_for_every_image(codec, kind):
    setting = codec.settings[len(codec.settings) // 2]
    headers = []
    for image in IMAGES_OF[kind]:
        file, payload = payload_file(codec, image, setting)
        if codec.name == "WebP":  # in two pieces, around the start code and the size
            at = file.index(payload[3:])
            header, tail = file[: at - 10] + file[at - 7 : at], file[at + len(payload) - 3 :]
            assert file[at - 10 : at - 7] == payload[:3]
        else:
            header, tail = file[: file.index(payload)], file[file.index(payload) + len(payload) :]
        if codec.name == "AVIF" and len(payload) > 127:
            header = header[:-1]  # the second byte of the payload's length
        headers.append(header)
        assert len(tail) <= (20 if codec.name == "PNG" else 2)  # checksums and an end, or a byte that fills up
    first = headers[0]
    assert {len(header) for header in headers} == {len(first)}
    differing = {i for header in headers for i, (a, b) in enumerate(zip(first, header, strict=True)) if a != b}
    assert len(differing) <= VARYING_HEADER_BYTES[codec.name]


@pytest.mark.parametrize("kind", IMAGES_OF)
@pytest.mark.parametrize("codec", AVAILABLE, ids=lambda codec: codec.name)
def test_finer_settings_are_larger_and_files_decode(codec, kind):
    image = IMAGES_OF[kind][0]
    sizes, errors = [], []
    for setting in (codec.settings[0], codec.settings[-1]):
        file, payload = codec.encode(image, setting)
        assert 0 < len(payload) < len(file)
        decoded = decode(file, image.shape)
        assert decoded.shape == image.shape and decoded.dtype == np.uint8
        sizes.append(len(payload))
        errors.append(np.square(decoded.astype(float) - image).mean())
    if codec.name == "PNG":
        assert errors[0] == 0
    else:
        assert sizes[0] < sizes[1] and errors[0] > errors[1]


def test_the_jpeg_with_standard_tables_shows_the_same_picture_as_the_optimized_one():
    codec, image = CODECS["JPEG"], IMAGES_OF["colour"][0]
    other, _ = payload_file(codec, image, 20)
    file, payload = codec.encode(image, 20)
    assert len(file) < len(other)
    assert (decode(file, image.shape) == decode(other, image.shape)).all()
    # All markers of the whole picture lie outside the scan: inside, 0xFF is always followed by 0x00.
    assert payload.count(b"\xff") == payload.count(b"\xff\x00")


def test_a_png_s_payload_inflates_to_its_rows():
    image = IMAGES_OF["grey"][0]
    _, payload = CODECS["PNG"].encode(image, "")
    rows = codecs.zlib.decompress(payload, -codecs.zlib.MAX_WBITS)
    assert len(rows) == 28 * (1 + 28)


def test_files_of_another_layout_are_refused():
    buffer = io.BytesIO()
    Image.fromarray(IMAGES_OF["colour"][0]).save(buffer, "WEBP", lossless=True)
    with pytest.raises(ValueError, match="VP8 key frame"):
        codecs.webp_payload(buffer.getvalue())
    with pytest.raises(ValueError, match="mdat"):
        codecs.avif_payload(b"\0\0\0\x08ftyp")


def test_a_codec_that_pillow_lacks_is_said_to_be_missing(monkeypatch, tmp_path):
    lacking = replace(CODECS["AVIF"], feature="webp_that_never_was")
    monkeypatch.setattr(measure, "CODECS", {"AVIF": lacking, "PNG": CODECS["PNG"]})
    data = synthetic_digits(train=10, test=5, seed=0)
    with pytest.warns(UserWarning, match="Unknown feature"):
        found = tasks_of({"mnist": data}, tmp_path)
        collected = measure.collect("mnist", data, {}, None)
    assert [task.label for task in found if isinstance(task, measure.CodecTask)] == ["PNG"]
    assert collected["codecs"]["AVIF"] == {"missing": "this build of Pillow has no AVIF", "points": [], "sheet": []}


# ---- measuring --------------------------------------------------------------------------------------------------------


def test_a_codec_s_point_has_the_rates_of_its_files():
    images = IMAGES_OF["grey"][:3]
    codec = CODECS["JPEG"]
    point = measure.measure_setting(codec, 20, images)["point"]
    files, payloads = zip(*(codec.encode(image, 20) for image in images), strict=True)
    assert point["setting"] == "quality 20"
    assert point["rates"] == {
        name: 8 * sum(map(len, parts)) / (3 * 784) for name, parts in (("file", files), ("payload", payloads))
    }
    exact = measure.measure_setting(CODECS["PNG"], "", images)["point"]
    assert exact["psnr"] is None and exact["psnr_of_mean_mse"] is None and exact["ssim"] == 1
    json.dumps(exact, allow_nan=False)


def test_images_on_a_sheet_come_back_in_their_places():
    images = synthetic_shapes(train=10, test=10, seed=3).test_images
    exact = measure.measure_setting(CODECS["PNG"], "", images)["sheet"]
    assert exact["psnr"] is None and exact["ssim"] == 1
    coarse, fine = (measure.measure_setting(CODECS["JPEG"], quality, images) for quality in (1, 90))
    assert fine["sheet"]["psnr_of_mean_mse"] > 25
    assert coarse["sheet"]["rates"]["file"] < fine["sheet"]["rates"]["file"]
    # Nine images share one header.
    assert coarse["sheet"]["rates"]["file"] < coarse["point"]["rates"]["file"] / 2


def test_a_model_s_rates_are_those_of_real_bytes():
    images = synthetic_digits(train=10, test=100, seed=2).test_images
    model = MLPAutoencoder(Commit(weight=1.0), hidden=(20,), seed=0)
    measured = measure.measure_image_model(model, images)
    rates = measured["rates"]
    assert rates["packed"] == 20 / 784 and measured["bits"] == 20
    one = to_bytes(Container(bytes(8), IMAGES, 0, 1, (20,), b"", bytes(3)))
    assert rates["single"] == 8 * len(one) / 784
    assert rates["coded"] <= rates["packed"] and rates["coded"] < rates["file"] < rates["single"]
    assert measured["decoder"] == {"numbers": 20 * 784 + 784, "float32": 4 * 21 * 784, "float16": 2 * 21 * 784}
    assert measured["psnr_of_mean_mse_float16"] == pytest.approx(measured["psnr_of_mean_mse"], abs=0.1)

    floats = measure.measure_image_model(MLPAutoencoder(Vanilla(), hidden=(20,), seed=0), images)
    assert floats["rates"] == {"packed": 32 * 20 / 784} and floats["bits"] == 640


@pytest.mark.parametrize("code_every_step", [False, True])
def test_a_text_model_s_rates_count_characters_and_its_decoder_has_all_but_the_encoder(code_every_step):
    pytest.importorskip("rapidfuzz")
    model = Seq2SeqAutoencoder(Commit(), hidden=4, code_every_step=code_every_step, seed=0)
    measured = measure.measure_text_model(model, ["one two", "three"])
    assert measured["bits"] == 8 and measured["rates"]["packed"] == 8 * 2 / len("one twothree")
    encoder = [*model.encoder.layers, model.dense_h, model.dense_c]
    numbers = [sum(a.size for layer in part for a in layer.params.values()) for part in (model.layers, encoder)]
    assert measured["decoder"]["numbers"] == numbers[0] - numbers[1] > 0


def test_text_compressors_cost_less_without_their_headers_and_come_back():
    sentences = [f"she has {n} brothers and he has {n + 1}" for n in range(300)]
    measured = measure.measure_compressors(sentences[50:], sentences[:50])
    for name, sizes in measured["compressors"].items():
        for how in ("whole", "alone"):
            assert 0 < sizes[how]["payload"] < sizes[how]["file"], (name, how)
        assert sizes["whole"]["file"] < sizes["alone"]["file"]
    compressors, _ = text_compressors(sentences)
    data = sentences[0].encode()
    files = {c.name: c.file(data) for c in compressors}
    assert codecs.gzip.decompress(files["gzip"]) == data
    assert codecs.bz2.decompress(files["bz2"]) == data
    assert codecs.lzma.decompress(files["xz"]) == data


def test_without_the_package_zstandard_there_is_no_zstd(monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    compressors, dictionary_bytes = text_compressors(["one", "two"])
    assert [c.name for c in compressors] == ["gzip", "bz2", "xz"] and dictionary_bytes is None


# ---- tasks ------------------------------------------------------------------------------------------------------------


def tasks_of(data, folder, amount=REDUCED, limit=None):
    return measure.tasks(data, limit, folder / "work", amount=amount, seed=0, rows=folder, data_dir=None)


class Digits(Table1):
    """Table 1 on a few synthetic digits."""

    @staticmethod
    def load(data_dir, allow_modified_data=False):
        return synthetic_digits(train=200, test=20, seed=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(a job that is done, its data)."""
    data = Digits.load(None)
    row = Row("commit 4", 4, recipes.mnist_mlp("default", "commit", (4,)).override(epochs=1))
    job = Job(Digits(), row, 0, tmp_path_factory.mktemp("rows"), data.sha256)
    job.carry_out()
    return job, data


def test_a_row_s_model_is_measured_as_reproduce_left_it(trained, tmp_path):
    job, data = trained
    task = measure.ModelTask("mnist", 10, tmp_path, job)
    figures = task.measure(data)
    assert figures["trained_on"] == 180 and figures["epochs"] == 1 and figures["bits"] == 4
    expected = measure.measure_image_model(load(job.model_path), data.test_images[:10])
    assert {name: figures[name] for name in expected} == expected


def test_figures_are_kept_under_all_that_they_depend_on(trained, tmp_path):
    job, data = trained
    task = measure.ModelTask("mnist", 10, tmp_path, job)
    longer = replace(job, row=replace(job.row, recipe=job.row.recipe.override(epochs=2)))
    retrained = replace(job, folder=tmp_path)
    others = [replace(task, limit=20), *(replace(task, job=other) for other in (replace(job, seed=1), longer, retrained))]
    for other in others[1:3]:
        shutil.copy(job.model_path, other.job.model_path)
    retrained.model_path.parent.mkdir()
    retrained.model_path.write_bytes(b"other weights")
    codecs = [measure.CodecTask("mnist", 10, tmp_path, "JPEG", quality) for quality in (1, 10)]
    paths = [each.path(data) for each in (task, *others, *codecs)]
    paths.append(task.path(synthetic_digits(train=200, test=20, seed=1)))
    assert len(set(paths)) == len(paths) and all(path.parent == tmp_path for path in paths)


def test_only_rows_without_a_model_are_trained(trained, monkeypatch, tmp_path):
    job, _ = trained
    missing, asked = replace(job, folder=tmp_path), []
    monkeypatch.setattr(measure.workers, "run_here", lambda jobs, processes, watch: asked.extend(jobs) or {})
    measure.train_missing([job], 1)
    assert asked == []
    measure.train_missing([job, missing], 1)
    assert asked == [missing]
    monkeypatch.setattr(measure.workers, "run_here", lambda jobs, processes, watch: {jobs[0].name: "no memory"})
    with pytest.raises(SystemExit, match="error: table 1, default, commit 4, seed 0: no memory"):
        measure.train_missing([missing], 1)


def test_the_tasks_are_every_size_and_bottleneck_and_every_setting_of_a_codec(tmp_path):
    data = dict.fromkeys(measure.SETS, synthetic_digits(train=10, test=5, seed=0))
    for amount in (FULL, QUICK, REDUCED):
        labels = {name: [task.label for task in tasks_of(data, tmp_path, amount) if task.set == name] for name in data}
        for name, sizes in (("mnist", (10, 50, 100)), ("cifar", ("small", "medium", "large"))):
            kinds = REPORT_KINDS if name == "mnist" else ["commit"]
            assert {f"{quant} {size}" for quant in kinds for size in sizes} <= set(labels[name])
            assert not any(kind in label for kind in VARIANTS for label in labels[name])
            assert {f"{codec.name} {setting}".strip() for codec in AVAILABLE for setting in codec.settings} <= set(
                labels[name]
            )
            assert not any("noise" in label or "weight" in label or "vanilla 256" in label for label in labels[name])
        assert {"commit 256,10", "commit 256,50", "commit 256,100"} <= set(labels["mnist"])
        assert ("commit small, in full" in labels["cifar"]) == (amount == REDUCED)
        assert "commit small, transform" in labels["cifar"]
        assert not any("all images" in label or "vanilla small," in label for label in labels["cifar"])
        assert labels["text"][0] == "text compressors" and {f"commit {n}" for n in (32, 64, 128)} <= set(labels["text"])
        assert all(
            label.startswith("commit") and "256" not in label and "longer" not in label for label in labels["text"][1:]
        )


def test_a_set_s_results_have_the_points_of_each_codec_in_order(tmp_path):
    data = synthetic_digits(train=10, test=4, seed=0)
    done = {
        task: task.measure(data)
        for task in tasks_of({"mnist": data}, tmp_path, limit=4)
        if isinstance(task, measure.CodecTask) and task.codec in ("JPEG", "PNG")
    }
    collected = measure.collect("mnist", data, done, 4)
    assert [point["setting"] for point in collected["codecs"]["JPEG"]["points"]] == [
        f"quality {quality}" for quality in CODECS["JPEG"].settings
    ]
    assert len(collected["codecs"]["PNG"]["sheet"]) == 1 and collected["held_out"] == 4 and collected["models"] == []


# ---- the page ---------------------------------------------------------------------------------------------------------


def point(payload, file, psnr, ssim):
    return {"setting": "quality 1", "rates": {"payload": payload, "file": file}, "psnr_of_mean_mse": psnr, "ssim": ssim}


def model(label, coded, single, psnr, ssim, quant="commit"):
    rates = {"packed": coded, "coded": coded, "file": coded, "single": single}
    return {
        "label": label,
        "quant": quant,
        "trained_on": 900,
        "epochs": 5,
        "bits": 50,
        "psnr": psnr + 0.5,
        "psnr_of_mean_mse": psnr,
        "psnr_of_mean_mse_float16": psnr,
        "ssim": ssim,
        "rates": rates if quant != "vanilla" else {"packed": 4.0},
        "decoder": {"numbers": 1000, "float32": 4000, "float16": 2000},
    }


def codec_of(*points):
    return {"missing": None, "points": list(points), "sheet": list(points)}


CURVES = {
    "JPEG": codec_of(point(0.4, 2.0, 18.0, 0.6), point(1.6, 4.0, 26.0, 0.9)),
    "WebP": codec_of(point(0.5, 1.0, 20.0, 0.7), point(2.0, 2.0, 30.0, 0.95)),
    "AVIF": {"missing": "this build of Pillow has no AVIF", "points": [], "sheet": []},
    "PNG": codec_of(point(2.5, 3.0, None, 1.0)),
}
TEXT = {
    "name": "sentences",
    "sha256": "f" * 64,
    "sentences": 100,
    "characters": 1800,
    "text": 8.4,
    "dictionary_bytes": 9000,
    "models": [
        {
            "label": "commit 32",
            "quant": "commit",
            "trained_on": 900,
            "epochs": 4,
            "bits": 64,
            "exact": 0.2,
            "edits": 2.0,
            "rates": {"packed": 3.5, "coded": 3.4, "file": 3.41, "single": 15.0},
            "decoder": {"numbers": 1000, "float32": 4000, "float16": 2000},
        }
    ],
    "compressors": {"bz2": {"whole": {"file": 2.9, "payload": 2.8}, "alone": {"file": 30.0, "payload": 10.0}}},
}


@pytest.fixture
def results():
    models = [
        model("commit 10", 0.1, 0.3, 14.0, 0.5),
        model("commit 50", 1.0, 1.2, 26.0, 0.6),
        model("commit 100", 1.0, 2.5, 21.0, 0.6),
        model("vanilla 50", 4.0, 4.0, 22.0, 0.8, "vanilla"),
    ]
    part = {
        "name": "CIFAR-10 proxy",
        "sha256": "e" * 64,
        "held_out": 10,
        "shape": [10, 10, 3],
        "models": models,
        "codecs": CURVES,
    }
    return {
        "command": "python -m benchmarks.rate_distortion",
        "machine": "a machine",
        "kernels": "numba",
        "seed": 0,
        "versions": {"pillow": "13"},
        "date": "2026-01-01",
        "sets": {"cifar": part, "text": TEXT},
    }


def test_quality_is_interpolated_in_the_logarithm_of_the_rate():
    curve = curves.frontier(CURVES["JPEG"]["points"], "payload")
    assert curves.quality_at(curve, 0.4) == 18
    assert curves.quality_at(curve, 0.8) == pytest.approx(22)  # half way between 0.4 and 1.6 in the logarithm
    assert curves.quality_at(curve, 0.39) == 18  # hardly smaller than the smallest
    assert curves.quality_at(curve, 0.38) is None
    assert curves.quality_at(curve, 99) == 26
    assert curves.rate_at(curve, 22) == pytest.approx(0.8)
    assert curves.rate_at(curve, 10) == 0.4 and curves.rate_at(curve, 26) == pytest.approx(1.6)
    assert curves.rate_at(curve, 27) is None
    for rate in np.geomspace(0.41, 1.59, 7):
        assert curves.rate_at(curve, curves.quality_at(curve, rate)) == pytest.approx(rate)


def test_points_that_a_cheaper_one_beats_are_not_on_the_curve():
    points = [point(2, 2, 30.0, 1), point(1, 1, 25.0, 1), point(1.5, 1.5, 24.0, 1), point(3, 3, None, 1)]
    assert curves.frontier(points, "payload") == [(1, 25.0), (2, 30.0)]


def test_a_model_is_compared_with_every_codec_at_its_own_rate(results):
    part = results["sets"]["cifar"]
    wins = curves.compare(part["models"][1], part["codecs"], "payload")
    assert wins["best"] == "WebP" and wins["theirs"]["WebP"] == pytest.approx(25) and wins["gain"] == pytest.approx(1)
    assert wins["needed"] == ("WebP", pytest.approx(0.5 * 4**0.6))
    alone = curves.compare(part["models"][0], part["codecs"], "payload")
    assert alone["best"] is None and alone["smallest"] == ("JPEG", 0.4, 18.0)
    assert curves.compare(part["models"][3], part["codecs"], "payload") is None
    # 0.4 less 0.1 bits for each of 100 pixels against 2,000 bytes.
    assert curves.images_until_paid(part["models"][0], alone, 100) == math.ceil(16_000 / 30)
    loses = curves.compare(part["models"][2], part["codecs"], "payload")
    assert curves.images_until_paid(part["models"][2], loses, 100) is None


def test_the_page_says_where_we_win_and_where_we_lose(results):
    text = page.as_markdown(results)
    assert (
        "- Counting payload only (ours: the entropy-coded bits): no codec goes as low as commit 10 (0.100 bits per pixel): "
        "the lowest is JPEG at 0.400 with 18.0 dB; better than the best codec at the same rate: commit 50 by 1.0 dB "
        "(against WebP); worse than the best codec at the same rate: commit 100 by 4.0 dB (against WebP).\n"
    ) in text
    assert "the floats of vanilla 50 take 4.00 bits per pixel for 22.0 dB; PNG stores the images exactly in 2.50" in text
    assert "| AVIF | not measured: this build of Pillow has no AVIF |" in text
    assert "were decoded from JPEGs of quality 75" in text
    assert "every model is larger, and lossy as well" in text and "smaller, but lossy: commit 32" in text
    assert "nan" not in text.lower().split() and "None" not in text


def test_the_rates_at_which_commit_is_ahead_are_those_of_the_figures(results):
    part = results["sets"]["cifar"]
    # As payload commit 50 and commit 100 have the same rate, and only one of them wins.
    said = page.crossover(part)
    assert said.startswith(
        "CIFAR-10 proxy: commit is ahead of every codec counting payload only (ours: the entropy-coded bits) at 2 of 3"
    )
    assert said.endswith("Its decoders take 2 to 2 kB in float16.")
    part["models"][2] = model("commit 100", 1.7, 2.5, 21.0, 0.6)
    assert "only (ours: the entropy-coded bits) up to 1.00 bits per pixel, but not at 1.70;" in page.crossover(part)
    part["models"] = [model("commit 100", 1.7, 2.5, 21.0, 0.6)]
    assert "only (ours: the entropy-coded bits) at no size;" in page.crossover(part)
    part["models"] = [model("commit 100", 0.2, 0.3, 21.0, 0.6)]
    assert "only (ours: the entropy-coded bits) at every size (up to 0.200 bits per pixel);" in page.crossover(part)


def test_the_best_bottleneck_is_named_at_every_size_that_several_have(results):
    part = results["sets"]["cifar"]
    assert page.bottlenecks(part) is None
    part["models"] += [model("naive 50", 1.0, 1.2, 27.0, 0.6, "naive"), model("fence 10", 0.1, 0.3, 13.0, 0.5, "fence")]
    assert page.bottlenecks(part) == (
        "The best binary bottleneck, by PSNR in dB: at 10, commit (14.00; fence 13.00); at 50, naive (27.00; commit 26.00)."
    )


def test_models_of_one_architecture_and_training_are_one_line(results):
    part = results["sets"]["cifar"]
    assert picture.commit_lines(part) == {"commit": [(0.1, 14.0, 50), (1.0, 21.0, 50), (1.0, 26.0, 50)]}
    part["models"].append(model("commit 256,50", 0.9, 1.2, 25.0, 0.6))
    assert picture.commit_lines(part).keys() == {"commit, no hidden layer", "commit, hidden layer of 256"}
    part["models"] = [
        model("commit small", 1.0, 1.2, 25.0, 0.6),
        {**model("commit small, in full", 0.9, 1.2, 26.0, 0.6), "trained_on": 45_000},
        {**model("commit small, transform", 0.9, 1.2, 27.0, 0.6), "trained_on": 45_000},
    ]
    assert picture.commit_lines(part) == {
        "commit": [(0.9, 26.0, 50)],
        "commit, transform code": [(0.9, 27.0, 50)],
    }


def test_the_picture_compares_whole_files_and_names_each_line(results):
    (axes,) = picture.draw(None, results).axes
    assert axes.get_xlabel() == "bits per pixel (lower is better), log scale"
    assert axes.get_ylabel() == "held-out PSNR, dB (higher is better)" and axes.get_legend() is None
    assert {"commit", "JPEG", "WebP"} <= {text.get_text() for text in axes.texts}
    jpeg = next(line for line in axes.lines if line.get_color() == picture.CODEC_COLORS["JPEG"])
    assert list(jpeg.get_xdata()) == [2.0, 4.0] and list(jpeg.get_ydata()) == [18.0, 26.0]  # Files, not payload.


def test_every_table_has_as_many_cells_in_each_row(results):
    for text in (page.as_markdown(results), page.readme_section(results)):
        widths = None
        for line in text.splitlines():
            if line.startswith("|"):
                widths = widths or line.count("|")
                assert line.count("|") == widths, line
            else:
                widths = None


def test_the_readme_s_part_is_short(results):
    text = page.readme_section(results)
    assert sum(line.startswith("| CIFAR-10 proxy") for line in text.splitlines()) == 3
    assert sum(line.startswith("- ") for line in text.splitlines()) == 3
    assert (
        "| CIFAR-10 proxy | commit 10 | 14.00 / 0.50 | 0.100: no codec at this rate | 0.300: no codec at this rate | 0.100: "
        "no codec at this rate | 2 kB | 534 / 229 / 178 |"
    ) in text


def test_the_picture_is_drawn(results, tmp_path):
    picture.draw(tmp_path / "picture.png", results)
    with Image.open(tmp_path / "picture.png") as drawn:
        assert drawn.width > 500


def test_the_picture_is_drawn_where_no_codec_can_be_compared_with_us(results, tmp_path):
    part = results["sets"]["cifar"]
    part["models"] = part["models"][:1]
    part["codecs"] = {"PNG": part["codecs"]["PNG"], "JPEG": CURVES["JPEG"]}
    picture.draw(tmp_path / "picture.png", results)
    assert (tmp_path / "picture.png").exists()


def test_a_page_without_zstd_says_so(results):
    results["sets"]["text"] = {**TEXT, "dictionary_bytes": None}
    assert "| zstd | not measured: pip install zstandard |" in page.as_markdown(results)
