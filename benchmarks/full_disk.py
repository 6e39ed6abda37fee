"""An ingest whose disk fills up: `python benchmarks/full_disk.py`.

On a disk of its own (a tmpfs, which root alone may mount; without it the command says so and does nothing).
A disk that is too full is refused before a page is read. One that somebody else fills meanwhile,
to the last byte or to less than the index asks for, stops the ingest with a message; nothing is damaged, what
is there can be searched, and once there is room again the same ingest ends as one that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from collection import OUT
from crash import contents, write_slips

from pagelens import Library, Progress

SIZE = 300 * 2**20
"""Bytes of the disk: the index alone asks for 128 MB to spare."""
LEFT = {"to the last byte": 0, "to 100 MB": 100 * 2**20}
AFTER = 25
"""Pages read when it happens, of 60."""


def main() -> None:
    """Print what became of each ingest, write JSON, end with 1 when one is not as it should be."""
    work = OUT / "full_disk"
    shutil.rmtree(work, ignore_errors=True)
    scans = work / "scans"
    write_slips(scans, random.Random(0))
    with Library(work / "undisturbed.pagelens", profile="words") as library:
        library.ingest(scans, regions=False)
    wanted = contents(work / "undisturbed.pagelens")
    try:
        with _disk(work / "disk") as disk:
            rows = [_refused(disk, scans)]
            for name, left in LEFT.items():
                row = _filled(disk, scans, left)
                whole = contents(disk / "library.pagelens")
                rows.append({"filled": name, **row, "same": whole.is_like(wanted)})
                shutil.rmtree(disk / "library.pagelens")
    except PermissionError as error:
        print(f"not done, {error}")
        return
    for row in rows:
        print(", ".join(f"{key}: {value}" for key, value in row.items()))
    (OUT / "full_disk.json").write_text(json.dumps({"schema": 1, "rows": rows}, indent=1) + "\n")
    sound = all(row["message"] and not row.get("damaged") and row.get("same", True) for row in rows)
    sys.exit(not sound)


@contextlib.contextmanager
def _disk(place: Path) -> Iterator[Path]:
    """A small one of its own.

    Raises:
        PermissionError: it may not be made here.
    """
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "pagelens-full-disk", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PermissionError(
            f"no disk can be made here: {getattr(error, 'stderr', error)}".strip()
        ) from error
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)  # a worker may just be ending


def _fill(disk: Path, left: int) -> Path:
    """Somebody else's file takes all but `left` bytes."""
    path = disk / "somebody else's"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - left)
    return path


def _refused(disk: Path, scans: Path) -> dict[str, object]:
    """An ingest whose disk is too full from the start."""
    library = disk / "library.pagelens"
    Library(library, profile="words").close()
    theirs = _fill(disk, left=100 * 2**20)
    row = {"filled": "before it starts", **_stopped(library, scans, lambda _: None)}
    theirs.unlink()
    shutil.rmtree(library)
    return row


def _filled(disk: Path, scans: Path, left: int) -> dict[str, object]:
    """An ingest whose disk is filled while it runs; then freed, and the ingest run again."""
    library, theirs = disk / "library.pagelens", disk / "somebody else's"

    def look(now: Progress) -> None:
        if now.done >= AFTER and not theirs.exists():
            _fill(disk, left)

    row = _stopped(library, scans, look)
    theirs.unlink()
    with Library(library, profile="words") as opened:
        row["damaged"] = sum(finding.kind == "damaged" for finding in opened.check())
        row["found"] = len(opened.search("slip"))
        row["read then"] = opened.ingest(scans, regions=False).pages
    return row


def _stopped(library: Path, scans: Path, progress: Callable[[Progress], None]) -> dict[str, object]:
    """What an ingest says that runs out of room, and how many pages are there then."""
    message = ""
    with Library(library, profile="words") as opened:
        try:
            opened.ingest(scans, regions=False, progress=progress)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            message = str(error.strerror)
        return {"message": message, "pages": opened.status()["pages"]}


if __name__ == "__main__":
    main()
