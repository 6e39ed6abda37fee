"""What becomes of files that are odd or broken: `python benchmarks/odd_pdfs.py --data DIR`.

Every PDF of `odd-pdfs`, from the test suites of 18 PDF tools, goes through the readers page by page. Each
file must be accounted for: opened with its pages read or failed, or failed as a whole, with a reason. A
reader that dies or hangs is counted; the command ends with 1 when one does, or when a page has no answer.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter, deque
from typing import Any

from collection import OUT, data_argument

from pagelens import DocumentError
from pagelens.ingest import ocr
from pagelens.ingest.pool import ReaderPool, Task
from pagelens.ingest.reading import ReadSettings
from pagelens.records import Document, PageContent

BROKEN_READER = re.compile("reader process|given up")
"""What the pool says of a reader that died or hung."""


def main() -> None:
    """Print the table of reasons, write JSON."""
    parser = data_argument(__doc__)
    arguments = parser.parse_args()
    paths = sorted((arguments.data / "odd-pdfs").iterdir())
    settings = ReadSettings(ocr=ocr.choose(None, ("eng",)))
    files: dict[str, dict[str, Any]] = {}
    slowest: list[tuple[float, str]] = []
    started = time.monotonic()
    with ReaderPool(settings, os.cpu_count() or 1) as pool:
        tasks = deque(Task(path) for path in paths)
        since: dict[Task, float] = {}
        while tasks or pool.busy:
            while tasks and pool.room:
                since[tasks[0]] = time.monotonic()
                pool.submit(tasks.popleft())
            answer = pool.take()
            name, number = answer.task.path.name, answer.task.number
            slowest.append((time.monotonic() - since[answer.task], f"{name} {number}"))
            match answer.result:
                case Document(_, pages):
                    files[name] = {"pages": pages, "read": 0, "failed": [], "sources": Counter()}
                    tasks.extend(Task(answer.task.path, page) for page in range(pages))
                case PageContent() as content:
                    files[name]["read"] += 1
                    source = content.text.source if content.text.words else f"no words, {content.text.source}"
                    files[name]["sources"][source] += 1
                case DocumentError() as error:
                    entry = files.setdefault(name, {"pages": None, "read": 0, "failed": [], "sources": {}})
                    entry["failed"].append({"page": number, "stage": error.stage, "reason": error.reason})
    seconds = time.monotonic() - started

    failures = [(name, failure) for name, file in files.items() for failure in file["failed"]]
    broken = [f for f in failures if BROKEN_READER.search(f[1]["reason"])]
    lost = [path.name for path in paths if path.name not in files]
    lost += [
        n for n, f in files.items() if f["pages"] is not None and f["read"] + len(f["failed"]) != f["pages"]
    ]
    reasons = Counter((f["stage"], "file" if f["page"] is None else "page", f["reason"]) for _, f in failures)
    sources = sum((Counter(file["sources"]) for file in files.values()), Counter[str]())
    whole = sum(file["pages"] is not None and not file["failed"] for file in files.values())
    print(f"{len(paths)} files, {whole} read whole, {len(files) - whole} with failures, {seconds:.0f} s")
    print("pages: " + ", ".join(f"{count} {source}" for source, count in sources.most_common()))
    for (stage, what, reason), count in reasons.most_common():
        print(f"{count:5} {what}  {stage:7}{reason}")
    print(f"readers that died or hung: {len(broken)}; files or pages without an answer: {len(lost)}")
    print(f"longest wait for an answer: {max(slowest)[0]:.1f} s, {max(slowest)[1]}")
    OUT.mkdir(exist_ok=True)
    (OUT / "odd_pdfs.json").write_text(
        json.dumps({"schema": 1, "seconds": seconds, "files": files}, indent=1)
    )
    sys.exit(bool(broken or lost))


if __name__ == "__main__":
    main()
