"""Three letters in German, in the layout of DIN 5008: address window, block of facts, fold marks, foot."""

from __future__ import annotations

from pagelens.records import Box
from pagelens.sample.hand import FOUNTAIN_PEN, sign
from pagelens.sample.sheet import (
    BOLD,
    GREY,
    ITALIC,
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

BLUE: Ink = (0, 82, 148)
BRICK: Ink = (150, 62, 40)
STAMP: Ink = (120, 60, 130)

MM = 72 / 25.4
LEFT, RIGHT = 25 * MM, 190 * MM
WIDTH = RIGHT - LEFT
FOLDS_AND_HOLE = (105, 148.5, 210)
"""Millimetres from the top."""


def letters() -> list[Sheet]:
    """Three pages, three senders."""
    return [_power(), _painter(), _landlord()]


def _power() -> Sheet:
    page, plain = Sheet(), Style(10.5)
    page.circle(88, 62, 19, 0, fill=BLUE)
    page.curve([(76, 66), (82, 58), (88, 66), (94, 58), (100, 66)], 2.4, WHITE)
    page.text(116, 60, "Stadtwerke Ahornfurt", Style(19, BOLD, BLUE))
    page.text(116, 75, "Strom · Wasser · Wärme", Style(10, SANS, GREY))
    address = """
        Frau
        Marta Quillon
        Mühlstraße 14
        00418 Ahornfurt"""
    facts = """
        Ihr Zeichen   | –
        Unser Zeichen | VK-4 / bü
        Kundennummer  | 308 114 7
        Zähler        | 1 EBZ 0040 2290
        Datum         | 16. März 2023"""
    _envelope(page, "Stadtwerke Ahornfurt, Brückenstraße 1, 00417 Ahornfurt", address, facts, plain)
    page.text(LEFT, 292, "Ihr Vertrag für Strom: Bestätigung und Abschlag", Style(11.5, BOLD))
    text = """
        Sehr geehrte Frau Quillon,

        herzlich willkommen bei den Stadtwerken Ahornfurt. Wir bestätigen die Belieferung Ihrer Werkstatt in
        der Mühlstraße 14 ab dem 1. April 2023 im Tarif „Ahorn Gewerbe fix“. Der Preis ist bis zum 31. März
        2025 festgeschrieben."""
    y = page.prose(LEFT, 318, WIDTH, text, plain)
    rows = cells("""
        Ihr Tarif im Überblick       |
        Grundpreis im Jahr           | 118,20 €
        Arbeitspreis je kWh          | 29,4 ct
        Geschätzter Verbrauch im Jahr | 3.170 kWh""")
    y = page.table(LEFT, y, [(250, "left"), (110, "right")], rows, Style(9.5), 19, head=BLUE)
    text = """
        Der monatliche Abschlag für Strom beträgt 87,50 €. Er wird jeweils am fünfzehnten von Ihrem Konto
        abgebucht, zum ersten Mal im Mai.

        Die Jahresabrechnung erhalten Sie im Februar. Haben Sie weniger verbraucht, zahlen wir den Unterschied
        zurück. Bitte prüfen Sie alle Angaben und melden Sie uns Fehler innerhalb von zwei Wochen.

        Mit freundlichen Grüßen"""
    y = page.prose(LEFT, y + 24, WIDTH, text, plain)
    sign(page, LEFT + 4, y + 22, "Käthe Bühler", 18)
    page.text(LEFT, y + 42, "i. A. Käthe Bühlmoser")
    page.text(LEFT, y + 55, "Kundendienst", Style(9, SANS, GREY))
    foot = """
        Stadtwerke Ahornfurt | Brückenstraße 1     | 00417 Ahornfurt
        Kundendienst         | Mo–Fr 8–17 Uhr      | kunden@ahornfurt.example
        Konto                | XX00 0417 0308 0000 | Sparkasse Ahornfurt
        Störungen            | Tag und Nacht       | 0000 417 112"""
    _foot(page, foot, BLUE)
    page.box(Box(392, 646, 520, 690), 1.4, STAMP)
    page.text(456, 664, "EINGEGANGEN", Style(13, BOLD, STAMP), "center")
    page.text(456, 680, "20. März 2023", Style(10, BOLD, STAMP), "center")
    return page


def _painter() -> Sheet:
    page, plain = Sheet(), Style(11.5, SERIF)
    page.box(Box(LEFT, 48, LEFT + 6, 92), 0, fill=BRICK)
    page.text(LEFT + 18, 68, "Malerbetrieb Grünhöfer", Style(20, SERIF_BOLD, BRICK))
    motto = "Fassaden, Böden, Schriften – Meisterbetrieb seit 1978"
    page.text(LEFT + 18, 86, motto, Style(10, ITALIC, GREY))
    address = """
        Pellworth Instruments
        Frau Quillon
        Mühlstraße 14
        00418 Ahornfurt"""
    facts = """
        Angebot        | 2023-57
        Bearbeitet von | Jörg Grünhöfer
        Gültig bis     | 30. Juni 2023
        Datum          | 25. April 2023"""
    _envelope(page, "Malerbetrieb Grünhöfer, Lärchenweg 9, 00417 Ahornfurt", address, facts, plain)
    page.text(LEFT, 292, "Angebot: Anstrich der Fassade zur Hofseite", Style(12.5, SERIF_BOLD))
    text = """
        Sehr geehrte Frau Quillon,

        vielen Dank für das freundliche Gespräch und die Führung durch Ihre Werkstatt. Gern bieten wir Ihnen
        die folgenden Arbeiten an:"""
    y = page.prose(LEFT, 318, WIDTH, text, plain)
    rows = cells("""
        Pos. | Leistung                            | Menge  | Einzelpreis | Betrag
        1    | Gerüst stellen und abbauen          | 1      | 1.180,00 €  | 1.180,00 €
        2    | Fassade reinigen, Risse schließen   | 214 m² | 6,50 €      | 1.391,00 €
        3    | Grundieren, zweimal streichen       | 214 m² | 17,80 €     | 3.809,20 €
        4    | Fensterläden schleifen und lackieren | 11    | 68,00 €     | 748,00 €
             | Summe netto                         |        |             | 7.128,20 €
             | Umsatzsteuer 19 %                   |        |             | 1.354,36 €
             | Gesamtbetrag                        |        |             | 8.482,56 €""")
    columns: list[Column] = [(34, "left"), (205, "left"), (62, "right"), (83, "right"), (83, "right")]
    y = page.table(LEFT, y, columns, rows, Style(10, SERIF), head=(240, 226, 218), strong=(7,))
    text = """
        Wir könnten in der zweiten Juniwoche beginnen und wären bei gutem Wetter nach neun Tagen fertig. Die
        Farbtöne wählen wir gemeinsam anhand von Mustern aus, die wir auf die Mauer auftragen.

        Über Ihren Auftrag würden wir uns sehr freuen.

        Mit besten Grüßen aus dem Lärchenweg"""
    y = page.prose(LEFT, y + 26, WIDTH, text, plain)
    sign(page, LEFT + 4, y + 20, "Jörg Grünhöfer", 19, FOUNTAIN_PEN)
    page.text(LEFT, y + 42, "Jörg Grünhöfer, Malermeister", plain)
    foot = """
        Malerbetrieb Grünhöfer | Lärchenweg 9        | 00417 Ahornfurt
        Werkstatt              | 0000 417 220        | post@gruenhoefer.example
        Konto                  | XX00 0417 0057 0000 | Sparkasse Ahornfurt"""
    _foot(page, foot, BRICK)
    return page


def _landlord() -> Sheet:
    page, plain = Sheet(), Style(10.5)
    page.text(RIGHT, 66, "Hausverwaltung Süßmilch & Söhne", Style(15, BOLD), "right")
    page.text(RIGHT, 82, "Häuser in guten Händen", Style(10, SANS, GREY), "right")
    page.line(LEFT, 92, RIGHT, 92, 0.8)
    address = """
        Pellworth Instruments
        Mühlstraße 14
        00418 Ahornfurt"""
    facts = """
        Objekt         | Mühlstraße 12–16
        Bearbeitet von | Frau Özgür-Klamm
        Durchwahl      | 0000 417 38
        Datum          | 2. Mai 2023"""
    _envelope(page, "Süßmilch & Söhne, Marktplatz 3, 00417 Ahornfurt", address, facts, plain)
    page.text(LEFT, 292, "Spülung der Wasserleitung und Ablesung der Zähler", Style(11.5, BOLD))
    text = """
        Sehr geehrte Damen und Herren,

        am Freitag, dem 12. Mai, wird die Wasserleitung in der Mühlstraße gespült. Zwischen neun und elf Uhr
        kann das Wasser trüb sein. Es ist nicht gesundheitsschädlich; bitte lassen Sie danach alle Hähne
        einige Minuten laufen.

        Am selben Tag werden die Zähler für Wasser und Heizung abgelesen. Bitte sorgen Sie dafür, dass der
        Keller und die Räume zum Hof zugänglich sind. Sollte niemand im Haus sein, hinterlegen Sie die
        Schlüssel bitte beim Hausmeister, Herrn Überschär, im Erdgeschoss.

        Noch ein Hinweis: Fahrräder und Kisten dürfen nicht im Treppenhaus stehen bleiben. Die Feuerwehr hat
        dies bei der letzten Begehung bemängelt. Wir bitten um Verständnis.

        Freundliche Grüße"""
    y = page.prose(LEFT, 318, WIDTH, text, plain)
    sign(page, LEFT + 4, y + 24, "Leyla Klamm", 18)
    page.text(LEFT, y + 44, "Leyla Özgür-Klamm")
    page.text(LEFT, y + 90, "Anlage: Plan der Leitungen", Style(9.5))
    foot = """
        Süßmilch & Söhne | Marktplatz 3        | 00417 Ahornfurt
        Sprechzeiten     | Di und Do 9–12 Uhr  | haus@suessmilch.example
        Konto            | XX00 0417 0012 0000 | Sparkasse Ahornfurt"""
    _foot(page, foot, GREY)
    return page


def _envelope(page: Sheet, sender: str, address: str, facts: str, style: Style) -> None:
    """What the envelope's window shows, the facts beside it, and the marks at the left edge."""
    page.text(LEFT, 142, sender, Style(6.5, SANS, GREY))
    page.line(LEFT, 145, LEFT + 215, 145, 0.3, GREY)
    page.lines(LEFT, 164, address, style)
    for number, (label, value) in enumerate(cells(facts)):
        page.text(354, 150 + 16 * number, label, Style(8.5, SANS, GREY))
        page.text(430, 150 + 16 * number, value, style._replace(size=10))
    for mark in FOLDS_AND_HOLE:
        page.line(10, mark * MM, 20, mark * MM, 0.4, GREY)


def _foot(page: Sheet, columns: str, ink: Ink) -> None:
    """A column a line of `columns`, its first cell in bold."""
    page.line(LEFT, 776, RIGHT, 776, 0.6, ink)
    for number, (title, *lines) in enumerate(cells(columns)):
        x = LEFT + 121 * number
        page.text(x, 788, title, Style(7.5, BOLD, ink))
        page.lines(x, 798, "\n".join(lines), Style(7.5, SANS, GREY))
