"""report.html: everything that a run found out on one page, which needs nothing else and no network."""
from . import page_pictures, page_tables
from .html import Markup, element
from .rows import FULL, QUICK, QUICK_MARK, REDUCED

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 95rem; margin: 2rem auto; padding: 0 1rem }
h1 { line-height: 1.2 } h2 { margin-top: 3rem; border-bottom: 1px solid #ddd } h3 { margin-top: 2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: 13px; margin: .7rem 0 }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #e6e6e6; white-space: nowrap }
td.words { white-space: normal; min-width: 16rem } th { background: #f6f6f6; white-space: normal; vertical-align: bottom }
nav a { margin-right: 1.2rem; white-space: nowrap }
.within, .holds { background: #cdebc8 } .near { background: #fdf0c0 } .off, .fails { background: #f6cfc6 }
.own { background: #fdf0c0 } .legend span { padding: .1rem .4rem; margin-right: .4rem }
.quick { background: #c8553d; color: white; padding: .6rem 1rem; font-weight: bold } .small { color: #666; font-size: 13px }
img { max-width: 100% } img.strip { height: 34px; max-width: none; image-rendering: pixelated; vertical-align: middle }
code { background: #f3f3f3; padding: 0 .2rem } summary { cursor: pointer }
"""
AMOUNTS = {FULL: "all of the data", QUICK: "one epoch on a small part of the data",
           REDUCED: "fewer examples, epochs and seeds where a row would take hours, as each row says"}
SECTIONS = {"claims": ("The claims", page_tables.claims), "tables": ("The tables", page_tables.tables),
            "missed": ("Rows that miss the published figures", page_tables.missed),
            "ranked": ("Which bottleneck wins", page_tables.ranked), "errata": ("The errata", page_tables.errata),
            "figures": ("Figures 3, 4 and 5", page_pictures.figures), "rate": ("Rate and quality", page_pictures.rate),
            "weights": ("The weight of the commit loss", page_pictures.weights),
            "gradients": ("The encoder's gradients", page_pictures.gradients),
            "latents": ("Latent histograms", page_pictures.latents), "curves": ("Training curves", page_pictures.curves)}
"""Of the page: {anchor: (heading, function of the results that gives the content)}."""


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
            element("nav", [element("a", heading, href=f"#{name}") for name, (heading, _) in SECTIONS.items()])]
    body = [element("section", element("h2", heading), quick, content(results), id=name)
            for name, (heading, content) in SECTIONS.items()]
    meta = element("head", Markup('<meta charset="utf-8">\n'), element("title", title), element("style", Markup(STYLE)))
    return "<!DOCTYPE html>\n" + element("html", meta, element("body", head, body), lang="en")
