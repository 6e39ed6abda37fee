"""What each stage can do, kind of difficulty by kind: `python benchmarks/probes.py [--rerank NAME@PAGES]`.

Pages made by code, drawn as scans and read by OCR, and questions whose answers are known because the pages
were made for them: negation, term weighting, comparisons that need two pages, numbers and units, acronyms and
paraphrases, an answer of two sentences in a long page, near-duplicates, a chart's legend. Everything is in
one collection, so every kind's pages are in the way of every other kind's questions.

A probe says where a stage is blind. The pages are too plain for its figures to say anything of real ones.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from collection import OUT
from PIL import Image, ImageDraw, ImageFont

from pagelens import Library
from pagelens.evaluation.asking import DEPTH, every_order
from pagelens.evaluation.measures import measured
from pagelens.store.points import page_point_id

SIZE = (1240, 1754)
"""Pixels: A4 at 150 DPI."""
MEASURES = ("nDCG@10", "R@1", "R@10")
Results: TypeAlias = dict[str, dict[str, dict[str, float]]]
"""Kind -> stage -> measure."""


class Probe(NamedTuple):
    """A question and the pages that answer it."""

    kind: str
    query: str
    pages: tuple[str, ...]


class Sheet(NamedTuple):
    """A page before it is drawn."""

    name: str
    title: str
    text: str
    bars: tuple[tuple[str, int], ...] = ()
    """A bar chart below the text: what its legend says, and heights in percent."""


SITES = ("Alder", "Birch", "Cedar", "Damson", "Elm", "Fir", "Ginkgo", "Hazel")
PEOPLE = (
    *("Lindqvist", "Okafor", "Tanaka", "Moreau"),
    *("Novak", "Silva", "Haddad", "Brandt"),
)
FILLER = (
    "The works council met in the canteen and thanked everyone who had helped with the move.",
    "Visitors are asked to sign the book at the gate and to wear the badge where it can be seen.",
    "The car park behind the hall is closed while the drains are being laid.",
    "A new coffee machine was bought after the old one had been repaired three times.",
    "The library lends magazines for one week; please bring them back on time.",
    "Lost umbrellas can be fetched from the porter between nine and five.",
    "The choir is looking for basses and will sing at the summer feast.",
)


def probes() -> tuple[list[Sheet], list[Probe]]:
    """All pages and all questions."""
    makers = (
        *(_negation, _weighting, _comparison, _units),
        *(_paraphrase, _dilution, _duplicates, _legend),
    )
    made = [each for make in makers for each in make()]
    return [e for e in made if isinstance(e, Sheet)], [e for e in made if isinstance(e, Probe)]


def _negation() -> Iterator[Sheet | Probe]:
    """The page that denies, among pages that affirm the same."""
    subjects = (
        ("boiler", "inspected"),
        ("roof", "repaired"),
        ("lift", "certified"),
        ("crane", "insured"),
        ("pump", "serviced"),
        ("scales", "calibrated"),
        ("alarm", "tested"),
        ("tank", "cleaned"),
    )
    for number, (thing, done) in enumerate(subjects):
        for place, site in enumerate(SITES[:4]):
            denied = place == number % 4
            text = f"The {thing} at {site} was {'not ' if denied else ''}{done} in 2023. The log has more."
            yield Sheet(f"negation-{thing}-{site}", f"Log of the {thing}, {site}", text)
        page = f"negation-{thing}-{SITES[number % 4]}"
        yield Probe("negation", f"Where was the {thing} not {done} in 2023?", (page,))


def _weighting() -> Iterator[Sheet | Probe]:
    """One rare word decides; the others stand more often on other pages."""
    rare = ("vermiculite", "gasket", "trellis", "quinine", "abacus", "sextant", "zither", "ocarina")
    for number, word in enumerate(rare):
        common = f"The annual report on the delivery to {SITES[number]} was filed."
        text = f"{common} It contained one {word}."
        yield Sheet(f"weighting-{word}", "Goods received", text)
        loud = "annual report delivery annual report delivery report of the delivery"
        yield Sheet(f"weighting-loud-{number}", "Annual report on the delivery", f"{common} {loud}.")
        question = f"annual report on the delivery of the {word}"
        yield Probe("term weighting", question, (f"weighting-{word}",))


def _comparison() -> Iterator[Sheet | Probe]:
    """Two pages are needed, each about one side."""
    for year in (2019, 2020, 2021, 2022):
        for number, site in enumerate(SITES):
            text = f"In {year} the branch had a turnover of {year % 7 + number * 3 + 11} million."
            yield Sheet(f"comparison-{site}-{year}", f"Branch {site}, figures of {year}", text)
    for number, year in enumerate((2019, 2020, 2021, 2022) * 2):
        one, two = SITES[number], SITES[(number + 3) % len(SITES)]
        question = f"Which branch had the higher turnover in {year}, {one} or {two}?"
        yield Probe("comparison", question, (f"comparison-{one}-{year}", f"comparison-{two}-{year}"))


def _units() -> Iterator[Sheet | Probe]:
    """The same quantity in another unit; the same digits with another meaning elsewhere."""
    facts = (
        ("hose", "carries 1,500 litres an hour", "a flow of 1.5 cubic metres an hour", "holds 1.5 bar"),
        ("girder", "weighs 2,400 kilograms", "a weight of 2.4 tonnes", "is 2.4 metres long"),
        ("ribbon", "is 0.3 metres wide", "a width of 30 centimetres", "costs 30 euro"),
        ("kiln", "heats to 1,000 degrees Celsius", "1,832 degrees Fahrenheit", "stands in hall 1,832"),
        ("race", "lasts 90 minutes", "a length of one and a half hours", "has 90 runners"),
        ("loan", "bears 500 basis points", "5 percent interest", "runs for 5 years"),
        ("drum", "holds 55 gallons", "a volume of 208 litres", "was made in lot 208"),
        ("motor", "gives 7.5 kilowatts", "10 horsepower", "turns 10 wheels"),
    )
    for thing, said, _, trap in facts:
        yield Sheet(f"units-{thing}", f"Data sheet of the {thing}", f"This {thing} {said}.")
        yield Sheet(f"units-trap-{thing}", f"Data sheet of the old {thing}", f"The old {thing} {trap}.")
    for thing, _, question, _ in facts:
        yield Probe("numbers and units", f"Which {thing} has {question}?", (f"units-{thing}",))


def _paraphrase() -> Iterator[Sheet | Probe]:
    """The page says it with other words."""
    facts = (
        ("EMEA orders", "Orders from Europe, the Middle East and Africa doubled."),
        ("R&D spending", "We put twelve million into research and development."),
        ("FTE count", "The work equals that of 240 full-time employees."),
        ("termination of the agreement", "Either side may end the contract with a notice of three months."),
        ("wages of the staff", "Everyone who works for us was paid four percent more."),
        ("fire at the warehouse", "Flames destroyed the store in March."),
        ("physicians on call", "A doctor can be reached at night under this number."),
        ("YoY growth", "Compared with the twelve months before, sales went up by a tenth."),
    )
    for number, (question, text) in enumerate(facts):
        yield Sheet(f"paraphrase-{number}", f"Notice {number + 1}", f"{text} {FILLER[number % len(FILLER)]}")
        yield Probe("acronym and paraphrase", question, (f"paraphrase-{number}",))


def _dilution() -> Iterator[Sheet | Probe]:
    """Two sentences of a long page; short pages have some of their words."""
    facts = (
        ("bicycle shed", "key", "It hangs behind the clock."),
        ("swimming pool", "heating", "It is turned off on Mondays."),
        ("guest house", "chimney", "It was swept by a firm from Bergen."),
        ("tennis court", "net", "It is kept under the stairs."),
        ("greenhouse", "thermometer", "It broke in the storm."),
        ("boat house", "winch", "It lifts four hundred kilograms."),
        ("chapel", "organ", "It was tuned in the autumn."),
        ("workshop", "lathe", "It was sold to a school."),
    )
    for number, (place, thing, answer) in enumerate(facts):
        others = [FILLER[(number + step) % len(FILLER)] for step in range(len(FILLER))] * 3
        middle = len(others) // 2
        answered = f"As to the {place}, there is its {thing}. {answer}"
        text = " ".join([*others[:middle], answered, *others[middle:]])
        yield Sheet(f"dilution-{number}", f"Circular {number + 1}", text)
        yield Sheet(f"dilution-short-{number}", f"The {place}", f"The {place} is open from nine to five.")
        yield Probe("dilution", f"What about the {thing} of the {place}?", (f"dilution-{number}",))


def _duplicates() -> Iterator[Sheet | Probe]:
    """The same form, filled in with another name and month."""
    for person in PEOPLE:
        for month in ("March", "April", "May"):
            text = f"Received from {person} for {month}: the rent of the flat, 850 euro, with thanks."
            yield Sheet(f"duplicates-{person}-{month}", "Receipt", text)
    for number, person in enumerate(PEOPLE):
        month = ("March", "April", "May")[number % 3]
        question = f"receipt for the rent of {person} in {month}"
        yield Probe("near-duplicates", question, (f"duplicates-{person}-{month}",))


def _legend() -> Iterator[Sheet | Probe]:
    """The answer is a name in a chart's legend; other charts have the same title."""
    series = ("geothermal", "tidal", "lignite", "peat", "hydrogen", "biogas", "uranium", "solar")
    for number, name in enumerate(series):
        others = ("oil", "gas", "coal")
        bars = tuple((each, 25 + 9 * place + number * 3) for place, each in enumerate((*others, name)))
        yield Sheet(f"legend-{name}", "Sources of energy, share by region", f"Region {number + 1}", bars)
        yield Probe("chart legend", f"chart of energy with the share of {name}", (f"legend-{name}",))


