"""Hits as HTML: a gallery for a notebook, or a whole page that needs no other file.

Whatever comes from a document, a file name or a question is escaped by `escaped`. No scripts, nothing loaded
from elsewhere: pictures are data URIs, and a page grows when its `<details>` is opened. The gallery takes the
colours of paper and ink from where it stands, so that it fits light and dark notebooks alike.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from pagelens.marks import closeup, mark, pixels
from pagelens.wording import counted, printable, quoted

if TYPE_CHECKING:
    from PIL import Image

    from pagelens.hits import Hit, Hits
    from pagelens.records import Evidence, Stage

PAGE_WIDTH = 800
"""Pixels of the page opened: an A4 page's 10 point type can be read. Shown smaller, it is the thumbnail."""
CLOSEUP_WIDTH = 640
QUALITY = 60
"""JPEG. Ten pages of `mmdocir-dev`, text and photos, make 1.4 MB of HTML."""


def gallery_html(hits: Hits) -> str:
    """A fragment for a notebook; its style holds inside it only."""
    return f"<style>{_STYLE}</style>\n{section(hits.query, hits)}"


def page_html(results: Sequence[tuple[str, Hits]]) -> str:
    """A whole page, UTF-8, that needs no other file: a section for each title and its hits."""
    title = results[0][0] if len(results) == 1 else counted(len(results), "question")
    sections = (section(title, hits, f"result-{i}") for i, (title, hits) in enumerate(results, start=1))
    return whole_page(title, f"{_contents([title for title, _ in results])}{''.join(sections)}")


def whole_page(title: str, body: str, style: str = "", script: str = "") -> str:
    """A page around `body`, which may hold sections.

    Its Content-Security-Policy allows its own style, its own script, and data URIs as images, nothing else.
    """
    style = _PAGE_STYLE + _STYLE + style
    policy = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
    policy += f"script-src '{_digest(script)}'; " if script else ""
    policy += "base-uri 'none'; form-action 'none'"
    script = f"<script>{script}</script>\n" if script else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)} - pagelens</title>
<style>{style}</style>
</head>
<body>
{body}{script}</body>
</html>
"""


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _contents(titles: Sequence[str]) -> str:
    if len(titles) < 2:
        return ""
    links = (
        f'<li><a href="#result-{i}" dir="auto">{escaped(title)}</a></li>'
        for i, title in enumerate(titles, start=1)
    )
    return f"<nav><ol>{''.join(links)}</ol></nav>\n"


def section(title: str, hits: Hits, anchor: str = "") -> str:
    """A title and the hits below it."""
    name = f' id="{anchor}"' if anchor else ""
    question = (
        f'<div class="question" dir="auto">{escaped(hits.query)}</div>\n' if title != hits.query else ""
    )
    facts = [counted(len(hits), "page"), *([f"profile {hits.profile}"] if hits.profile else [])]
    facts += [f"{stage} {milliseconds:.0f} ms" for stage, milliseconds in hits.timings.items()]
    notes = "".join(f'<div class="note" dir="auto">{escaped(note)}</div>\n' for note in hits.notes)
    cards = "".join(_card(number, hit) for number, hit in enumerate(hits, start=1))
    return (
        f'<section class="pagelens"{name}>\n<h2 dir="auto">{escaped(title)}</h2>\n{question}'
        f'<div class="facts">{_spans(facts)}</div>\n{notes}{cards or _NOTHING}</section>\n'
    )


def _card(number: int, hit: Hit) -> str:
    page, detail = _pictures(hit)
    stages = "".join(_stage(name, stage) for name, stage in hit.stages.items())
    score = f"<b>{hit.score:.4g}</b> {escaped(hit.last_stage or '')}" if hit.stages else ""
    likely = "" if hit.probability is None else f'<div class="likely">{hit.probability:.0%} likely</div>'
    return (
        f'<article class="hit">\n{page}\n<div class="body">\n'
        f'<div class="head"><span class="number">{number}</span><h3 title="{escaped(hit.path)}">'
        f'<bdi>{escaped(hit.name)}</bdi> <span class="page">page {hit.page}</span></h3>'
        f'<div class="score">{score}{likely}</div></div>\n'
        f'{detail}{_quotes(hit)}<div class="stages">{stages}</div>\n</div>\n</article>\n'
    )


def _stage(name: str, stage: Stage) -> str:
    """Rank and score; the reasons, where a stage has some, when the pointer rests on it."""
    reasons = ", ".join(f"{each} {feature.share:+.2f}" for each, feature in stage.features.items())
    why = f' title="{escaped(reasons)}"' if reasons else ""
    return f"<span{why}>{escaped(name)} #{stage.rank} \N{MIDDLE DOT} {stage.score:.4g}</span>"


def _quotes(hit: Hit) -> str:
    """The passages with their matching words marked, or how the page begins."""
    if said := [each for each in hit.evidence if each.text]:
        return "".join(f'<div class="quote" dir="auto">{_quote(each)}</div>\n' for each in said)
    begins = escaped(hit.snippet) or "no text was read on this page"
    return f'<div class="quote plain" dir="auto">{begins}</div>\n'


def _quote(passage: Evidence) -> str:
    words = ((escaped(word), matches) for word, matches in quoted(passage))
    return " ".join(f"<mark>{word}</mark>" if matches else word for word, matches in words)


def _pictures(hit: Hit) -> tuple[str, str]:
    """The page, to be opened by a click, and a close-up of the best passage, "" where there is none."""
    try:
        image = hit.open_image()
    except Exception as error:  # whatever keeps one image from being read, the rest of the cards stands
        reason = escaped(f"{type(error).__name__}: {error}")
        return f'<div class="sheet missing">page image not available<small>{reason}</small></div>', ""
    label = f"page {hit.page} of {hit.name}"
    marked = picture(mark(image, hit.record, hit.evidence), PAGE_WIDTH, label)
    page = f'<details class="sheet"><summary title="larger, smaller">{marked}</summary></details>'
    if not hit.evidence:
        return page, ""
    best = hit.evidence[0]  # alone: the frames of neighbours would cross its lines
    area = pixels(closeup(hit.record, best), hit.record, image.size)
    part = mark(image, hit.record, [best]).crop(area)
    return page, f'<div class="closeup">{picture(part, CLOSEUP_WIDTH, f"passage on {label}")}</div>\n'


def picture(image: Image.Image, width: int, label: str) -> str:
    """An `<img>` of at most `width` pixels across."""
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), reducing_gap=3.0)
    jpeg = BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY, optimize=True)
    data = base64.b64encode(jpeg.getvalue()).decode()
    size = f'width="{image.width}" height="{image.height}"'
    return f'<img src="data:image/jpeg;base64,{data}" {size} alt="{escaped(label)}">'


def _spans(items: Iterable[str]) -> str:
    return " ".join(f"<span>{escaped(item)}</span>" for item in items)


def escaped(text: str) -> str:
    """Safe for the text of an element or a quoted attribute."""
    return html.escape(printable(text))


_NOTHING = """<div class="nothing"><b>No page was found.</b> Try fewer or other words, or take away a filter.
<code>pagelens status</code> says what the library holds and which files could not be read.</div>
"""

_PAGE_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; padding: 24px clamp(12px, 4vw, 40px) 60px; max-width: 1040px;
  background: Canvas; color: CanvasText; font: 16px/1.5 system-ui, sans-serif; }
nav { font-size: 15px; margin-bottom: 24px; }
nav a { color: LinkText; text-decoration: none; }
nav a:hover { text-decoration: underline; }
"""

