"""Our codes against the classical codecs: __main__.py is the command, measure.py says what is measured."""
