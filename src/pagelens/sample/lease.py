"""The lease of a workshop: numbered clauses in a serif face, initials on every page, two signatures."""

from __future__ import annotations

from pagelens.records import Box
from pagelens.sample.hand import FOUNTAIN_PEN, PEN, sign
from pagelens.sample.sheet import GREY, ITALIC, SERIF, SERIF_BOLD, Ink, Sheet, Style

STAMP: Ink = (58, 70, 150)
LEFT, RIGHT = 80.0, 515.0
MIDDLE = (LEFT + RIGHT) / 2

CLAUSE = Style(12, SERIF, leading=1.6, justify=True)
PLAIN = Style(10.5, SERIF)
SLANTED = Style(11, ITALIC)
FOOT = Style(8.5, ITALIC, GREY)

FIRST = """
    1. Premises

    The landlord lets to the tenant the workshop on the ground floor of 14 Mill Street, Tern Bay, with a floor
    area of 412 square metres, the yard behind it and two parking spaces. The plan in the annex is a part of
    this lease. The tenant has inspected the premises and takes them as they are.

    2. Use

    The premises are let for the assembly and repair of measuring instruments. Any other use needs the
    landlord’s consent in writing, which may not be withheld without good reason.

    3. Term

    The lease begins on 1 March 2023 and runs for five years. It is extended by one year each time unless one
    party gives notice in writing six months before its end."""

SECOND = """
    4. Rent

    The monthly rent is 1,450.00 without heating. It is due on the third working day of each month and is paid
    to the account named in the annex. Every second year the rent follows the index of consumer prices.

    5. Deposit

    The tenant pays a deposit of three months’ rent before the keys are handed over. The landlord keeps it
    apart from other money, pays interest on it, and returns it within eight weeks of the end of the lease.

    6. Running costs

    Water, heating, chimney sweep and the cleaning of the yard are shared among the tenants of the house by
    floor area. The landlord renders an account once a year, before the end of May. The tenant may see all
    bills and raise objections for twelve weeks.

    7. Late payment

    On sums that are overdue by more than ten days interest of four percent a year is owed."""

THIRD = """
    8. Upkeep

    The tenant keeps floors, windows and doors in order and may paint the walls in any light colour. The
    landlord keeps roof, outer walls, pipes and wiring in order and clears the snow from the yard.

    9. Machines

    Machines heavier than two tons need the landlord’s consent, since the cellar lies below. The tenant
    insures machines and stocks at its own cost.

    10. Subletting

    Up to a third of the floor area may be sublet. The name of the subtenant is told to the landlord
    beforehand. Dogs are welcome.

    11. End of the lease

    At the end of the lease the tenant leaves the premises swept and returns all keys. What the tenant has
    built in may be left behind if the landlord agrees; otherwise it is taken out."""

FOURTH = """
    12. Written form

    Changes and additions to this lease are valid only in writing. If one clause is void, the others stand; in
    its place applies what comes nearest to its purpose.

    13. Copies

    This lease is made in two copies. Each party keeps one of them, with the plan, the list of keys and the
    record of the meters."""


def lease() -> list[Sheet]:
    """Four pages; the last bears the signatures."""
    pages = [_opening(), Sheet(), Sheet(), _signatures()]
    _clauses(pages[1], 100, SECOND)
    _clauses(pages[2], 100, THIRD)
    for number, page in enumerate(pages, start=1):
        page.text(LEFT, 800, "Lease of 14 Mill Street", FOOT)
        page.text(MIDDLE, 800, f"page {number} of {len(pages)}", FOOT, "center")
        if number < len(pages):
            sign(page, 448, 798, "ES", 10)
            sign(page, 486, 799, "M", 11, FOUNTAIN_PEN)
    return pages


def _opening() -> Sheet:
    page = Sheet()
    page.text(MIDDLE, 130, "LEASE", Style(26, SERIF_BOLD), "center")
    page.text(MIDDLE, 154, "of business premises", Style(13, ITALIC), "center")
    page.line(MIDDLE - 57, 170, MIDDLE + 57, 170, 0.8)
    for y, word, name, address, role in (
        (214, "between", "Quernstone Estates", "3 Quern Lane, Tern Bay", "landlord"),
        (280, "and", "Pellworth Instruments", "14 Mill Street, Tern Bay", "tenant"),
    ):
        page.text(LEFT, y, word, SLANTED)
        page.text(150, y, name, Style(12, SERIF_BOLD))
        page.text(150, y + 16, address, Style(11, SERIF))
        page.text(150, y + 32, f"hereinafter called the {role},", SLANTED)
    page.text(LEFT, 352, "the following is agreed:", Style(11, SERIF))
    _clauses(page, 404, FIRST)
    return page


def _clauses(page: Sheet, y: float, text: str) -> float:
    """Headings and paragraphs in turn."""
    parts = text.split("\n\n")
    for title, clause in zip(parts[::2], parts[1::2], strict=True):
        page.text(LEFT, y, title.strip(), Style(12, SERIF_BOLD))
        y = page.prose(LEFT, y + 20, RIGHT - LEFT, clause, CLAUSE) + 9
    return y


def _signatures() -> Sheet:
    page = Sheet()
    y = _clauses(page, 100, FOURTH)
    page.text(LEFT, y + 30, "Tern Bay, 14 February 2023", Style(11, SERIF))
    base = y + 128
    for x, name, role, party, ink in (
        (LEFT, "Edwin Sorrelby", "landlord", "Quernstone Estates", PEN),
        (310.0, "Marta Quillon", "tenant", "Pellworth Instruments", FOUNTAIN_PEN),
    ):
        sign(page, x + 16, base - 7, name, 24, ink)
        page.line(x, base, x + 200, base, 0.7)
        page.text(x, base + 16, f"Signed for the {role}: {name}", PLAIN)
        page.text(x, base + 31, party, SLANTED)
    _stamp(page, 252, base - 50)
    page.text(LEFT, base + 112, "Witness to both signatures", SLANTED)
    sign(page, LEFT + 12, base + 154, "Hugo Tamblyn", 18)
    page.line(LEFT, base + 162, LEFT + 200, base + 162, 0.7)
    page.text(LEFT, base + 177, "H. Tamblyn, notary’s clerk", PLAIN)
    page.box(Box(310, base + 106, RIGHT, base + 182))
    page.text(320, base + 124, "Annexes", Style(10.5, SERIF_BOLD))
    annexes = """
        A  Plan of the ground floor
        B  List of keys
        C  Record of the meters"""
    page.lines(320, base + 141, annexes, PLAIN)
    return page


def _stamp(page: Sheet, x: float, y: float) -> None:
    """The landlord's round stamp, set down a little askew."""
    page.circle(x, y, 34, 1.6, STAMP)
    page.circle(x, y, 29, 0.7, STAMP)
    page.text(x - 22, y - 3, "QUERNSTONE", Style(6.2, SERIF_BOLD, STAMP), turn=8)
    page.text(x - 14, y + 8, "ESTATES", Style(6.5, SERIF_BOLD, STAMP), turn=8)
    page.text(x - 12, y + 18, "Tern Bay", Style(6, ITALIC, STAMP), turn=8)
