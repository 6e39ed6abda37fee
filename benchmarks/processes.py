"""This process and those it started: their memory, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path


def family(root: int) -> list[int]:
    """`root` and every process below it, by parent's number in /proc."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def kill(root: int) -> None:
    """Kill -9 of all of them, as a power cut would have it: nobody is left to tidy up."""
    for pid in family(root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def memory(root: int) -> int:
    """Bytes of all of them, a page shared by several counted once (sum of PSS)."""
    total = 0
    for pid in family(root):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


class MemoryWatch(threading.Thread):
    """Looks at the memory of this process and its children twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.now = 0
        self.peak = 0
        self._ended = threading.Event()

    def run(self) -> None:
        """Until `stop`."""
        while not self._ended.wait(0.5):
            self.now = memory(os.getpid())
            self.peak = max(self.peak, self.now)

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self.join()
