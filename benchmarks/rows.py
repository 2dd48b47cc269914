"""Where the benchmarks put their results, and what they share with the tables of tinyqae.reproduce."""
from pathlib import Path

from tinyqae.reproduce.rows import QUANTS, Row, plus_minus

__all__ = ["QUANTS", "RESULTS", "Row", "plus_minus"]
RESULTS = Path(__file__).resolve().parent / "results"
