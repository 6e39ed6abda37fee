"""The annual report of a maker of weather instruments that never was: prose, bar charts, tables."""

from __future__ import annotations

from pagelens.records import Box
from pagelens.sample.hand import sign
from pagelens.sample.sheet import (
    BOLD,
    GREY,
    ITALIC,
    SANS,
    SERIF,
    WHITE,
    Column,
    Ink,
    Sheet,
    Style,
    cells,
)

TEAL: Ink = (18, 84, 92)
LIGHT_TEAL: Ink = (150, 178, 180)
SAND: Ink = (233, 222, 200)

TITLE = Style(22, BOLD, TEAL)
CAPTION = Style(11, BOLD, TEAL)
BODY = Style(10.5, SERIF, leading=1.5, justify=True)
NOTE = Style(8, ITALIC, GREY)
FAINT = Style(9, SANS, GREY)

LEFT, RIGHT = 70.0, 525.0
WIDTH = RIGHT - LEFT


RISKS = (
    (
        "Supply",
        """A single supplier makes our quartz crystals. A second one is being approved, and stocks for six
        months are held in the cellar. Brass is bought a year ahead at fixed prices.""",
    ),
    (
        "Regulation",
        """Mercury may no longer be sold in several countries. We replaced it in all but two products; the
        remaining two will be withdrawn within eighteen months.""",
    ),
    (
        "Interest and currency",
        """Interest rates touch us little, since the company has almost no debt. One order in eight is paid in
        a foreign currency and is hedged when it is signed.""",
    ),
    (
        "Data",
        """All drawings are kept in two places. A test in June showed that the workshop can go on for three
        days without its computers.""",
    ),
    (
        "Outlook",
        """For the coming year we expect growth of three to five percent. The order book covers seven months
        of work. A showroom for visitors is planned, and the catalogue will be printed one last time. Nothing
        of importance happened between the end of the year and the printing of this report.""",
    ),
)


def annual_report() -> list[Sheet]:
    """Seven pages."""
    pages = [_cover(), _letter(), _markets(), _regions(), _quarters(), _people(), _outlook()]
    for number, page in enumerate(pages[1:], start=2):
        page.text(LEFT, 46, "Pellworth Instruments", Style(8, BOLD, TEAL))
        page.text(RIGHT, 46, "Annual Report 2023", Style(8, SANS, GREY), "right")
        page.line(LEFT, 52, RIGHT, 52, 0.5, TEAL)
        page.text(RIGHT if number % 2 else LEFT, 806, str(number), Style(9, BOLD, TEAL), "center")
    return pages


def logo(page: Sheet, x: float, y: float, size: float) -> None:
    """Pellworth's mark, a wind vane in a disc; (x, y) is its middle, `size` its radius."""

    def stroke(x0: float, y0: float, x1: float, y1: float, weight: float) -> None:
        page.line(x + size * x0, y + size * y0, x + size * x1, y + size * y1, size * weight, WHITE)

    page.circle(x, y, size, 0, fill=TEAL)
    stroke(0, -0.7, 0, 0.7, 0.09)
    stroke(-0.6, -0.1, 0.6, -0.1, 0.13)
    stroke(0.62, -0.1, 0.3, -0.36, 0.13)
    stroke(0.62, -0.1, 0.3, 0.16, 0.13)
    stroke(-0.4, 0.55, 0.4, 0.55, 0.09)


def _cover() -> Sheet:
    page = Sheet()
    page.box(Box(0, 0, 595, 520), 0, fill=TEAL)
    for number in range(7):  # isobars
        swing = 26 * number
        points = [
            (-10, 330),
            (120, 290 - swing / 5),
            (260, 380 - swing / 3),
            (420, 300),
            (610, 350 - swing / 9),
        ]
        page.curve([(x, y + swing) for x, y in points], 0.8, (92, 146, 150))
    page.text(LEFT, 150, "Annual Report", Style(44, BOLD, WHITE))
    page.text(LEFT, 200, "2023", Style(44, BOLD, SAND))
    page.text(LEFT, 240, "A year of full order books", Style(15, ITALIC, WHITE))
    page.box(Box(0, 520, 595, 528), 0, fill=SAND)
    logo(page, LEFT + 24, 620, 24)
    page.text(LEFT + 62, 617, "Pellworth Instruments", Style(20, BOLD, TEAL))
    page.text(LEFT + 62, 634, "Rain gauges, wind vanes and barometers since 1911", FAINT)
    page.text(LEFT, 760, "14 Mill Street, Tern Bay", Style(9))
    page.text(LEFT, 773, "www.pellworth.example", FAINT)
    return page


