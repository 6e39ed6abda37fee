"""Four invoices of four senders, each in its own layout, one with a stamp on it."""

from __future__ import annotations

from pagelens.records import Box
from pagelens.sample.hand import FOUNTAIN_PEN, sign
from pagelens.sample.sheet import (
    BLACK,
    BOLD,
    GREY,
    ITALIC,
    MONO,
    MONO_BOLD,
    PALE,
    SANS,
    SERIF,
    SERIF_BOLD,
    WHITE,
    Column,
    Ink,
    Sheet,
    Style,
    cells,
)

RED: Ink = (178, 34, 40)
NAVY: Ink = (28, 52, 96)
GREEN: Ink = (40, 96, 60)
BRASS: Ink = (150, 110, 40)

TAX = 0.20
CUSTOMER = """
    Pellworth Instruments
    Accounts
    14 Mill Street
    Tern Bay"""


def invoices() -> list[Sheet]:
    """Four pages."""
    return [_timber(), _supplies(), _freight(), _glass()]


def bill(items: str) -> list[list[str]]:
    """The rows of an invoice from lines of `what | how many | price of one`: amounts, tax, total."""
    rows, net = [["Description", "Quantity", "Price", "Amount"]], 0.0
    for what, count, price in cells(items):
        amount = int(count) * float(price)
        rows.append([what, count, price, f"{amount:,.2f}"])
        net += amount
    tax = round(TAX * net, 2)
    sums = (("Net amount", net), (f"Value added tax {TAX:.0%}", tax), ("Total due", net + tax))
    return rows + [[label, "", "", f"{amount:,.2f}"] for label, amount in sums]


def _columns(*widths: float) -> list[Column]:
    first, *others = widths
    return [(first, "left"), *((width, "right") for width in others)]


def _timber() -> Sheet:
    """A merchant of the old school: serif, centred, ruled; paid and stamped."""
    page, plain = Sheet(), Style(10.5, SERIF)
    page.text(297.5, 84, "Brackenrow & Daughters", Style(26, SERIF_BOLD, GREEN), "center")
    page.text(297.5, 104, "Timber, crates and packing since 1954", Style(11, ITALIC, GREEN), "center")
    page.line(70, 116, 525, 116, 1.2, GREEN)
    page.line(70, 119, 525, 119, 0.4, GREEN)
    about = "Sawmill Yard 7, Upper Fernley   tel. 01632 960 217   VAT no. XX 000 217 000"
    page.text(297.5, 134, about, Style(8.5, SERIF, GREY), "center")
    page.lines(70, 182, CUSTOMER, Style(11, SERIF))
    page.text(525, 182, "Invoice 2023-0418", Style(15, SERIF_BOLD), "right")
    about = """
        3 April 2023
        Your order: crates for spring
        Delivered 29 March 2023"""
    page.lines(525, 202, about, plain, "right")
    items = """
        Crate, spruce, 60 x 40 x 40 cm  | 40 | 11.50
        Crate, spruce, 120 x 40 x 40 cm | 12 | 19.80
        Pallet, heat treated            | 6  | 14.00
        Wood wool, bale of 20 kg        | 4  | 23.25"""
    rows = bill(items)
    y = page.table(70, 268, _columns(215, 60, 80, 100), rows, plain, grid=True, strong=(7,))
    terms = """
        Payable within 30 days to account XX00 0001 0418 0000. Goods remain ours until paid in full.
        Reusable crates are taken back at half their price."""
    page.lines(70, y + 42, terms, Style(10, SERIF))
    page.text(72, 580, "With thanks for your custom,", Style(11, SERIF))
    sign(page, 78, 618, "Willa Brackenrow", 20)
    _paid(page, 420, 580)
    return page


