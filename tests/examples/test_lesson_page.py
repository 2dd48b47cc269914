"""examples/lesson: the page is what build.py makes of its inputs, and in a real browser it does what it says."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tinyqae.codec.models import shipped
from tinyqae.ops.activations import sigmoid_forward

LESSON = Path(__file__).parents[2] / "examples" / "lesson"
PAGE = LESSON / "lesson.html"
A_FRAME = 1000 / 60  # Milliseconds.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def build():
    pytest.importorskip("jinja2", reason="building the page needs jinja2")
    spec = importlib.util.spec_from_file_location("build", LESSON / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_built_from_its_inputs_byte_for_byte(build):
    assert build.build().encode() == PAGE.read_bytes(), "run python examples/lesson/build.py"


def test_the_page_is_small_and_needs_no_network():
    page = PAGE.read_text()
    assert len(page.encode()) <= 400_000
    for reference in ("src=", "href=", "url(", "import(", "fetch(", "XMLHttpRequest"):
        for place in page.split(reference)[1:]:
            assert reference in ("src=", "href=") and place[1:].startswith(("#", "data:")), reference + place[:60]


def test_weights_that_are_no_bfloat16_are_refused(build):
    build.bfloat16(np.array([1.5, -0.0078125], np.float32))
    with pytest.raises(ValueError, match="8 significant bits"):
        build.bfloat16(np.array([0.1], np.float32))


def test_the_readmes_have_the_comparison_of_the_page(build):
    comparison = json.loads((LESSON / "comparison.json").read_text())
    for path in build.READMES:
        assert build.with_comparison(path.read_text(), comparison) == path.read_text(), "run python examples/lesson/build.py"
    with pytest.raises(ValueError):
        build.with_comparison("a text without markers", comparison)


def test_means_and_deviations_are_those_of_the_runs(build):
    runs = json.loads((LESSON / "comparison.json").read_text())["runs"]
    table = build.comparison_table(runs)
    assert list(table) == ["vanilla", "naive", "naive + noise", "fence", "commit"]
    for kind, cells in table.items():
        for (model, which), text in cells.items():
            figure = "edits" if model == "lstm" else "psnr"
            seeds = [
                run[figure] for run in runs if (run["bottleneck"], run["model"], run["settings"]) == (kind, model, which)
            ]
            assert len(seeds) == 3 and text == f"{np.mean(seeds):.2f} ± {np.std(seeds, ddof=1):.2f}"


def test_the_output_goes_where_it_is_asked_to(build, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["build.py", "--out", str(tmp_path / "page.html")])
    build.main()
    assert (tmp_path / "page.html").read_bytes() == PAGE.read_bytes()
    assert "page.html" in capsys.readouterr().out


# In a browser ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("needs Chromium: none of " + ", ".join(BROWSERS) + " is on the PATH")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser):
    """The lesson, offline. What it asks the network for and what it complains about fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 800, "height": 900})
    tab, problems = context.new_page(), []
    tab.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url))
    tab.goto(PAGE.as_uri())
    tab.wait_for_function("document.getElementById('model-readout').textContent !== ''")
    yield tab
    assert problems == []
    context.close()


def digits(page):
    """float64 (10, 784), the digits that the page offers."""
    return np.array(page.evaluate("lesson.data.digits.map(d => Array.from(atob(d), c => c.charCodeAt(0)))")) / 255


def pictures(page, section):
    """Everything drawn in a section, as text."""
    return page.evaluate(
        """id => [...document.querySelectorAll(`#${id} svg`)].map(svg => svg.innerHTML)
        .concat([...document.querySelectorAll(`#${id} canvas`)].map(canvas => canvas.toDataURL())).join("|")""",
        section,
    )


def grey(page, canvas):
    """int (28, 28), what is on a canvas."""
    rgba = page.evaluate("id => [...document.getElementById(id).getContext('2d').getImageData(0, 0, 28, 28).data]", canvas)
    return np.array(rgba).reshape(28, 28, 4)[..., 0]


def readout(page, name):
    return page.text_content(f"#{name}")


