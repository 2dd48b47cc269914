"""Measures of what a codec loses and what it saves: image.py, text.py, rate.py, each imported by name."""