def _paid(page: Sheet, x: float, y: float) -> None:
    """A stamp set down by hand, its lines uneven, 15 degrees askew; (x, y) is its middle."""
    for edge in (0, 4):
        right, down = 80 - edge, 24 - edge
        corners = [
            (x + 0.966 * across + 0.259 * below, y - 0.259 * across + 0.966 * below)
            for across, below in ((-right, -down), (right, -down), (right, down), (-right, down))
        ]
        for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
            page.line(*start, *end, 1.6 - 0.2 * edge, RED)
    page.text(x - 40, y + 13, "PAID", Style(28, BOLD, RED), turn=15)
    page.text(x - 30, y + 26, "21 April 2023", Style(9, BOLD, RED), turn=15)


def _supplies() -> Sheet:
    """A mail-order house: a coloured band, a box with the facts, a payment slip."""
    page, label, tiny = Sheet(), Style(9, SANS, GREY), Style(7.5, SANS, GREY)
    page.box(Box(0, 0, 595, 88), 0, fill=NAVY)
    page.text(60, 52, "glimmerdesk", Style(28, BOLD, WHITE))
    page.text(62, 70, "office supplies", Style(11, SANS, (190, 204, 226)))
    page.text(535, 52, "INVOICE", Style(22, BOLD, WHITE), "right")
    page.lines(60, 130, CUSTOMER, Style(10.5))
    page.box(Box(340, 112, 535, 192), 0, fill=PALE)
    facts = cells("""
        Invoice number  | GD-77120
        Invoice date    | 17 April 2023
        Customer number | 40311
        Due             | 17 May 2023""")
    for number, (name, value) in enumerate(facts):
        page.text(352, 131 + 17 * number, name, label)
        page.text(523, 131 + 17 * number, value, Style(9, BOLD), "right")
    items = """
        Copy paper, A4, 80 g, box of five reams | 20 | 18.90
        Toner cartridge, black, high yield      | 3  | 84.00
        Binder, 75 mm, grey                     | 50 | 2.35
        Labels for shelves, 1,000 pieces        | 2  | 31.50
        Desk lamp with clamp                    | 4  | 42.00
        Delivery to the loading ramp            | 1  | 9.90"""
    columns = _columns(245, 60, 80, 90)
    y = page.table(60, 232, columns, bill(items), Style(9.5), head=NAVY, stripes=True, strong=(9,))
    text = """
        Thank you for ordering with Glimmerdesk. Empty toner cartridges are collected free of charge: put them
        into the green box and call us. Returns are accepted for 60 days in the original packaging."""
    page.prose(60, y + 32, 475, text, label)
    page.text(60, 612, "Please detach and return with your payment", tiny)
    page.line(0, 620, 595, 620, 0.5, GREY)
    page.text(60, 652, "Payment slip", Style(12, BOLD, NAVY))
    for left, right, name, value in (
        (60, 175, "Customer", "40311"),
        (190, 325, "Invoice", "GD-77120"),
        (340, 535, "Our account", "XX00 4000 7712 0000"),
    ):
        page.text(left, 678, name, tiny)
        page.box(Box(left, 684, right, 706))
        page.text(left + 7, 699, value, Style(10, MONO))
    about = "Glimmerdesk, 22 Quarry Road, Marlhaven    accounts@glimmerdesk.example    tel. 01632 960 540"
    page.text(60, 800, about, tiny)
    return page