@pytest.mark.browser
def test_the_network_in_the_page_is_the_shipped_model(page):
    images, model = digits(page), shipped("mlp-50")
    a = model.latent(images.reshape(10, 28, 28, 1).astype(np.float32))
    found = np.array(page.evaluate("digits => digits.map(lesson.encode)", images.tolist()))
    np.testing.assert_allclose(found, a, atol=2e-5)
    clear = np.abs(a - 0.5) > 1e-4
    bits = np.array(page.evaluate("a => a.map(lesson.threshold)", found.tolist()))
    assert (bits == (a > 0.5))[clear].all()
    pixels = sigmoid_forward(model.decode_logits(model.bottleneck.for_decoder((a > 0.5).astype(np.float32))))
    decoded = np.array(page.evaluate("bits => bits.map(lesson.decode)", (a > 0.5).astype(int).tolist()))
    np.testing.assert_allclose(decoded, pixels, atol=1e-3)


@pytest.mark.browser
@pytest.mark.parametrize("how", ["mouse", "keyboard", "touch"])
def test_a_click_flips_one_bit_and_changes_the_picture(page, browser, how):
    if how == "touch":
        context = browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 380, "height": 800}, offline=True)
        page = context.new_page()
        page.goto(PAGE.as_uri())
    code = "[...document.querySelectorAll('#tiles button')].map(tile => tile.textContent).join('')"
    picture = "document.getElementById('output').toDataURL()"
    before, drawn = page.evaluate(code), page.evaluate(picture)
    tile = page.locator("#tiles button").nth(17)
    if how == "mouse":
        tile.click()
    elif how == "touch":
        tile.tap()
    else:
        page.locator("#tiles button").nth(6).focus()
        for key in ("ArrowRight", "ArrowDown", "Enter"):
            page.keyboard.press(key)
    after = page.evaluate(code)
    assert [k for k in range(50) if before[k] != after[k]] == [17]
    assert page.evaluate(picture) != drawn
    assert readout(page, "flipped") == "1 of 50 bits flipped"
    page.click("#restore")
    assert page.evaluate(code) == before and page.evaluate(picture) == drawn


@pytest.mark.browser
def test_the_flipped_picture_is_the_decoders(page):
    images, model = digits(page), shipped("mlp-50")
    page.locator("#picks button").nth(7).click()
    page.locator("#tiles button").nth(30).click()
    bits = model.encode(images[7:8].reshape(1, 28, 28, 1).astype(np.float32))
    bits[0, 30] ^= True
    np.testing.assert_allclose(grey(page, "output"), model.decode(bits).reshape(28, 28), atol=1)


@pytest.mark.browser
def test_pointing_at_a_bit_shows_what_it_does(page):
    before = page.evaluate("document.getElementById('influence').toDataURL()")
    page.locator("#tiles button").nth(3).hover()
    assert page.evaluate("document.getElementById('influence').toDataURL()") != before
    assert "bit 4" in readout(page, "influence-caption")


@pytest.mark.browser
@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_a_drawing_is_scaled_centred_and_encoded(page, how):
    page.click("#clear")
    page.locator("#pad").scroll_into_view_if_needed()
    if how == "mouse":
        box = page.locator("#pad").bounding_box()
        page.mouse.move(box["x"] + 40, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + 60, box["y"] + 120, steps=8)
        page.mouse.up()
    else:
        page.focus("#pad")
        for key in [" "] + ["ArrowDown"] * 10:
            page.keyboard.press(key)
    image = grey(page, "input")
    rows, columns = np.nonzero(image)
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    mass = image / image.sum()
    assert abs((mass.sum(axis=1) * np.arange(28)).sum() - 13.5) <= 0.6
    assert abs((mass.sum(axis=0) * np.arange(28)).sum() - 13.5) <= 0.6
    page.click("#clear")
    assert not any(page.evaluate("lesson.asMnist(new Float64Array(100), 10)"))


@pytest.mark.browser
def test_every_slider_changes_its_figure_within_a_frame(page):
    sliders = page.evaluate("[...document.querySelectorAll('input[type=range]')].map(i => [i.id, i.closest('section').id])")
    assert len(sliders) == 10
    for name, section in sliders:
        before = pictures(page, section)
        times = page.evaluate(
            """name => {
            const input = document.getElementById(name), times = [];
            const values = Array.from({length: 12}, (_, i) => i % 2 ? input.max : input.min);
            for (const value of values) {
                const started = performance.now();
                input.value = value;
                input.dispatchEvent(new Event('input', {bubbles: true}));
                times.push(performance.now() - started);
            }
            if (input.value === input.defaultValue) { input.value = input.min; input.dispatchEvent(new Event('input')); }
            return times;
        }""",
            name,
        )
        assert pictures(page, section) != before, name
        assert np.median(times) < A_FRAME, (name, times)
        assert page.locator(f"label:has(#{name}) output").text_content() != "", name


