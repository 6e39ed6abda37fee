"""Whether a library is whole: points and page files held against each other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

from pagelens.errors import DocumentError
from pagelens.store.pages import PageFiles
from pagelens.store.plan import Store, Where

UNSURE = 0.6
"""Mean OCR confidence below which a page is worth a look: the noisiest forms of `funsd-dev` read upright
stay above it."""
BLANK_SPREAD = 8.0
"""Standard deviation of grey levels, 0..255, of an empty sheet as scanned; one line of type has more."""


class Finding(NamedTuple):
    """One thing worth knowing about a page or a document."""

    kind: str
    """`"damaged"` and `"incomplete"` are faults; `"blank"`, `"unsure"`, `"cut off"` are pages to look at."""
    name: str
    """page_id, or doc_id for a document."""
    place: str
    """The file, below its root, and the page from 1; empty where no document tells."""
    about: str
    """What was found, and for a fault the cure."""

    @property
    def is_fault(self) -> bool:
        """Whether something must be done."""
        return self.kind in ("damaged", "incomplete")


def check(store: Store, files: PageFiles) -> Iterator[Finding]:
    """Go through every document and page; reads every page file once."""
    again = "remove its document and ingest it again"
    expected = {p.payload["doc_id"]: p.payload for p in store.scroll(Where({"kind": "document"}))}
    present: dict[str, set[int]] = {doc_id: set() for doc_id in expected}

    def found(kind: str, about: str, doc_id: str, number: int | None = None) -> Finding:
        path = expected[doc_id]["files"][0]["path"] if doc_id in expected else ""
        if number is None:
            return Finding(kind, doc_id, path, about)
        return Finding(kind, f"{doc_id}#{number}", f"{path}, page {number + 1}" if path else "", about)

    keys = ["doc_id", "number", "words", "confidence", "digests", "regions_cut"]
    for point in store.scroll(Where({"kind": "page"}), payload=keys):
        page = point.payload
        doc_id, number = page["doc_id"], page["number"]
        present.setdefault(doc_id, set()).add(number)
        try:
            page_id = f"{doc_id}#{number}"
            data = {"image": files.image(page_id), "words": files.words_file(page_id)}
        except DocumentError as error:
            yield found("damaged", error.reason, doc_id, number)
            continue
        for name, digest in page["digests"].items():
            if hashlib.sha256(data[name]).hexdigest() != digest:
                about = f"its {name} file is not the one that was written; {again}"
                yield found("damaged", about, doc_id, number)
        if not page["words"]:
            blank = _is_blank(data["image"])
            about = "an empty sheet" if blank else "no word was read"
            yield found("blank" if blank else "unsure", about, doc_id, number)
        elif page["confidence"] is not None and page["confidence"] < UNSURE:
            yield found("unsure", f"words read with a confidence of {page['confidence']:.0%}", doc_id, number)
        if page.get("regions_cut"):
            yield found(
                "cut off", f"not all of its regions were looked for: it {page['regions_cut']}", doc_id, number
            )
    for point in store.scroll(Where({"kind": "failure"}), payload=["doc_id", "page"]):
        if point.payload["page"] is not None:
            present.setdefault(point.payload["doc_id"], set()).add(point.payload["page"])
    for doc_id, numbers in present.items():
        if doc_id not in expected:
            about = f"{len(numbers)} pages without their document; ingest it again"
            yield found("incomplete", about, doc_id)
        elif not expected[doc_id]["whole"]:
            yield found("incomplete", "an ingest was interrupted; run it again", doc_id)
        elif lost := set(range(expected[doc_id]["pages"])) - numbers:
            yield found("incomplete", f"{len(lost)} of its pages are not there; {again}", doc_id)
    for doc_id in sorted(files.documents() - expected.keys()):
        about = "page files that nothing points to; delete them or ingest again"
        yield found("incomplete", about, doc_id)


def _is_blank(jpeg: bytes) -> bool:
    import PIL.Image
    import PIL.ImageStat

    image = PIL.Image.open(BytesIO(jpeg)).convert("L")
    margin = min(image.size) // 20  # shadows of the edge
    inner = image.crop((margin, margin, image.width - margin, image.height - margin))
    return PIL.ImageStat.Stat(inner).stddev[0] < BLANK_SPREAD
