"""What a CSV file says of files: fields such as box, folder, date that filter and boost."""

from __future__ import annotations

import csv
import datetime
from collections.abc import Iterable
from pathlib import Path

from pagelens.errors import UsageError

Fields = dict[str, str]


def read_metadata(table: Path, files: Iterable[Path]) -> tuple[dict[Path, Fields], list[str]]:
    """The fields of each of `files`, and the rows that name none of them.

    Args:
        table: CSV, UTF-8, with a header. The column `path` names a file: absolute, below the folder the table
            is in, or by its bare name where only one file has it. A column `date` (ISO) becomes the page's
            date. An empty cell says nothing.
        files: Absolute paths.

    Raises:
        UsageError: there is no column `path`, a date is none, or a bare name fits several files.
    """
    known = set(files)
    by_name: dict[str, list[Path]] = {}
    for path in known:
        by_name.setdefault(path.name, []).append(path)
    found: dict[Path, Fields] = {}
    strangers = []
    try:
        with table.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            if "path" not in (rows.fieldnames or ()):
                raise UsageError(f"{table} needs a header with a column 'path'; it has {rows.fieldnames}")
            for row in rows:
                fields = {key: value.strip() for key, value in row.items() if key and value and value.strip()}
                name = fields.pop("path", "")
                if "date" in fields:
                    _check_date(fields["date"], f"{table}, line {rows.line_num}")
                place = (table.parent / name).resolve()
                if place not in known:
                    fitting = by_name.get(name, [])
                    if len(fitting) > 1:
                        raise UsageError(
                            f"{table}, line {rows.line_num}: {name!r} is the name of {len(fitting)} files, "
                            f"such as {fitting[0]} and {fitting[1]}; write the path from the table's folder"
                        )
                    if not fitting:
                        strangers.append(name)
                        continue
                    place = fitting[0]
                found[place] = fields
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UsageError(f"{table} cannot be read as CSV in UTF-8 ({error})") from error
    return found, strangers


def timestamp(date: str) -> float:
    """Seconds since 1970 of an ISO date, in the local time zone."""
    return datetime.datetime.fromisoformat(date).timestamp()


def _check_date(date: str, where: str) -> None:
    try:
        timestamp(date)
    except ValueError as error:
        raise UsageError(f"{where}: a date looks like 1987-03-31, not {date!r}") from error
