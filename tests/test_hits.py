"""Hits as values: what they say of themselves, how they are cut."""

from __future__ import annotations

import json

import PIL.Image

from pagelens import Box, Evidence, Hit, Hits, Library, Page, Stage, Word


def hit(number: int = 2, text: str = "All that was read.", evidence: tuple[Evidence, ...] = ()) -> Hit:
    stages = {"bm25": Stage(3, 7.25), "fused": Stage(1, 1.5)}
    page = Page("0123456789abcdef", number, 595, 842)
    blank = PIL.Image.new("RGB", (595, 842), "white")
    return Hit(page, "/scans/lease.pdf", 1.5, stages, evidence, text, open_image=lambda: blank)


def test_pages_count_from_1_for_people_and_from_0_in_ids() -> None:
    assert (hit(2).page, hit(2).page_id, hit(2).doc_id) == (3, "0123456789abcdef#2", "0123456789abcdef")


def test_as_dict_is_json_with_absent_stages_absent() -> None:
    passage = Evidence("rent is due", Box(10, 20, 110, 32), (Word("rent", Box(10, 20, 30, 32), line=0),))
    hits = Hits("rent?", "light", (hit(evidence=(passage,)),), {"encode": 1.5})
    assert json.loads(json.dumps(hits.as_dict())) == {
        "schema": 1,
        "query": "rent?",
        "profile": "light",
        "timings_ms": {"encode": 1.5},
        "hits": [
            {
                "page_id": "0123456789abcdef#2",
                "path": "/scans/lease.pdf",
                "page": 3,
                "score": 1.5,
                "stages": {"bm25": {"rank": 3, "score": 7.25}, "fused": {"rank": 1, "score": 1.5}},
                "evidence": [{"text": "rent is due", "box": [10, 20, 110, 32]}],
            }
        ],
    }


def test_hits_are_a_sequence_and_a_slice_is_hits() -> None:
    hits = Hits("rent?", "light", tuple(hit(n) for n in range(5)), notes=("a note",))
    assert (len(hits), hits[0].page, hits[-1].page) == (5, 1, 5)
    part = hits[1:3]
    assert isinstance(part, Hits) and [each.page for each in part] == [2, 3]
    assert (part.query, part.notes) == (hits.query, hits.notes)
    assert not Hits("rent?", "light", ())


def test_repr_names_page_and_stage_of_the_score() -> None:
    shown = repr(Hits("rent?", "light", (hit(),), notes=("read with care",)))
    assert "lease.pdf, page 3" in shown and "fused 1.5" in shown and "bm25" not in shown
    assert "All that was read." in shown and "note: read with care" in shown
    assert repr(Hits("rent?", "light", ())).startswith("0 pages for 'rent?'")


def test_show_marks_the_words_on_the_page(small_library: Library) -> None:
    best = small_library.search("who signed the lease?")[0]
    plain, shown = best.open_image(), best.show()
    assert shown.size == plain.size
    assert plain.width == round(best.record.width / 72 * 150)  # DPI
    [signed] = [word for each in best.evidence for word in each.words if word.text == "signed"]
    scale = plain.width / best.record.width
    inside = (
        signed.box.left * scale,
        signed.box.top * scale,
        signed.box.right * scale,
        signed.box.bottom * scale,
    )
    box = tuple(round(edge) for edge in inside)
    ink = plain.convert("L").crop(box).getextrema()  # type: ignore[arg-type]
    assert ink[0] < 100  # type: ignore[operator]  # the word does stand there
    assert plain.crop(box).tobytes() != shown.crop(box).tobytes()  # type: ignore[arg-type]