def draw(sheet: Sheet) -> Image.Image:
    """The page as an image, RGB."""
    page = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(page)
    pen.text((120, 130), sheet.title, "black", ImageFont.load_default(40))
    text = "\n".join(textwrap.wrap(sheet.text, 74))
    pen.multiline_text((120, 230), text, "black", ImageFont.load_default(27), spacing=11)
    colours = ("#1f5fa8", "#c8553d", "#2e9d5b", "#8a5fb0")
    for place, ((name, height), colour) in enumerate(zip(sheet.bars, colours, strict=False)):
        left = 200 + 200 * place
        pen.rectangle((left, 1100 - 7 * height, left + 110, 1100), fill=colour)
        pen.rectangle((200, 1190 + 54 * place, 230, 1220 + 54 * place), fill=colour)
        pen.text((250, 1188 + 54 * place), name, "black", ImageFont.load_default(27))
    return page


def main() -> None:
    """Make the pages if needed, ask, print a row a kind, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rerank", action="append", metavar="NAME@PAGES")
    parser.add_argument("--models", type=Path)
    arguments = parser.parse_args()
    sheets, asked = probes()
    folder = OUT / "probes"
    folder.mkdir(parents=True, exist_ok=True)
    for sheet in sheets:
        path = folder / f"{sheet.name}.png"
        if not path.exists():
            draw(sheet).save(path, dpi=(150, 150))
    with Library(OUT / "probes.pagelens", "light", arguments.models) as library:
        library.ingest(folder, prune=True, regions=False, say=print)
        results = _measure(library, asked, arguments.rerank or "auto")
    print(f"\n{len(asked)} questions, {len(sheets)} pages")
    for measure in MEASURES:
        stages = list(next(iter(results.values())))
        print(f"\n{measure:26}" + "".join(f"{stage:>18}" for stage in stages))
        for kind, rows in results.items():
            print(f"{kind:26}" + "".join(f"{rows[stage][measure]:18.3f}" for stage in stages))
    record = {"schema": 1, "questions": len(asked), "pages": len(sheets), "results": results}
    (OUT / "probes.json").write_text(json.dumps(record, indent=1) + "\n")


def _measure(library: Library, asked: list[Probe], rerank: str | list[str]) -> Results:
    """Ask everything once; `document` is left out, for each page is one, and rules, for none is asked for."""
    names = {page["page_id"]: Path(page["path"]).stem for page in library.pages()}
    by_point = {page_point_id(page): name for page, name in names.items()}
    steps = library.steps(rerank)
    runs: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for probe in asked:
        trace = library.trace(probe.query, DEPTH, rerank=steps)
        for stage, order in every_order(trace, steps).items():
            runs[stage][probe.query] = [by_point[id] for id in order[:DEPTH]]
    results: Results = {}
    for kind in dict.fromkeys(probe.kind for probe in asked):
        qrels = {p.query: dict.fromkeys(p.pages, 1) for p in asked if p.kind == kind}
        results[kind] = {
            stage: {name: float(values.mean()) for name, values in measured(qrels, run, MEASURES).items()}
            for stage, run in runs.items()
            if stage not in ("document", "rules")
        }
    return results


if __name__ == "__main__":
    main()
