"""Table 3 as rate_distortion.py and readme.py ask for it; see image_tables.py."""
from image_tables import of_report_bottlenecks

from tinyqae.reproduce.text_table import LONGER

__all__ = ["LONGER", "Table3"]
Table3 = of_report_bottlenecks(3)
