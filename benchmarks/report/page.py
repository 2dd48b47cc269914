"""report.html: all results of a run on one self-contained page that needs no network.

The text and markup are in templates/, a file for each section; page_tables.py and page_pictures.py provide the content.
"""

import functools
from pathlib import Path

from tinyqae.errors import MissingPackage

from . import page_pictures, page_tables
from .rows import FULL, QUICK, QUICK_MARK, REDUCED, plus_minus

TEMPLATES = Path(__file__).parent / "templates"
AMOUNTS = {
    FULL: "all of the data",
    QUICK: "one epoch on a small part of the data",
    REDUCED: "fewer examples, epochs and seeds where a row would take hours, as stated in each row",
}
SECTIONS = {
    "claims": ("The claims", page_tables.claims),
    "tables": ("The tables", page_tables.tables),
    "missed": ("Rows that miss the published figures", page_tables.missed),
    "ranked": ("Which bottleneck wins", page_tables.ranked),
    "errata": ("The errata", page_tables.errata),
    "figures": ("Figures 3, 4 and 5", page_pictures.figures),
    "rate": ("Rate and quality", page_pictures.rate),
    "weights": ("The weight of the commit loss", page_pictures.weights),
    "gradients": ("The encoder's gradients", page_pictures.gradients),
    "latents": ("Latent histograms", page_pictures.latents),
    "curves": ("Training curves", page_pictures.curves),
}
"""The page's sections: {anchor and name of the template: (heading, function from results to the template's variables)}."""


@functools.cache
def templates():
    """The Jinja2 environment of the templates; MissingPackage if Jinja2 is not installed."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise MissingPackage("report.html is made with Jinja2: pip install 'tinyqae[report]'") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["plus_minus"] = plus_minus
    return environment


def section(results, name):
    """Return the content of a section as HTML, without its heading."""
    return templates().get_template(f"{name}.html").render(SECTIONS[name][1](results))


def amounts_in_words(amounts):
    """Describe how much was trained. amounts: {recipe's name: FULL, REDUCED or QUICK}."""
    if len(set(amounts.values())) == 1:
        return AMOUNTS[next(iter(amounts.values()))]
    return "; ".join(f"recipe {name}: {AMOUNTS[amount]}" for name, amount in amounts.items())


def as_html(results):
    """Return the page as text. results: outputs.Results."""
    about = results.about
    return (
        templates()
        .get_template("report.html")
        .render(
            about=about,
            amount=amounts_in_words(about["amounts"]),
            quick_mark=QUICK_MARK if results.quick else None,
            machines=sorted({published["machine"] for published in results.published.values()}),
            sections=[(name, heading, section(results, name)) for name, (heading, _) in SECTIONS.items()],
        )
    )
