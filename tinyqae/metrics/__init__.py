"""Metrics of distortion and rate: image.py, text.py, rate.py, each imported by name."""