@pytest.mark.browser
def test_drawing_and_flipping_answer_within_a_frame(page):
    times = page.evaluate("""() => {
        const tiles = document.querySelectorAll('#tiles button'), pad = document.getElementById('pad'), times = [[], []];
        const timed = (list, run) => { const started = performance.now(); run(); list.push(performance.now() - started); };
        for (let i = 0; i < 15; i++) timed(times[0], () => tiles[i].click());
        pad.focus();
        pad.dispatchEvent(new KeyboardEvent('keydown', {key: ' '}));
        const right = () => pad.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}));
        for (let i = 0; i < 15; i++) timed(times[1], right);
        return times;
    }""")
    for kind in times:
        assert np.median(kind) < A_FRAME, times


@pytest.mark.browser
@pytest.mark.parametrize(("group", "section"), [("kind", "answers"), ("gradients", "gradients")])
def test_every_choice_changes_its_figure(page, group, section):
    seen = {pictures(page, section)}
    choices = page.locator(f"input[name={group}]")
    for i in range(choices.count()):
        choices.nth(i).check()
        seen.add(pictures(page, section))
    assert len(seen) == choices.count()


@pytest.mark.browser
def test_the_worked_example_has_its_numbers(page):
    text = page.text_content("#one-bit")
    for number in ("0.927", "1.327", "+0.400", "−1.123", "+1.923"):
        assert number in text, number
    assert "1.123 < w < 1.923" in readout(page, "why-readout")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("preset", "verdict"),
    [("oscillate", "it oscillates"), ("settle", "settled in the right state"), ("freeze", "frozen in the wrong state")],
)
def test_one_bit_oscillates_settles_or_freezes(page, preset, verdict):
    page.click(f"button.preset:text-is('{preset}')")
    page.evaluate("for (let i = 0; i < 200; i++) document.getElementById('bit-step').click()")
    assert verdict in readout(page, "bit-readout")


@pytest.mark.browser
def test_run_and_pause(page):
    page.click("#bit-run")
    page.wait_for_function("/Step [3-9]/.test(document.getElementById('bit-readout').textContent)")
    page.click("#bit-run")
    stopped = readout(page, "bit-readout")
    page.wait_for_timeout(150)
    assert readout(page, "bit-readout") == stopped and page.text_content("#bit-run") == "Run"


@pytest.mark.browser
def test_dragging_across_the_threshold(page):
    figure = page.locator("#stairs")
    figure.scroll_into_view_if_needed()
    box = figure.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    assert ", b = 0" in readout(page, "stairs-readout")
    page.mouse.move(box["x"] + box["width"] - 60, box["y"] + 100, steps=5)
    page.mouse.up()
    assert ", b = 1" in readout(page, "stairs-readout")


@pytest.mark.browser
def test_the_quiz_judges_each_answer(page):
    questions = page.locator("#questions > li")
    for i in range(questions.count()):
        said = [questions.nth(i).locator("button").nth(j) for j in (0, 1)]
        answers = []
        for button in said:
            button.click()
            answers.append(questions.nth(i).locator(".answer").text_content())
        assert sorted(answer.split(":")[0] for answer in answers) == ["No", "Yes"]
        assert all(len(answer) > 60 for answer in answers)
    assert f"of {questions.count()} right at the first try" in readout(page, "score")


@pytest.mark.browser
@pytest.mark.parametrize("width", [380, 800, 1400])
def test_it_fits_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    # The figures are drawn anew when the browser has told the page of its new width.
    page.wait_for_function("""() => [...document.querySelectorAll('svg')].every(
        svg => svg.viewBox.baseVal.width === Math.max(320, svg.parentElement.clientWidth))""")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate("""[...document.querySelectorAll('svg text')].filter(text => text.textContent !== '')
        .map(text => text.getBoundingClientRect()).map(box => [box.height, box.left, box.right])""")
    assert min(height for height, _, _ in sizes) >= 11
    assert min(left for _, left, _ in sizes) >= 0 and max(right for _, _, right in sizes) <= width


@pytest.mark.browser
def test_it_follows_the_systems_colours(page):
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        style = "getComputedStyle(document.body)"
        colours.append(page.evaluate(f"[{style}.color, {style}.backgroundColor]"))
    assert colours[0][0] != colours[1][0] and colours[0][1] != colours[1][1]
