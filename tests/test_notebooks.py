"""The notebooks, run from top to bottom as a reader would, and kept without what running leaves in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from tiny_encoders import write_colmodernvbert

from pagelens.rerankers.evidence import FEATURES

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def test_there_are_notebooks() -> None:
    names = ["01_first_search.ipynb", "02_where_on_the_page.ipynb"]
    assert [path.name for path in NOTEBOOKS][:2] == names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_without_outputs(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_first_search(tmp_path: Path) -> None:
    """It runs, finds the page that the lease is signed on, and shows it."""
    notebook = read(NOTEBOOKS[0])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = {cell.source: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    printed = "".join(out.text for outs in cells.values() for out in outs if out.output_type == "stream")
    assert "lease-mill-street.pdf page 4" in printed  # `best`
    assert "payroll-sealed.pdf: the PDF is encrypted" in printed
    assert "0 added" in printed and "0 pages read" in printed
    assert "rerank: rank 1" in printed and FEATURES["heading"] in printed  # a hit, stage by stage
    shown = {source: out.data for source, outs in cells.items() for out in outs if "data" in out}
    galleries = [data["text/html"] for data in shown.values() if "text/html" in data]
    assert [html.count('<article class="hit">') for html in galleries] == [3, 2, 1, 2]
    assert "Quillon" in galleries[0] and "<mark>" in galleries[0]
    assert "image/png" in shown["best.show()"]
    assert not list(tmp_path.iterdir())  # what it made, it made elsewhere and took away


def test_evaluate(tmp_path: Path) -> None:
    """It runs, every stage has its row, and the verdict its reason."""
    notebook = read(next(path for path in NOTEBOOKS if path.stem == "03_evaluate"))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        out.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for out in cell.outputs
        if out.output_type == "stream"
    )
    assert "21 questions about 6 independent documents" in printed
    for stage in ("bm25", "text", "fused", "rerank"):
        row = next(row for row in printed.splitlines() if row.startswith(f"{stage} "))
        assert float(row.split()[2]) > 0.5  # nDCG@10
    assert "verdict: " in printed and "ceiling: with the first" in printed and "enough: " in printed
    assert not list(tmp_path.iterdir())


def test_where_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs on a tiny random model, which finds nothing of worth and shows all there is to show."""
    models, place = tmp_path / "models", tmp_path / "place"
    write_colmodernvbert(models / "colmodernvbert", published=True)
    place.mkdir()
    monkeypatch.setenv("PAGELENS_MODELS", str(models))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = read(NOTEBOOKS[1])
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(place)}}).execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    printed = "".join(out.text for out in outputs if out.output_type == "stream")
    assert re.search(r"colmodernvbert: \d+ vectors, \d+ KB and .* s a page of A4", printed)
    assert "\n0 pages read, " in printed and "colmodernvbert: rank " in printed
    assert len(re.findall(r"from \(\d+, \d+\) to", printed)) == 3 and " MB less" in printed
    pictures = [out.data for out in outputs if "image/png" in out.get("data", {})]
    galleries = [out.data["text/html"] for out in outputs if "text/html" in out.get("data", {})]
    assert len(pictures) == 2 and [html.count('<article class="hit">') for html in galleries] == [2]
    assert not list(place.iterdir())


def test_tables_charts_signatures(tmp_path: Path) -> None:
    """It runs, and the first signed page it shows has its signature boxed."""
    notebook = read(next(path for path in NOTEBOOKS if path.stem == "04_tables_charts_signatures"))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    printed = "".join(out.text for out in outputs if out.output_type == "stream")
    assert re.search(r"signature +lease-mill-street.pdf, page 4: \d+", printed)
    galleries = [out.data["text/html"] for out in outputs if "text/html" in out.get("data", {})]
    assert [html.count('<article class="hit">') for html in galleries] == [2, 1]
    assert all(">signature<" in html for html in galleries)
    assert not list(tmp_path.iterdir())
