"""Run the command `tinyqae` as `python -m tinyqae`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
