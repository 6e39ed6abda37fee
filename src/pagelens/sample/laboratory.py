"""Forms of a laboratory: ruled boxes with small labels, filled in by typewriter, signed by hand."""

from __future__ import annotations

from pagelens.records import Box
from pagelens.sample.hand import FOUNTAIN_PEN, sign, tick
from pagelens.sample.sheet import BLACK, BOLD, MONO, PALE, SMALL, WHITE, Column, Sheet, Style, cells

LEFT, RIGHT = 50.0, 545.0
HEADING = Style(11, BOLD)
TYPED = Style(10, MONO)

Field = tuple[str, str, float]
"""Label, what was filled in, share of the row's width."""


def laboratory_forms() -> list[Sheet]:
    """Three pages: two analyses of water, and the record of a calibration."""
    well = """
        Substance             | Measured | Limit     | Method
        pH                    | 7.4      | 6.5 - 9.5 | M 20
        Conductivity, µS/cm   | 512      | 2,790     | M 27
        Nitrate, mg/l         | 21       | 50        | M 34
        Iron, mg/l            | 0.08     | 0.20      | M 41
        Lead, mg/l            | 0.003    | 0.010     | M 48
        Coliforms, per 100 ml | 0        | 0         | M 55"""
    cistern = """
        Substance             | Measured | Limit     | Method
        pH                    | 7.1      | 6.5 - 9.5 | M 20
        Conductivity, µS/cm   | 488      | 2,790     | M 27
        Nitrate, mg/l         | 34       | 50        | M 34
        Iron, mg/l            | 0.26     | 0.20      | M 41
        Lead, mg/l            | 0.006    | 0.010     | M 48
        Coliforms, per 100 ml | 0        | 0         | M 55"""
    return [
        _analysis(
            (("Sample", "W-13", 0.2), ("Taken at", "Well behind the mill", 0.5), ("On", "6 March 2023", 0.3)),
            "R. Amsel",
            well,
            "fit for use",
            "NO OBJECTION. NEXT SAMPLE IN SPRING.",
        ),
        _analysis(
            (("Sample", "W-14", 0.2), ("Taken at", "Cistern, new hall", 0.5), ("On", "9 March 2023", 0.3)),
            "T. Okafor-Lind",
            cistern,
            "fit for use after treatment",
            "IRON ABOVE THE LIMIT. FLUSH PIPES, REPEAT.",
        ),
        _calibration(),
    ]


def _analysis(sample: tuple[Field, ...], taker: str, values: str, verdict: str, remark: str) -> Sheet:
    page = _form("Analysis of drinking water", "Form L 12")
    y = _row(page, 120, sample)
    bottle = (("Taken by", taker, 0.4), ("Bottle", "glass, 500 ml, sterile", 0.4), ("Water", "9.5 °C", 0.2))
    y = _row(page, y, bottle)
    columns: list[Column] = [(205, "left"), (100, "right"), (100, "right"), (90, "left")]
    y = page.table(LEFT, y + 22, columns, cells(values), TYPED, 24, grid=True) + 26
    page.text(LEFT, y + 9, "Verdict", Style(10, BOLD))
    for x, label in ((130, "fit for use"), (230, "fit for use after treatment"), (400, "not fit for use")):
        _choice(page, x, y, label, label == verdict)
    y = _row(page, y + 26, (("Remarks", remark, 1.0),), 52)
    y = _row(page, y, (("Date of report", "14 March 2023", 0.35), ("Analyst", "", 0.65)), 52)
    sign(page, LEFT + 240, y - 12, "Agnes Thorvald", 18)
    page.text(LEFT, 780, "Values refer to the sample as delivered. Copies only of the whole form.", SMALL)
    return page


def _calibration() -> Sheet:
    page = _form("Record of calibration", "Form L 30")
    instrument = (
        ("Instrument", "Gas chromatograph", 0.5),
        ("Inventory number", "L-0077", 0.25),
        ("Room", "2.14", 0.25),
    )
    y = _row(page, 120, instrument)
    done = (("Done on", "22 May 2023", 0.3), ("By", "Agnes Thorvald", 0.4), ("Next due", "May 2024", 0.3))
    y = _row(page, y, done)
    page.text(LEFT, y + 30, "Gas supply", HEADING)
    rows = cells("""
                                  | Removed    | Fitted new
        Gas cylinder, number      | KX-1184    | KX-2290
        Gas                       | helium 5.0 | helium 5.0
        Pressure before regulator | 3 bar      | 198 bar""")
    columns: list[Column] = [(235, "left"), (130, "right"), (130, "right")]
    y = page.table(LEFT, y + 40, columns, rows, TYPED, 24, grid=True)
    page.text(LEFT, y + 30, "Column and drift", HEADING)
    rows = cells("""
        Standard | Nominal  | Found    | Deviation
        Methane  | 50.0 ppm | 50.3 ppm | + 0.6 %
        Ethane   | 50.0 ppm | 49.8 ppm | - 0.4 %
        Propane  | 50.0 ppm | 50.1 ppm | + 0.2 %""")
    columns = [(165, "left"), (110, "right"), (110, "right"), (110, "right")]
    y = page.table(LEFT, y + 40, columns, rows, TYPED, 24, grid=True)
    y = _row(page, y + 18, (("Remarks", "COLUMN BAKED OUT FOR TWO HOURS, SEPTUM CHANGED.", 1.0),), 52)
    _choice(page, LEFT, y + 20, "instrument may be used", True)
    _choice(page, LEFT + 200, y + 20, "instrument is taken out of service", False)
    y = _row(page, y + 46, (("Signature", "", 0.5), ("Seen by head of laboratory", "", 0.5)), 56)
    sign(page, LEFT + 30, y - 14, "Agnes Thorvald", 18)
    sign(page, LEFT + 290, y - 14, "Dorian Vesper", 18, FOUNTAIN_PEN)
    page.text(LEFT, 780, "Keep for ten years. Fasten a copy to the instrument.", SMALL)
    return page


def _form(title: str, number: str) -> Sheet:
    """The head that all forms share."""
    page = Sheet()
    page.box(Box(LEFT, 44, RIGHT, 92), 0, fill=BLACK)
    page.text(LEFT + 14, 66, "SALTMARSH", Style(15, BOLD, WHITE))
    page.text(LEFT + 14, 81, "Laboratory for water and gas", Style(9, ink=PALE))
    page.text(RIGHT - 14, 72, title, Style(16, BOLD, WHITE), "right")
    page.text(RIGHT, 106, number, SMALL, "right")
    return page


def _row(page: Sheet, y: float, fields: tuple[Field, ...], height: float = 38) -> float:
    """One row of boxes; where it ends."""
    x = LEFT
    for label, value, share in fields:
        width = share * (RIGHT - LEFT)
        page.box(Box(x, y, x + width, y + height), 0.8)
        page.text(x + 5, y + 11, label, Style(8))
        page.text(x + 8, y + 28, value, Style(11, MONO))
        x += width
    return y + height


def _choice(page: Sheet, x: float, y: float, label: str, chosen: bool) -> None:
    """A box to tick, and what that means."""
    page.box(Box(x, y, x + 10, y + 10), 0.9)
    page.text(x + 17, y + 9, label)
    if chosen:
        tick(page, x, y, 10)