def _freight() -> Sheet:
    """A carrier's print-out: one typewriter face, boxes with small labels, a bar code."""
    page, typed, label = Sheet(), Style(10, MONO, leading=1.3), Style(7.5, MONO, GREY)
    page.text(60, 76, "ORLA FERRY & FREIGHT", Style(16, MONO_BOLD))
    address = """
        HARBOUR OFFICE, PIER 3
        TERN BAY
        TEL 01632 960 883"""
    page.lines(60, 94, address, typed)
    page.text(535, 76, "FREIGHT BILL", Style(14, MONO_BOLD), "right")
    about = """
        NO. 5530-61
        DATE 02 MAY 2023
        PAGE 1 OF 1"""
    page.lines(535, 94, about, typed, "right")
    shipper = """
        PELLWORTH INSTRUMENTS
        14 MILL STREET
        TERN BAY"""
    consignee = """
        WEATHER STATION ST. ORLA
        LIGHTHOUSE ROAD
        ST. ORLA, ISLANDS"""
    for left, right, name, address in (
        (60, 290, "SHIPPER", shipper),
        (305, 535, "CONSIGNEE", consignee),
    ):
        page.box(Box(left, 140, right, 214), 0.8)
        page.text(left + 8, 153, name, label)
        page.lines(left + 8, 169, address, typed)
    rows = cells("""
        Marks  | Pieces | Contents             | Weight kg | Freight
        PW 1-4 | 4      | RAIN GAUGES, CRATED  | 86.0      | 64.50
        PW 5   | 1      | MAST 6 M, IN 3 PARTS | 48.5      | 58.20
        PW 6-7 | 2      | BATTERIES, DRY       | 31.0      | 27.90
               |        | INSURANCE            |           | 12.00
               |        | HANDLING AT PIER     |           | 9.50
        TOTAL  | 7      |                      | 165.5     | 172.10""")
    columns: list[Column] = [(70, "left"), (60, "right"), (185, "left"), (80, "right"), (80, "right")]
    y = page.table(60, 236, columns, rows, Style(9.5, MONO), grid=True, strong=(6,))
    remarks = """
        NIGHT FERRY, DEPARTURE 02 MAY 23:15, BERTH 2
        NO DANGEROUS GOODS. KEEP DRY. THIS SIDE UP."""
    page.lines(60, y + 26, remarks, typed)
    page.box(Box(60, 450, 535, 545), 0.8)
    page.text(68, 464, "RECEIVED IN GOOD ORDER", label)
    page.text(68, 505, "04 MAY 2023", Style(12, MONO))
    sign(page, 300, 516, "Bo Lindgard", 20)
    page.line(290, 524, 500, 524, 0.5)
    page.text(290, 536, "SIGNATURE OF CONSIGNEE", label)
    _bars(page, 60, 600, "553061020523")
    page.text(535, 630, "PAYABLE ON RECEIPT", Style(11, MONO_BOLD), "right")
    return page


def _bars(page: Sheet, x: float, y: float, digits: str) -> None:
    """Something like a bar code over its digits."""
    page.text(x + 20, y + 46, digits, Style(9, MONO))
    for digit in digits:
        for bit in range(4):
            width = 0.8 + 0.9 * (int(digit) >> bit & 1)
            page.box(Box(x, y, x + width, y + 36), 0, fill=BLACK)
            x += width + 1.6


def _glass() -> Sheet:
    """A small workshop: little text, a wide margin."""
    page, plain = Sheet(), Style(11, SERIF, leading=1.5)
    page.circle(92, 84, 17, 3, BRASS)
    page.circle(104, 90, 11, 2, (196, 160, 90))
    page.text(130, 84, "Hallowmere Glass", Style(17, SERIF_BOLD))
    page.text(130, 100, "tubes, domes and gauges blown to measure", Style(10, ITALIC, GREY))
    page.lines(130, 160, CUSTOMER, plain)
    page.text(130, 262, "Invoice no. 88", Style(14, SERIF_BOLD))
    page.text(520, 262, "Marlhaven, 11 May 2023", plain, "right")
    items = """
        Measuring cylinder, 200 mm | 120 | 4.20
        Dome for barometer         | 36  | 9.75
        Thermometer tube, blank    | 200 | 1.10"""
    rows = bill(items)
    y = page.table(130, 284, _columns(190, 50, 65, 85), rows, Style(10.5, SERIF), 22, strong=(6,))
    text = """
        Two domes of the last delivery were cracked; they have been replaced without charge and are not in
        this bill. Please send the straw boxes back with the driver.

        Payable within fourteen days."""
    y = page.prose(130, y + 32, 390, text, plain)
    sign(page, 140, y + 40, "Fergus Hall", 20, FOUNTAIN_PEN)
    page.line(130, 760, 520, 760, 0.4, GREY)
    about = "Hallowmere Glass, 5 Kiln Row, Marlhaven    account XX00 0088 1105 0000    VAT no. XX 000 088 000"
    page.text(130, 776, about, Style(8, SERIF, GREY))
    return page