def _letter() -> Sheet:
    page = _titled("To our shareholders")
    text = """
        The year began with long delivery times and ended with the fullest order book in our history. We
        opened a second assembly hall, repaired every instrument that came back to us, and kept the promise
        that whoever calls us speaks to somebody who has built what they ask about.

        In April a storm took the roof off the old paint shop. Nobody was hurt. Thanks to the staff, who moved
        an entire assembly line over one weekend, not a single order was lost, and the insurance has since
        paid for the damage in full.

        Prices of brass and glass rose for the third year in a row. We passed on about half of the increase
        and met the rest by better planning of our stocks. The margin is slightly below that of the year
        before, and we think that was the right choice.

        The board proposes a dividend of 0.85 a share, five hundredths more than last year. A part of the
        profit stays in the company and pays for the new calibration laboratory, which will be finished in the
        coming autumn.

        We thank our customers for their patience, our suppliers for theirs, and above all the people of
        Pellworth, of whom this report tells more on the following pages."""
    y = page.prose(LEFT, 142, WIDTH, text, Style(11.5, SERIF, leading=1.55, justify=True))
    sign(page, LEFT + 6, y + 44, "Constance Pell", 22)
    page.text(LEFT, y + 76, "Constance Pellworth-Hale", Style(10, BOLD))
    page.text(LEFT, y + 90, "Chair of the board", FAINT)
    return page


def _markets() -> Sheet:
    page = _titled("Our markets")
    column = BODY._replace(justify=False)
    left = """
        Weather services remain our largest group of customers. Rain gauges and wind vanes are replaced every
        eight to ten years, and many stations built in the last decade are now due.

        Schools and universities bought more teaching sets than in any year before. The barometer kit, first
        drawn by an apprentice, was named product of the year by two trade journals.

        Harbours and airfields order less often, but want service contracts that run for many years. Their
        share grew to a quarter of all orders."""
    right = """
        Competition grew in the market for cheap sensors. We do not follow prices there: our customers pay for
        calibration that holds, and for someone who answers the telephone.

        Farmers are new to us. Together with a cooperative we tested forty small stations that report frost to
        a mobile phone. The first winter went well."""
    page.prose(LEFT, 142, 219, left, column)
    page.prose(306, 142, 219, right, column)
    page.box(Box(306, 300, RIGHT, 430), 0, fill=SAND)
    quote = """
        “Calibration that holds
        is worth more than
        a cheap sensor.”"""
    page.lines(322, 328, quote, Style(14, ITALIC, TEAL))
    page.text(322, 404, "Harbour master, on our service contract", Style(8, SANS, GREY))
    page.text(LEFT, 500, "Orders by group of customers", CAPTION)
    rows = cells("""
        Group                    | Orders | Share | Change
        Weather services         | 1,204  | 41%   | + 3%
        Harbours and airfields   | 737    | 25%   | + 6%
        Schools and universities | 560    | 19%   | + 11%
        Private collectors       | 294    | 10%   | – 4%
        Farms                    | 146    | 5%    | new""")
    columns: list[Column] = [(195, "left"), (90, "right"), (85, "right"), (85, "right")]
    y = page.table(LEFT, 514, columns, rows, Style(10), 22, stripes=True)
    page.text(LEFT, y + 18, "Orders received from January to December; service contracts count once.", NOTE)
    return page


def _regions() -> Sheet:
    page = _titled("Where we sell")
    text = """
        The coast was strong again, helped by two large harbours that renewed all their wind vanes at once.
        The islands are new and still small. Abroad we sell through partners and count their orders when they
        are shipped."""
    y = page.prose(LEFT, 142, WIDTH, text, BODY)
    page.text(LEFT, y + 26, "Figure 1. Sales by region in 2023, in thousands", CAPTION)
    bars = (
        ("North Coast", 1870),
        ("South Coast", 1525),
        ("Eastern Plain", 1240),
        ("West Hills", 960),
        ("Islands", 310),
    )
    zero, top, step, thousand = LEFT + 95, y + 46, 44, 150
    bottom = top + step * len(bars) + 8
    for tick in range(0, 2001, 500):
        x = zero + tick * thousand / 1000
        page.line(x, top, x, bottom, 0.4, (190, 192, 196))
        page.text(x, bottom + 14, f"{tick:,}", Style(8.5, SANS, GREY), "center")
    for number, (region, sales) in enumerate(bars):
        middle = top + 25 + step * number
        bar = Box(zero, middle - 13, zero + sales * thousand / 1000, middle + 13)
        page.box(bar, 0, fill=LIGHT_TEAL if region == "Islands" else TEAL)
        page.text(zero - 8, middle + 4, region, align="right")
        page.text(RIGHT, middle + 4, f"{sales:,}", Style(10, BOLD), "right")
    page.line(zero, top, zero, bottom, 1)
    page.text(LEFT, bottom + 40, "Sales through partners are shown where the partner ships from.", NOTE)
    text = """
        Two new branch offices opened in the autumn, one at the ferry port and one in the market town of
        Coppice Cross. Both share rooms with a partner, which keeps the fixed costs low.

        Freight became cheaper towards the end of the year. Most parcels to the islands now travel by the
        night ferry instead of by air."""
    page.prose(LEFT, bottom + 76, WIDTH, text, BODY)
    return page


