"""Where an embedded library's worker and its users meet, and the messages they exchange."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pagelens import wire
from pagelens.records import SparseVector
from pagelens.store.plan import ListQuery, Point, Range, Schema, Scored, VectorSpec, Where

MESSAGES = wire.Format(ListQuery, Point, Range, Schema, Scored, SparseVector, VectorSpec, Where)
"""A call is `[name, [argument, ...]]`, its answer `["ok", value]` or `[name of an error, what it says]`."""


def meeting_place(folder: Path) -> Path:
    """A folder of the library that its owner alone may enter; made when missing.

    It holds `lock`, taken while joining; `owner`, taken by a worker as long as it lives; `address.json`,
    while it listens; `log`, what it printed.
    """
    place = folder / "worker"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


@dataclass(frozen=True, slots=True)
class Address:
    """How to join a worker."""

    folder: str
    """Of its library: the address in a copied library is another's."""
    socket: str
    key: str
    """Hex digits."""
    process: int

    @staticmethod
    def of(folder: Path) -> Address | None:
        """What the library's worker wrote, even if it was killed since; None when there is nothing."""
        with contextlib.suppress(FileNotFoundError):
            address = Address(**json.loads((meeting_place(folder) / "address.json").read_text()))
            if address.folder == str(folder):
                return address
        return None

    def write(self) -> None:
        """Let others join."""
        path = meeting_place(Path(self.folder)) / "address.json"
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(asdict(self)))
        part.replace(path)

    def remove(self) -> None:
        """From here on users start a worker of their own."""
        (meeting_place(Path(self.folder)) / "address.json").unlink(missing_ok=True)
