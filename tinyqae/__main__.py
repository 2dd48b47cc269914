"""`python -m tinyqae` is the command `tinyqae`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
