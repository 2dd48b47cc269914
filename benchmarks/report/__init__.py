"""Reproduction of the report: its tables and figures retrained and remeasured, and what that says about its claims.

    __main__.py       the command                      run.py  from settings to files
    rows.py           what a row is, and means over seeds
    image_tables.py   Tables 1 and 2                   text_table.py  Table 3: rows, training, figures, Markdown
    jobs.py           one row with one seed: its key, its file, its checkpoint
    workers.py        many of them in several processes, or on a Dask cluster       bars.py  progress bars
    image_metrics.py  text_metrics.py                  the report's own, flawed definitions
    bounds.py         theoretical limits at a given number of bits or floats
    significance.py   whether a difference over seeds is significant
    agreement.py      the rule by which a figure agrees with the published one
    claims.py         what the report claims, checked                               errata.py  its mistakes, demonstrated
    misses.py         why rows miss the published figures, from trials.json, which why_missed.py writes
    ranking.py        which bottleneck wins            weights.py  the effect of the commit loss's weight
    encoder.py        the encoder's gradients with and without threshold
    outputs.py        CSV, JSON, Markdown, figures     plots.py  the study's own plots
    page.py           report.html: page_tables.py  page_pictures.py  templates/
    publish.py        the committed results            row_archive.py  rows.zip    readme.py  readme_tables.py  README.md

`python -m benchmarks.report --help` explains the command.
"""

from .run import TABLES, reproduce

__all__ = ["TABLES", "reproduce"]
