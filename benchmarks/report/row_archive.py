"""rows.zip: what a run leaves of every row and seed, its figures, curves and examples, without the models.

Whoever unpacks it in the folder rows of an --out has these rows done already.
"""

import zipfile
from pathlib import Path

from tinyqae.checkpoint import write_atomically

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of every file, so that the same rows make the same archive."""


def unpack(archive, folder):
    """Put the rows of an archive, if there is one, into a folder, but for those that it has."""
    if not archive.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as rows:
        for name in rows.namelist():
            path = folder / Path(name).name
            if not path.exists():
                write_atomically(path, lambda file, name=name: file.write(rows.read(name)))


def pack(paths, archive):
    """Write an archive of these files."""

    def write(file):
        # Deflated, which every unzip reads.
        with zipfile.ZipFile(file, "w") as rows:
            for path in sorted(paths):
                rows.writestr(zipfile.ZipInfo(path.name, LONG_AGO), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)

    write_atomically(archive, write)
