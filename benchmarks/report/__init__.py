"""The report reproduced: its tables and figures trained and measured anew, and what that says about its claims.

__main__.py       the command                      run.py  from settings to files
rows.py           what a row is, and means over seeds
image_tables.py   Tables 1 and 2                   text_table.py  Table 3: rows, training, figures, Markdown
jobs.py           one row with one seed: its key, its file, its checkpoint
workers.py        many of them in several processes, or on a Dask cluster       bars.py  what is seen meanwhile
image_metrics.py  text_metrics.py                  the report's own, flawed definitions
bounds.py         what theory allows at a number of bits or floats
significance.py   what a difference over seeds proves
agreement.py      by what rule a figure agrees with the published one
claims.py         what the report claims, checked                               errata.py  its mistakes, demonstrated
misses.py         why rows miss the published figures, by trials.json, which why_missed.py records
ranking.py        which bottleneck wins            weights.py  what the commit loss's weight does
encoder.py        the encoder's gradients with and without threshold
outputs.py        CSV, JSON, Markdown, figures     plots.py  the study's own pictures
page.py           report.html: page_tables.py  page_pictures.py  templates/
publish.py        the committed results            row_archive.py  rows.zip    readme.py  readme_tables.py  README.md
"""

from .run import TABLES, reproduce

__all__ = ["TABLES", "reproduce"]
