"""Named roots: where the files of a library lie, so that the library can be moved.

A path in the store is the name of a root and what follows below it. The roots themselves are the only
absolute paths a library holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


class Roots:
    """The roots of one library.

    Args:
        stored: Name -> absolute folder, as they were when the library was last written.
        home: Where the library was then.
        here: Where it is now.
    """

    def __init__(self, stored: Mapping[str, str], home: Path, here: Path) -> None:
        self._places = {name: _moved(Path(folder), home, here) for name, folder in stored.items()}

    def as_dict(self) -> dict[str, str]:
        """For the store."""
        return {name: str(place) for name, place in self._places.items()}

    def locate(self, path: Path, folder: Path) -> tuple[str, str]:
        """The root that holds a file, and its path below that; a new root `folder` where there is none.

        A file always goes by the same name, however it is reached: of several roots the deepest holds it.

        >>> roots = Roots({}, Path("/"), Path("/"))
        >>> roots.locate(Path("/scans/1990/box.pdf"), Path("/scans"))
        ('scans', '1990/box.pdf')
        >>> roots.locate(Path("/scans/1990/box.pdf"), Path("/scans/1990"))
        ('scans', '1990/box.pdf')
        """
        holding = [name for name, place in self._places.items() if path.is_relative_to(place)]
        if not holding:
            name = folder.name or "root"
            while name in self._places:
                name += "-2"
            self._places[name] = folder
            holding = [name]
        name = max(holding, key=lambda each: len(self._places[each].parts))
        return name, path.relative_to(self._places[name]).as_posix()

    def absolute(self, root: str, path: str) -> Path:
        """The file that `locate` named."""
        return self._places[root] / path


def _moved(stored: Path, home: Path, here: Path) -> Path:
    """Where a root is: where it was, or else where it is from here, when both were moved together."""
    if home == here or stored.exists():
        return stored
    moved = (here / os.path.relpath(stored, home)).resolve()
    return moved if moved.exists() else stored