def _quarters() -> Sheet:
    page = _titled("The year in figures")
    page.text(LEFT, 142, "Income statement by quarter, 2023, in thousands", CAPTION)
    rows = cells("""
                             | First quarter | Second quarter | Third quarter | Fourth quarter | Year
        Net sales            | 1,372         | 1,418          | 1,506         | 1,609          | 5,905
        Materials            | 521           | 540            | 566           | 611            | 2,238
        Wages and salaries   | 448           | 452            | 455           | 470            | 1,825
        Energy and rent      | 96            | 88             | 85            | 101            | 370
        Depreciation         | 61            | 61             | 64            | 64             | 250
        Operating profit     | 246           | 277            | 336           | 363            | 1,222
        Interest             | 9             | 9              | 8             | 8              | 34
        Taxes                | 59            | 67             | 82            | 89             | 297
        Profit of the period | 178           | 201            | 246           | 266            | 891""")
    columns: list[Column] = [
        (115, "left"),
        (68, "right"),
        (76, "right"),
        (68, "right"),
        (74, "right"),
        (54, "right"),
    ]
    y = page.table(LEFT, 156, columns, rows, Style(8.5), 23, head=SAND, strong=(6, 9))
    text = """
        Materials contain brass, glass, electronics and packaging. Energy and rent fell in the warm months and
        rose again in the last three, when the second hall was heated for the first time."""
    y = page.prose(LEFT, y + 30, WIDTH, text, BODY)
    page.text(LEFT, y + 32, "Balance sheet at the end of the year, in thousands", CAPTION)
    rows = cells("""
        Assets             | 2023  | 2022  | Liabilities   | 2023  | 2022
        Land and buildings | 1,940 | 1,712 | Share capital | 1,500 | 1,500
        Machines           | 820   | 884   | Reserves      | 1,986 | 1,530
        Stocks             | 1,105 | 1,020 | Bank loans    | 610   | 655
        Receivables        | 702   | 668   | Suppliers     | 497   | 520
        Cash               | 415   | 318   | Other         | 389   | 397
        Total              | 4,982 | 4,602 | Total         | 4,982 | 4,602""")
    columns = [(115, "left"), (56, "right"), (56, "right"), (116, "left"), (56, "right"), (56, "right")]
    y = page.table(LEFT, y + 46, columns, rows, Style(8.5), 21, head=TEAL, strong=(6,))
    page.text(LEFT, y + 18, "Audited in February; the certificate is kept at the registered office.", NOTE)
    return page


def _people() -> Sheet:
    page = _titled("Our people")
    facts = cells("""
        143 | employees
        11  | new apprentices
        38% | women among engineers
        41  | years, average age""")
    for number, (figure, label) in enumerate(facts):
        x = LEFT + 116 * number
        page.box(Box(x, 122, x + 107, 190), 0, fill=SAND)
        page.text(x + 10, 156, figure, Style(24, BOLD, TEAL))
        page.text(x + 10, 177, label, Style(8))
    text = """
        At the end of the year 143 people worked for us, twelve more than a year ago. Most of them joined the
        assembly, where the new hall needed a second shift. Seven colleagues retired, with 212 years of
        service between them.

        Eleven apprentices began their training. Four of them learn the trade of the glass blower, which we
        had almost lost: the last master came back from retirement two days a week to teach them.

        There were three minor accidents, none of them in the new hall. Everyone who works with mercury is
        examined by a doctor twice a year, and all results were good."""
    y = page.prose(LEFT, 226, WIDTH, text, BODY)
    page.text(LEFT, y + 16, "Figure 2. Employees at the end of the year", CAPTION)
    base = y + 226
    page.line(LEFT, base, RIGHT, base, 1)
    for number, count in enumerate((118, 121, 126, 131, 143)):
        x = LEFT + 51 + 86 * number
        newest = number == 4
        page.box(Box(x - 23, base - 1.1 * count, x + 23, base), 0, fill=TEAL if newest else LIGHT_TEAL)
        page.text(x, base - 1.1 * count - 6, str(count), Style(9, BOLD), "center")
        page.text(x, base + 14, str(2019 + number), FAINT, "center")
    return page


def _outlook() -> Sheet:
    page = _titled("Risks and outlook")
    y = 142.0
    for title, text in RISKS:
        page.text(LEFT, y, title, CAPTION)
        y = page.prose(LEFT, y + 18, WIDTH, text, BODY) + 10
    page.box(Box(LEFT, y + 20, RIGHT, y + 100), 0.8, TEAL)
    page.text(LEFT + 14, y + 44, "Dates for shareholders", CAPTION)
    page.text(LEFT + 14, y + 65, "Annual meeting: 18 April, ten o’clock, in the new assembly hall")
    page.text(LEFT + 14, y + 83, "Dividend paid: 3 May")
    return page


def _titled(title: str) -> Sheet:
    page = Sheet()
    page.text(LEFT, 96, title, TITLE)
    page.line(LEFT, 106, LEFT + 48, 106, 2.5, SAND)
    return page
