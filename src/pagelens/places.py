"""Where a library lies: in a folder, or in a collection of a Qdrant server with its page files elsewhere."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagelens.errors import UsageError
from pagelens.store.client import EdgeStore
from pagelens.store.pages import PageFiles
from pagelens.store.points import COLLECTION, FORMAT, SETTINGS

if TYPE_CHECKING:
    from pagelens.store.plan import Store
    from pagelens.store.server import ServerStore

DEFAULT = "library.pagelens"
PART = "library.json."
ENGINE = "qdrant-edge"


@dataclass(frozen=True, slots=True)
class Place:
    """A folder, or a server."""

    folder: Path | None
    """Of a library that lies in one; absolute."""
    url: str = ""
    """Of the server's gRPC interface."""
    pages: str = ""
    """A folder or any URL that fsspec knows, for the page files of a library on a server."""
    collection: str = COLLECTION
    tenant: str | None = None

    @staticmethod
    def of(
        library: str | os.PathLike[str] | None = None,
        pages: str | os.PathLike[str] | None = None,
        collection: str | None = None,
        tenant: str | None = None,
    ) -> Place:
        """What a user named.

        Args:
            library: A folder, or a URL as `http://localhost:6334`; default: `$PAGELENS_LIBRARY`, else
                `./library.pagelens`.
            pages: With a URL only, and needed there.
            collection: With a URL only; default: `pagelens`.
            tenant: With a URL only.

        Raises:
            UsageError: one was left out, or is too many.
        """
        named = os.fspath(library or os.environ.get("PAGELENS_LIBRARY") or DEFAULT)
        if "://" not in named:
            if pages is not None or collection is not None or tenant is not None:
                raise UsageError(
                    f"{named} is a folder, which holds all of a library: pages, collection and tenant go "
                    "with a server, named as http://HOST:6334"
                )
            return Place(Path(named).resolve())
        if not pages:
            raise UsageError(
                f"a server keeps points alone: name a folder or a URL for the page files of {named} "
                "(--pages, pages=)"
            )
        root = os.fspath(pages)
        return Place(
            None,
            named,
            root if "://" in root else str(Path(root).resolve()),
            collection or COLLECTION,
            tenant,
        )

    def __str__(self) -> str:
        if self.folder is not None:
            return str(self.folder)
        tenant = "" if self.tenant is None else f", tenant {self.tenant}"
        return f"{self.url} (collection {self.collection}{tenant})"

    def exists(self) -> bool:
        """Whether a library is there.

        Raises:
            UsageError, LibraryBusy: as `open`.
        """
        if self.folder is not None:
            return (self.folder / "library.json").exists()
        store = self._connect()
        store.close()
        return store.exists

    def keeps(self, folder: Path) -> bool:
        """Whether a folder is a library, this or another, or has this one's page files."""
        if self.pages and folder.resolve() == Path(self.pages.removeprefix("file://")):
            return True
        try:
            return bool(json.loads((folder / "library.json").read_text())["engine"] == ENGINE)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def open(self) -> tuple[Store, PageFiles]:
        """Its points and its page files; a folder is made when missing, a collection by `Store.declare`.

        Raises:
            UsageError: what is there is no library, or one of another format, or the server or the place of
                the page files cannot be used.
            LibraryBusy: whoever has the library or its page files does not answer.
            Missing: fsspec lacks a package for the page files.
        """
        if self.folder is not None:
            _mark(self.folder)
            return EdgeStore(self.folder), PageFiles(str(self.folder / "pages"))
        files = PageFiles(self.pages)
        files.check()
        store = self._connect()
        try:
            there = store.retrieve([SETTINGS], payload=["format", "page_files"]) if store.exists else []
            for settings in there:
                _check_format(str(self), settings.payload["format"])
            self._check_pages(files, there[0].payload.get("page_files") if there else None)
        except BaseException:
            store.close()
            raise
        return store, files

    def _check_pages(self, files: PageFiles, own: str | None) -> None:
        """A slip in the place of the page files would part a library, or mix it with another.

        Raises:
            UsageError: those there are not this library's.
        """
        owner = files.owner()
        if own is None and not files.is_empty():
            raise UsageError(
                f"{self.pages} holds other files, and {self} has none yet; name an empty place for its page "
                "files (--pages, pages=)"
            )
        if own is not None and owner != own:
            there = "has no page files" if owner is None else "has the page files of another library"
            raise UsageError(
                f"{self.pages} {there}; name the place where those of {self} were written (--pages, pages=)"
            )

    def _connect(self) -> ServerStore:
        from pagelens.store.server import ServerStore  # gRPC takes .2 s to import

        return ServerStore(self.url, self.collection, self.tenant)


def _mark(folder: Path) -> None:
    """Make a folder a library before anything else is in it, so that one killed at birth is known for one.

    Raises:
        UsageError: it holds other things, or a library of another format.
    """
    marker = folder / "library.json"
    if not marker.exists():
        others = [] if not folder.is_dir() else [p for p in folder.iterdir() if not p.name.startswith(PART)]
        if folder.is_file() or others:
            raise UsageError(f"{folder} is not a library; name another folder, it will be made")
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{PART}{os.getpid()}"
        part.write_text(json.dumps({"format": FORMAT, "engine": ENGINE}) + "\n")
        part.replace(marker)
    try:
        stored = json.loads(marker.read_text())["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{marker} is damaged; remove the folder and ingest its files again") from error
    _check_format(str(folder), stored)


def _check_format(place: str, stored: object) -> None:
    if stored != FORMAT:
        raise UsageError(
            f"{place} has format {stored}, this version of pagelens reads format {FORMAT}; "
            "use the version it was made with, or ingest its files into a new library"
        )
