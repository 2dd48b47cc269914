"""The parts of report.html that are tables: claims, why rows miss, the tables themselves, the bottlenecks' order, errata."""
from .agreement import NEAR, OFF, RULE, WITHIN, agreement
from .claims import AHEAD, FAILS, HOLDS, NAMES, OWN_METRIC_ONLY
from .html import element, table
from .misses import MISSED, why_in_words
from .ranking import HEADINGS, cells_of, rankings
from .ranking import RULE as APART
from .ranking import words as ranking_in_words
from .rows import QUICK, effort, plus_minus

VERDICTS = {HOLDS: "holds", FAILS: "fails", OWN_METRIC_ONLY: "own"}
DIGITS = {"psnr": 2, "ssim": 3, "mse": 1, "mae": 1, "levenshtein": 2, "exact_match_rate": 3}
NO_REPORT = "No row of recipe report is in this run"
RECIPES = {"report": "the settings behind the report's table", "default": "the best training found on a validation split"}


# ---- claims and errata -------------------------------------------------------------------------------------------------

def claims(results):
    """Each claim of the report with its verdict and the numbers behind it."""
    if not _has_report(results):
        return [element("p", f"{NO_REPORT}, by which claims are judged.")]
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


def _has_report(results):
    return any("report" in published["tables"] for published in results.published.values())


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


def errata(results):
    """Each erratum with the figures that show it."""
    return [[element("h3", erratum.title), element("p", erratum.words), table(erratum.headings, erratum.rows)]
            for erratum in results.errata]


# ---- why rows miss, and which bottleneck wins ---------------------------------------------------------------------------

def missed(results):
    """Each row of the report's recipe that misses its published figures, and why."""
    if results.about["amount"] == QUICK:
        return [element("p", "Not asked in a quick run, whose figures mean nothing.")]
    if not _has_report(results):
        return [element("p", f"{NO_REPORT}.")]
    if not results.misses:
        return [element("p", "Every row of recipe report is within the spread over seeds of what was published.")]
    parts = [element("p", MISSED)]
    for number, kind in results.tables.items():
        rows = [[miss.label, element("td", [element("div", figure) for figure in miss.figures]),
                 element("td", why_in_words(miss), class_="words")] for miss in results.misses if miss.table == number]
        if rows:
            headings = ["row", "published and ours, by the report's definition", "why"]
            parts += [element("h3", kind.title), table(headings, rows)]
    return parts


def ranked(results):
    """All bottlenecks at one size of each model, best first."""
    parts = [element("p", "Recipe default, held-out, mean ± standard deviation over seeds; the distance to commit "
                          f"(+: better) ± its standard error. {APART}")]
    found = [(number, ranking) for number, kind in results.tables.items()
             for ranking in rankings(kind, results.published[number])]
    if not found:
        return [element("p", "This run has no rows of recipe default.")]
    for number, ranking in found:
        parts += [element("h3", f"{ranking.what} ({results.published[number]['data'].split(';')[0].split(',')[0]})"),
                  element("p", ranking_in_words(ranking)),
                  table(["bottleneck", NAMES[ranking.metric], *HEADINGS], cells_of(ranking))]
    return parts


# ---- tables ------------------------------------------------------------------------------------------------------------

def tables(results):
    """Each row as published, by the report's definitions, and correct on held-out data."""
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
