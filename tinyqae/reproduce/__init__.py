"""The report reproduced: its tables and figures trained and measured anew, and what that says about its claims.

    rows.py           what a row is, and means over seeds
    image_tables.py   Tables 1 and 2        text_table.py   Table 3: rows, training, figures, Markdown
    jobs.py           one row with one seed: its key, its file, its checkpoint
    workers.py        many of them in several processes, or on a Dask cluster      bars.py   what is seen meanwhile
    run.py            from arguments to files                                      outputs.py   CSV, JSON, Markdown
    agreement.py      by what rule a figure agrees with the published one
    claims.py         what the report claims, checked          errata.py   its mistakes, demonstrated
    misses.py         why rows miss the published figures      ranking.py  which bottleneck wins
    weights.py        what the commit loss's weight does       encoder.py  the encoder's gradients with and without threshold
    page.py           report.html: page_tables.py, page_pictures.py         html.py     elements, escaped
"""
from .run import TABLES, reproduce

__all__ = ["TABLES", "reproduce"]
