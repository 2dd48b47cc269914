"""rows.zip: the figures, curves and examples of every row and seed of a run, without the models.

Once it is unpacked into the folder rows of an --out, these rows count as trained.
"""

import zipfile
from pathlib import Path

from tinyqae.checkpoint import write_atomically

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of every file, so that the same rows give the same archive."""


def unpack(archive, folder):
    """Unpack an archive, if it exists, into a folder, except for the rows that are already there."""
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
        # Deflated, which every unzip can read.
        with zipfile.ZipFile(file, "w") as rows:
            for path in sorted(paths):
                rows.writestr(zipfile.ZipInfo(path.name, LONG_AGO), path.read_bytes(), zipfile.ZIP_DEFLATED, 9)

    write_atomically(archive, write)
