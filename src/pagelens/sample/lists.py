"""Long lists: a shift plan on a landscape page, and what stands in the store room and on the pay sheet."""

from __future__ import annotations

from pagelens.records import Box
from pagelens.sample.hand import sign
from pagelens.sample.report import TEAL, logo
from pagelens.sample.sheet import BLACK, BOLD, GREY, MONO, PALE, Column, Ink, Sheet, Style, cells

TINTS: dict[str, Ink] = {
    "E": (214, 232, 234),
    "L": (240, 228, 204),
    "N": (206, 210, 224),
    "H": (226, 226, 226),
}
"""Early, late, night, holiday."""

STAFF = cells("""
    Abendroth, Ilse   | Assembly
    Birkmoor, Tom     | Glass
    Caldershaw, Ruth  | Packing
    Dunmoor, Olaf     | Test bench
    Emberley, Nia     | Repairs
    Frostick, Jan     | Assembly
    Galewood, Mei     | Glass
    Hartwell-Ito, Ken | Packing
    Islingham, Ana    | Test bench
    Jessop-Kral, Liv  | Repairs
    Kettlewood, Sam   | Assembly
    Lindqvall, Eva    | Glass
    Moorhen, Paul     | Packing""")

PARTS = (
    "brass rod 6 mm",
    "brass rod 8 mm",
    "glass tube",
    "cup for wind gauge",
    "bearing 608",
    "screw M4 x 12",
    "spring, short",
    "dial, 100 mm",
)

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
LEFT, TOP, NAME, STATION, DAY, HEAD, ROW = 50, 100, 134, 74, 38, 36, 25
"""Corner of the plan, widths of its columns, heights of its rows, in points."""


def shift_plan() -> list[Sheet]:
    """One landscape page: thirteen people, fourteen days."""
    page = Sheet(842, 595)
    logo(page, 66, 58, 16)
    page.text(92, 62, "Shift plan, weeks 23 and 24", Style(17, BOLD, TEAL))
    page.text(790, 54, "Assembly hall 2", Style(11, BOLD), "right")
    page.text(790, 68, "5 to 18 June 2023, drawn up by R. Caldershaw", Style(9, ink=GREY), "right")
    first, bottom = LEFT + NAME + STATION, TOP + HEAD + ROW * len(STAFF)
    right = first + 14 * DAY
    page.box(Box(LEFT, TOP, right, TOP + HEAD), 0, fill=PALE)
    page.text(LEFT + 6, TOP + 23, "Name", Style(9.5, BOLD))
    page.text(LEFT + NAME + 6, TOP + 23, "Station", Style(9.5, BOLD))
    for day in range(14):
        x = first + (day + 0.5) * DAY
        page.text(x, TOP + 15, DAYS[day % 7], Style(8.5, BOLD), "center")
        page.text(x, TOP + 29, str(5 + day), Style(8.5), "center")
    for row, (name, station) in enumerate(STAFF):
        y = TOP + HEAD + row * ROW
        page.text(LEFT + 6, y + 16.5, name, Style(9.5))
        page.text(LEFT + NAME + 6, y + 16.5, station, Style(9.5))
        for day in range(14):
            if shift := _shift(row, day):
                x = first + day * DAY
                page.box(Box(x, y, x + DAY, y + ROW), 0, fill=TINTS[shift])
                page.text(x + DAY / 2, y + 16.5, shift, Style(10, BOLD), "center")
        page.line(LEFT, y, right, y, 0.5, GREY)
    page.line(LEFT + NAME, TOP, LEFT + NAME, bottom, 0.4, GREY)
    for day in range(14):
        x = first + day * DAY
        page.line(x, TOP, x, bottom, 0.4 if day % 7 else 1.2, GREY if day % 7 else BLACK)
    page.box(Box(LEFT, TOP, right, bottom), 1.2)
    legend = cells("""
        E | early, 6:00 to 14:00
        L | late, 14:00 to 22:00
        N | night, 22:00 to 6:00
        H | on holiday""")
    for number, (shift, meaning) in enumerate(legend):
        x, y = LEFT + 130 * number, bottom + 18
        page.box(Box(x, y, x + 16, y + 14), 0.5, GREY, TINTS[shift])
        page.text(x + 8, y + 10.5, shift, Style(9, BOLD), "center")
        page.text(x + 22, y + 10.5, meaning, Style(9))
    note = "Who cannot come tells the foreman by telephone before five in the morning."
    page.text(LEFT, bottom + 54, note, Style(9, ink=GREY))
    sign(page, 650, bottom + 50, "Ruth Cal", 16)
    return [page]


def _shift(row: int, day: int) -> str:
    """Weeks of early, late, night in turn; weekends for the early shift alone, holidays for two."""
    if row in (4, 9) and day < 7:
        return "H"
    turn = (row + day // 7) % 3
    return "" if day % 7 > 4 and turn else "ELN"[turn]


def payroll() -> list[Sheet]:
    """One page that nobody without the password shall read."""
    page = Sheet()
    page.text(60, 90, "Pay sheet, May 2023", Style(18, BOLD))
    page.text(535, 90, "confidential", Style(11, BOLD, GREY), "right")
    rows = [["Name", "Grade", "Gross", "Net"]]
    for number, (name, _) in enumerate(STAFF):
        gross = 2400 + 173 * number
        rows.append([name, f"E {3 + number % 5}", f"{gross:,}.00", f"{gross * 7 // 10:,}.00"])
    columns: list[Column] = [(200, "left"), (75, "center"), (100, "right"), (100, "right")]
    page.table(60, 120, columns, rows, height=22, stripes=True)
    return [page]


def inventory() -> list[Sheet]:
    """One page of what stands on the shelves."""
    page = Sheet()
    page.text(60, 84, "STORE ROOM, COUNT OF 30 JUNE 2023", Style(13, BOLD))
    rows = [["Shelf", "Part", "Number", "Pieces"]]
    for number in range(32):
        shelf, place = divmod(number, len(PARTS))
        rows.append(
            [f"{shelf + 1}-{place + 1}", PARTS[place], str(4100 + 37 * number), str(12 + 29 * number)]
        )
    columns: list[Column] = [(70, "left"), (215, "left"), (95, "right"), (95, "right")]
    page.table(60, 104, columns, rows, Style(9.5, MONO), 19, grid=True)
    return [page]