_STYLE = """
.pagelens { --line: rgba(128, 128, 128, .35); --wash: rgba(128, 128, 128, .1); margin: 8px 0 40px;
  line-height: 1.5; overflow-wrap: anywhere; }
.pagelens h2 { margin: 0 0 4px; font-size: 22px; line-height: 1.3; font-weight: 650; }
.pagelens .question { margin-bottom: 4px; font-size: 17px; }
.pagelens .facts { margin-bottom: 16px; font-size: 13px; opacity: .72; }
.pagelens .facts span + span { border-inline-start: 1px solid; margin-inline-start: 4px;
  padding-inline-start: 8px; }
.pagelens .note { margin-bottom: 16px; padding: 6px 12px; border-inline-start: 3px solid #d98c00;
  background: var(--wash); font-size: 14px; }
.pagelens .nothing { padding: 20px; border: 1px dashed var(--line); border-radius: 8px; }
.pagelens .hit { display: grid; grid-template-columns: 200px minmax(0, 1fr); gap: 20px; align-items: start;
  padding: 20px 0; border-top: 1px solid var(--line); }
.pagelens .body { display: grid; gap: 12px; min-width: 0; }
.pagelens .head { display: flex; gap: 10px; align-items: baseline; }
.pagelens .number { font-size: 14px; opacity: .6; }
.pagelens h3 { flex: 1; min-width: 0; margin: 0; font-size: 16px; line-height: 1.35; font-weight: 650; }
.pagelens h3 .page { font-weight: 400; white-space: nowrap; opacity: .8; }
.pagelens .score { font-size: 13px; white-space: nowrap; text-align: end; }
.pagelens .score b { font-size: 16px; }
.pagelens .likely { opacity: .72; }
.pagelens .quote { padding: 0 12px; border-inline-start: 3px solid #3b82d0; font-size: 15px; }
.pagelens .plain { border-color: var(--line); opacity: .8; }
.pagelens mark { padding: 0 1px; border-radius: 2px; background: rgba(255, 180, 0, .38); color: inherit; }
.pagelens .stages { display: flex; flex-wrap: wrap; gap: 6px; font-size: 12px; opacity: .8; }
.pagelens .stages span { padding: 0 9px; border: 1px solid var(--line); border-radius: 10px; }
.pagelens img { display: block; box-sizing: border-box; max-width: 100%; height: auto; margin: 0;
  border: 1px solid var(--line); border-radius: 3px; }
.pagelens .sheet img { width: 100%; }
.pagelens .sheet summary { list-style: none; cursor: zoom-in; }
.pagelens .sheet summary::-webkit-details-marker { display: none; }
.pagelens .sheet[open] summary { cursor: zoom-out; }
.pagelens .sheet[open], .pagelens .sheet[open] + .body { grid-column: 1 / -1; }
.pagelens .missing { box-sizing: border-box; min-height: 140px; display: grid; place-content: center;
  gap: 6px; padding: 12px; border: 1px dashed var(--line); border-radius: 3px; text-align: center;
  font-size: 14px; }
.pagelens .missing small { font-size: 12px; opacity: .72; }
@media (max-width: 640px) {
  .pagelens .hit { grid-template-columns: minmax(0, 1fr); gap: 12px; }
  .pagelens .sheet:not([open]) { max-width: 160px; }
  .pagelens .head { flex-wrap: wrap; }
}
"""
