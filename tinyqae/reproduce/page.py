"""report.html: everything that a run found out on one page, which needs nothing else and no network."""
from .. import plots
from .agreement import NEAR, OFF, RULE, WITHIN, agreement
from .claims import AHEAD, FAILS, HOLDS, NAMES, OWN_METRIC_ONLY
from .html import Markup, chart, element, png, table
from .rows import FULL, QUICK, QUICK_MARK, REDUCED, effort, plus_minus
from .text_table import FIGURE_5

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
h1 { line-height: 1.2 } h2 { margin-top: 3rem; border-bottom: 1px solid #ddd } h3 { margin-top: 2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px; margin: .7rem 0 }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #e6e6e6; white-space: nowrap }
td.words { white-space: normal; min-width: 16rem } th { background: #f6f6f6 }
.within, .holds { background: #cdebc8 } .near { background: #fdf0c0 } .off, .fails { background: #f6cfc6 }
.own { background: #fdf0c0 } .legend span { padding: .1rem .4rem; margin-right: .4rem }
.quick { background: #c8553d; color: white; padding: .6rem 1rem; font-weight: bold } .small { color: #666; font-size: 13px }
img { max-width: 100% } img.strip { height: 34px; max-width: none; image-rendering: pixelated; vertical-align: middle }
code { background: #f3f3f3; padding: 0 .2rem } summary { cursor: pointer }
"""
AMOUNTS = {FULL: "all of the data", QUICK: "one epoch on a small part of the data",
           REDUCED: "fewer examples, epochs and seeds where a row would take hours, as each row says"}
VERDICTS = {HOLDS: "holds", FAILS: "fails", OWN_METRIC_ONLY: "own"}
DIGITS = {"psnr": 2, "ssim": 3, "mse": 1, "mae": 1, "levenshtein": 2, "exact_match_rate": 3}
RECIPES = {"report": "the settings behind the report's table", "default": "the best training found on a validation split"}
CONTENTS = {"claims": "The claims", "tables": "The tables", "errata": "The errata", "figures": "Figures 3, 4 and 5",
            "rate": "Rate and quality", "latents": "Latent histograms", "curves": "Training curves"}


def as_html(results):
    """The page as text. results: outputs.Results."""
    about = results.about
    title = "Lossy Compression using Neural Networks, reproduced"
    quick = [element("p", QUICK_MARK, class_="quick")] if about["amount"] == QUICK else []
    machines = sorted({published["machine"] for published in results.published.values()})
    head = [element("h1", title), quick,
            element("p", "Gupta and Parimi's report of 2020: its tables and figures trained and measured anew, by its own "
                         "definitions and by correct ones. Everything below is computed from the rows of this run."),
            element("p", element("code", about["command"]), f", seeds {', '.join(map(str, about['seeds']))}, "
                    f"{AMOUNTS[about['amount']]}; {'; '.join(machines)}; {about['date']}.", class_="small"),
            element("p", [[element("a", words, href=f"#{name}"), " "] for name, words in CONTENTS.items()])]
    sections = {"claims": _claims, "tables": _tables, "errata": _errata, "figures": _figures, "rate": _rate,
                "latents": _latents, "curves": _curves}
    body = [element("section", element("h2", CONTENTS[name]), quick, section(results), id=name)
            for name, section in sections.items()]
    meta = element("head", Markup('<meta charset="utf-8">\n'), element("title", title), element("style", Markup(STYLE)))
    return "<!DOCTYPE html>\n" + element("html", meta, element("body", head, body), lang="en")


# ---- claims and errata -------------------------------------------------------------------------------------------------

def _claims(results):
    rows = []
    for judged in results.claims.values():
        for claim, said, checks in judged:
            rows.append([claim.place, element("td", claim.words, element("details", element("summary", "the numbers"),
                         element("p", f"Rule: {claim.rule}."), [_checks(view, checks[view]) for view in checks]),
                         class_="words"), element("td", said, class_=VERDICTS[said]),
                         *(_count(checks.get(view)) for view in ("own", "correct", "default"))])
    return [element("p", "A claim holds when every comparison that its rule names holds for the report's settings by "
                         f"correct metrics on held-out data; {AHEAD}. How many comparisons hold:"),
            table(["where", "claim", "verdict", "by the report's metrics", "correct, held-out", "recipe default, held-out"],
                  rows)]


def _count(checks):
    return f"{sum(check.holds for check in checks)} of {len(checks)}" if checks else "–"


def _checks(view, checks):
    words = {"own": "By the report's metrics", "correct": "Correct, held-out", "default": "Recipe default, held-out"}[view]
    if not checks:
        return []
    return [element("p", words), table(["comparison", "", "", ""], [
        [check.what, _pair(check.left), "" if check.right is None else _pair(check.right),
         element("td", "yes" if check.holds else "no", class_="holds" if check.holds else "fails")] for check in checks])]


def _pair(figure):
    mean, deviation, _ = figure
    return plus_minus((mean, deviation), 3)


def _errata(results):
    return [[element("h3", erratum.title), element("p", erratum.words), table(erratum.headings, erratum.rows)]
            for erratum in results.errata]


# ---- tables ------------------------------------------------------------------------------------------------------------

def _tables(results):
    legend = [element("span", name, class_=name) for name in (WITHIN, NEAR, OFF)]
    parts = [element("p", "Colours compare our figure by the report's definition with the published one. ", class_="legend"),
             element("ul", [element("li", span, RULE[name], ".", class_="legend")
                            for span, name in zip(legend, (WITHIN, NEAR, OFF), strict=True)])]
    for number, kind in results.tables.items():
        published = results.published[number]
        parts += [element("h3", kind.title), element("p", f"{published['data']}, SHA-256 {published['data_sha256'][:16]}…; "
                                                          f"{published['machine']}, kernels {published['kernels']}.",
                                                     class_="small")]
        for recipe, rows in published["tables"].items():
            make = _three_ways if recipe == "report" else _held_out
            parts += [element("h4", f"Recipe {recipe}: {RECIPES[recipe]}"), make(kind, rows)]
    return parts


def _metrics(kind):
    """The correct metrics of a table."""
    return ("psnr", "ssim", "mse", "mae") if kind.items == "training_images" else (*kind.metrics, "exact_match_rate")


def _name(metric):
    return NAMES.get(metric, "exact")


def _cells(row, key, metrics):
    figures = row.get(key)
    return [plus_minus(figures[m], DIGITS.get(m, 3)) if figures else "" for m in metrics]


def _three_ways(kind, rows):
    """As published, by the report's definitions, correct and held-out."""
    correct = _metrics(kind)
    headings = ["row", "examples x epochs x seeds"]
    for metric in kind.metrics:
        headings += [f"{_name(metric)} published", "ours, its definition"]
    headings += [f"{_name(metric)} correct, held-out" for metric in correct]
    body = []
    for row in rows:
        cells, key = [row["label"], effort(row, kind.items)], kind.report_key(row)
        for i, metric in enumerate(kind.metrics):
            ours = row.get(key, {}).get(metric)
            if ours is None:  # A data set too short for the report's sentences.
                cells += [f"{row['published'][i]:g}" if row["published"] else "–", "–"]
                continue
            said = plus_minus(ours, DIGITS.get(metric, 3))
            if row["published"] is None:
                cells += ["–", said]
                continue
            column = [figures[i] for figures in kind.published.values()]
            how = agreement(row["published"][i], ours, row["seeds"], column)
            cells += [f"{row['published'][i]:g}", element("td", said, class_=how, title=how)]
        body.append(cells + _cells(row, kind.held_out, correct))
    return table(headings, body)


def _held_out(kind, rows):
    """Correct and held-out, beside what the threshold costs."""
    correct, first = _metrics(kind), _metrics(kind)[0]
    headings = ["row", "examples x epochs x seeds", "bits", "CR", *map(_name, correct),
                f"{_name(first)} before the threshold", "bits that never change", "seconds"]
    return table(headings, [
        [row["label"], effort(row, kind.items), row["bits"], f"{row['cr']:.2f}", *_cells(row, kind.held_out, correct),
         *_cells(row, "before_threshold", [first]), max(row["dead_bits"]), f"{row['seconds']:.0f}"] for row in rows])


# ---- figures -----------------------------------------------------------------------------------------------------------

def _figures(results):
    parts = []
    for number, kind in results.tables.items():
        title = f"Figure {number + 2}: {kind.model}"
        if kind.items == "training_images":
            rows = [["original", "", png(results.published[number]["originals"], "original test images", "strip")]]
            rows += [[label, recipe, png(seeds[0]["examples"], f"{label}, {recipe}", "strip")]
                     for (n, recipe, label), seeds in results.raw.items() if n == number]
            parts += [element("h3", f"{title}, held-out images"),
                      table(["row", "recipe", "what comes back (first seed)"], rows)]
        else:
            parts += [element("h3", title), *_sentences(number, kind, results)]
    return parts


def _sentences(number, kind, results):
    """The report's two sentences through every row, and held-out ones through those of one size."""
    own = [(recipe, label, seeds[0]) for (n, recipe, label), seeds in results.raw.items() if n == number]
    parts = [table(["row", "recipe", *(f"“{sentence}”" for sentence in FIGURE_5)],
                   [[label, recipe, *result["figure5"]] for recipe, label, result in own])]
    for split, held_out in results.published[number]["held_out"].items():
        splits = {"length": ("length", "report"), "random": ("random",)}[split]
        rows = {(row["label"], recipe): row for recipe, rows in results.published[number]["tables"].items() for row in rows}
        chosen = [(recipe, label, result) for recipe, label, result in own
                  if rows[label, recipe]["split"] in splits and rows[label, recipe]["size"] == kind.figure_size]
        if chosen:
            parts += [element("h4", f"Held-out sentences, split {split}, hidden size {kind.figure_size}"),
                      table(["original", *(f"{label.split(',')[0]}, {recipe}" for recipe, label, _ in chosen)],
                            [[original, *(result["examples"][i] for _, _, result in chosen)]
                             for i, original in enumerate(held_out["shown"])])]
    return parts


def _rate(results):
    """Held-out quality against bits, of the plain rows."""
    parts = [element("p", "Held-out quality of each bottleneck by the bits of its codes; bars are standard deviations.")]
    for number, kind in results.tables.items():
        metric = _metrics(kind)[0]
        for recipe, rows in results.published[number]["tables"].items():
            points = [(row["quant"], row["bits"], *row[kind.held_out][metric]) for row in rows
                      if row["label"] == f"{row['quant']} {row['size']}"]
            parts.append(element("figure", element("figcaption", f"{kind.title}, recipe {recipe}"),
                                 chart(plots.rate_and_quality,
                                       f"{kind.title}, {recipe}: held-out {_name(metric)} against bits",
                                       f"held-out {_name(metric)}", points)))
    return parts


def _latents(results):
    words = ("The values before the threshold over the epochs (first seed): from bottom to top 0 to 1, dotted the "
             "threshold, the darker the more of them. Naive leaves many on the fence; fence and "
             "commit move them to the ends.")
    return [element("p", words), *_sheets(results, "latents", plots.latent_strips, "latent values by epoch")]


def _curves(results):
    words = ("The loss terms over the epochs (first seed), without their weights: the reconstruction, and dashed, on the "
             "axis at the right, what the bottleneck adds.")
    return [element("p", words), *_sheets(results, "history", plots.loss_sheet, "loss terms by epoch")]


def _sheets(results, part, draw, alt):
    """A chart with a panel for each row, of each table and recipe."""
    parts = []
    for number, kind in results.tables.items():
        for recipe in results.published[number]["tables"]:
            labelled = [(label, seeds[0][part]) for (n, name, label), seeds in results.raw.items()
                        if (n, name) == (number, recipe)]
            parts.append(element("figure", element("figcaption", f"{kind.title}, recipe {recipe}"),
                                 chart(draw, f"{kind.title}, {recipe}: {alt}", labelled)))
    return parts
