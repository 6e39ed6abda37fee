"""The door: what `import pagelens` offers and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pagelens


def test_all_is_sorted_and_importable() -> None:
    assert pagelens.__all__ == sorted(pagelens.__all__)
    for name in pagelens.__all__:
        assert getattr(pagelens, name).__name__ == name


def test_all_is_what_type_checkers_see() -> None:
    """`__getattr__` and the imports for type checkers must name the same things."""
    offered = {name for names in pagelens._HOMES.values() for name in names}
    assert offered == set(pagelens.__all__)


def test_import_is_light() -> None:
    """Readers and the store's worker import the package too, once a process."""
    code = "import sys, time; t = time.time(); import pagelens; print(time.time() - t, *sys.modules)"
    seconds, *modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "numpy", "rich", "PIL", "transformers", "qdrant_edge"} & set(modules)
    assert float(seconds) <= 0.3


def test_a_search_imports_nothing_of_ingest(small_library: pagelens.Library) -> None:
    folder = str(small_library.folder)
    code = (
        "import sys; from pagelens import Library\n"
        f"with Library({folder!r}) as library: assert library.search('lease', stage='bm25')\n"
        "print(*sys.modules)"
    )
    modules = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert "pagelens.searching" in modules
    assert not {"pagelens.ingest", "pagelens.indexing", "PIL", "torch"} & set(modules)


def test_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(pagelens, "Librarry")
