"""ViDoRe's format and mteb's figures, against `pagelens eval` on the same pages and questions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageFont

from pagelens import UsageError
from pagelens.evaluation.evaluate import evaluate
from pagelens.evaluation.measures import measured
from pagelens.evaluation.pipeline import Pipeline
from pagelens.evaluation.runs import Question, digest
from pagelens.records import Candidate, Query
from pagelens.rerankers.evidence import Coefficients

PAGES = {
    f"page-{n}": f"{title}\n\n{text}"
    for n, (title, text) in enumerate(
        [
            ("Lease", "The tenant pays the rent\non the first of May"),
            ("Heating", "The tenant keeps the heating\nand the windows in repair"),
            ("Revenue", "Revenue rose to 48 million\nin the northern region"),
            ("Minutes", "The board decided to paint\nthe corridor green"),
            ("Laboratory", "The sample of glucose\nwas taken in the morning"),
            ("Invoice", "Total of the freight\nand the insurance: 312 euro"),
        ]
    )
}
QUERIES = {
    "q1": "when does the tenant pay the rent?",
    "q2": "who repairs the heating of the tenant?",
    "q3": "colour of the corridor",
    "q4": "the total revenue",
    "q5": "morning freight",
    "unjudged": "who is the landlord?",
}
QRELS = {
    "q1": {"page-0": 2, "page-1": 1},
    "q2": {"page-1": 1, "page-3": 0},
    "q3": {"page-3": 1},
    "q4": {"page-5": 2, "page-2": 1},
    "q5": {"page-2": 1, "page-4": 1},
}


def drawn(text: str) -> bytes:
    image = Image.new("RGB", (900, 500), "white")
    ImageDraw.Draw(image).multiline_text((60, 60), text, "black", ImageFont.load_default(40), spacing=16)
    stored = BytesIO()
    image.save(stored, "PNG", dpi=(150, 150))
    return stored.getvalue()


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    return {id: drawn(text) for id, text in PAGES.items()}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared: a corpus that was read for one test is not read for the next."""
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture
def pipeline(libraries: Path) -> Iterator[Pipeline]:
    pipeline = Pipeline(libraries, "light")
    yield pipeline
    pipeline.close()


# without mteb


def test_equal_pictures_have_equal_scores_and_ids_of_their_own(
    pipeline: Pipeline, images: dict[str, bytes]
) -> None:
    pipeline.index([*images.items(), ("again/of page-3", images["page-3"])])
    for stage, scores in pipeline.search({"q3": QUERIES["q3"]}).items():
        first, second, *_ = scores["q3"]
        assert {first, second} == {"page-3", "again/of page-3"}, stage
        values = list(scores["q3"].values())
        assert all(a > b for a, b in zip(values, values[1:], strict=False))


def test_a_corpus_is_read_once(tmp_path: Path, images: dict[str, bytes]) -> None:
    said: list[str] = []
    for _ in range(2):
        pipeline = Pipeline(tmp_path, "words", say=said.append)
        pipeline.index(images.items())
        found = pipeline.search({"q3": QUERIES["q3"]})
        assert list(found) == pipeline.stages == ["bm25", "fused", "rerank"]
        assert next(iter(found["rerank"]["q3"])) == "page-3"
        pipeline.close()
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".pagelens"]) == 1
    assert not list(tmp_path.glob("reading-*"))


def test_questions_that_the_reranker_was_fitted_to_are_not_measured(
    tmp_path: Path, images: dict[str, bytes]
) -> None:
    card = {"questions": [digest(QUERIES["q3"].upper())]}
    replace(Coefficients.load(), card=card).save(tmp_path / "mine.json")
    pipeline = Pipeline(tmp_path, "words", [f"{tmp_path / 'mine.json'}@50"])
    pipeline.index(images.items())
    with pytest.raises(
        UsageError, match="no figure of rerank: the evidence reranker was fitted to 1 of these 6"
    ):
        pipeline.check_unseen("rerank", QUERIES.values())
    pipeline.check_unseen("fused", QUERIES.values())
    pipeline.check_unseen("rerank", ["of something else"])
    pipeline.close()


def test_candidates_that_are_given_are_the_only_ones(pipeline: Pipeline, images: dict[str, bytes]) -> None:
    pipeline.index(images.items())
    among = {"q1": ["page-1", "page-4"], "q3": ["page-0", "page-3", "elsewhere"]}
    found = pipeline.search({id: QUERIES[id] for id in among}, among)
    for scores in found.values():
        assert all(set(pages) <= set(among[id]) for id, pages in scores.items())
    assert set(found["rerank"]["q3"]) == {"page-0", "page-3"}
    assert list(found["rerank"]["q1"])[0] == "page-1"


class PageMajor:
    """Scores pairs; remembers in which order pages were looked at."""

    name, signature, needs = "pairs", "pairs 1", frozenset({"image"})

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def score(self, query: Query | str, candidates: Sequence[Candidate]) -> list[float]:
        return [float(len(each.text)) for each in candidates]

    def score_pairs(self, pairs: Any) -> list[float]:
        self.seen = [(question, page.page.page_id) for question, page in pairs]
        return [float(hash((question, page)) % 97) for question, page in self.seen]


def test_candidates_are_scored_as_pairs_where_the_reranker_can(
    pipeline: Pipeline, images: dict[str, bytes]
) -> None:
    from pagelens.searching import Step

    reranker = PageMajor()
    pipeline._cascade = ["evidence@50", Step(reranker, 20)]
    pipeline.stages = [*pipeline.stages[:-1], "rerank:evidence", "rerank:pairs"]
    pipeline.index(images.items())
    among = {id: ["page-0", "page-2", "page-5"] for id in ("q1", "q4")}
    found = pipeline.search({id: QUERIES[id] for id in among}, among)
    assert len(reranker.seen) == 6
    assert {text for text, _ in reranker.seen} == {QUERIES["q1"], QUERIES["q4"]}
    for id in among:
        scores = list(found["rerank:pairs"][id].values())
        assert len(scores) == 3 and scores == sorted(scores, reverse=True)
        assert set(found["rerank:evidence"][id]) <= set(among[id])
    whole = pipeline.search({"q1": QUERIES["q1"]})
    assert set(whole) == set(pipeline.stages) and len(whole["rerank:pairs"]["q1"]) == 6


def test_the_signature_knows_what_shapes_a_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def signature(**how: Any) -> str:
        return Pipeline(tmp_path, **{"profile": "words", **how}).signature

    one = signature()
    assert one == signature()
    others = [signature(rerank=[]), signature(rerank=["evidence@20"]), signature(languages=("deu",))]
    monkeypatch.setattr("pagelens.evaluation.pipeline._code", lambda: "changed")
    assert len({one, *others, signature()}) == 5


def test_what_is_no_image_is_named(pipeline: Pipeline) -> None:
    with pytest.raises(UsageError, match="page p7 of the corpus is no image"):
        pipeline.index([("p7", b"text")])
    with pytest.raises(UsageError, match="no page"):
        pipeline.index([])


# through mteb


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, images: dict[str, bytes]) -> Path:
    """The pages and questions as a folder in the ViDoRe format."""
    pytest.importorskip("mteb", reason="mteb is not installed: pip install 'pagelens[vidore]'")
    import datasets

    folder = tmp_path_factory.mktemp("vidore") / "small-office"
    parts = {
        "corpus": [
            {"id": id, "image": {"bytes": data, "path": None}, "text": "not read"}
            for id, data in images.items()
        ],
        "queries": [{"id": id, "text": text} for id, text in QUERIES.items()],
        "qrels": [
            {"query-id": id, "corpus-id": page, "score": grade}
            for id, pages in QRELS.items()
            for page, grade in pages.items()
        ],
    }
    lines = ["---", "configs:"]
    for name, rows in parts.items():
        made = datasets.Dataset.from_list(rows)
        if name == "corpus":
            made = made.cast_column("image", datasets.Image())
        (folder / name).mkdir(parents=True)
        made.to_parquet(folder / name / "test-00000-of-00001.parquet")
        lines += [f"- config_name: {name}", "  data_files:", "  - split: test", f"    path: {name}/test-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return folder


others = pytest.mark.filterwarnings("ignore")
"""What mteb and those that it loads warn of is not ours to mend."""


@others
def test_mteb_gives_the_figures_of_pagelens_eval(folder: Path, tmp_path: Path, libraries: Path) -> None:
    from pagelens.evaluation import vidore

    pipeline = Pipeline(libraries, "light")
    found = vidore.run([str(folder)], tmp_path, pipeline)
    assert not found.failed
    by_stage = {row.stage: row for row in found.rows}
    assert list(by_stage) == list(pipeline.stages) == ["bm25", "text", "fused", "rerank"]
    assert pipeline._corpus is not None
    ids = {own[0]: page_id for page_id, own in pipeline._corpus.ids.items()}
    qrels = {id: {ids[page]: grade for page, grade in pages.items()} for id, pages in QRELS.items()}
    asked = [Question(id, text, {}, n) for n, (id, text) in enumerate(QUERIES.items())]
    ours = evaluate(pipeline._corpus.library, asked, qrels)
    differ = set()
    for stage, row in by_stage.items():
        for theirs, own in (("ndcg_at_10", "nDCG@10"), ("ndcg_at_5", "nDCG@5"), ("recall_at_1", "R@1")):
            value = ours.stages[stage].measures[own].mean
            # mteb rounds to five digits what it keeps
            assert row.measures[theirs] == pytest.approx(value, abs=1e-5 / 2 + 1e-9), (stage, own)
            differ.add(round(value, 4))
    assert len(differ) > 4  # they are not all perfect
    for stage in by_stage:
        kept = json.loads((tmp_path / f"predictions/{stage}/SmallOfficeLocal_predictions.json").read_text())
        run = {id: list(pages) for id, pages in kept["default"]["test"].items()}
        exact = float(measured(QRELS, run, ["nDCG@10"])["nDCG@10"].mean())
        assert exact == pytest.approx(ours.stages[stage].measures["nDCG@10"].mean, abs=1e-6)
    pipeline.close()


@others
def test_what_is_done_is_not_done_again(
    folder: Path, tmp_path: Path, libraries: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pagelens.evaluation import vidore

    first = vidore.run([str(folder)], tmp_path, Pipeline(libraries, "words"))
    record = json.loads((tmp_path / "vidore-benchmark/rerank/SmallOfficeLocal.json").read_text())
    overall = record["aggregated_metrics"]["overall"]["ndcg_cut_10"]
    assert overall == pytest.approx(first.means[str(folder)]["rerank"])
    kept = list(
        (tmp_path / "mteb/results").glob(f"pagelens__words-*/{first.revision}-*/SmallOfficeLocal.json")
    )
    assert len(kept) == 3

    def never(*_: Any) -> None:
        raise AssertionError("asked again")

    again = Pipeline(libraries, "words")
    monkeypatch.setattr(again, "search", never)
    assert vidore.run([str(folder)], tmp_path, again).rows == first.rows
    monkeypatch.setattr("pagelens.evaluation.pipeline._code", lambda: "changed")
    changed = Pipeline(libraries, "words")
    asked: list[Any] = []
    search = changed.search

    def counted(*how: Any) -> Any:
        asked.append(how)
        return search(*how)

    monkeypatch.setattr(changed, "search", counted)
    assert vidore.run([str(folder)], tmp_path, changed).revision != first.revision
    assert len(asked) == 1  # for all stages together


@others
def test_what_has_changed_is_read_anew(folder: Path, tmp_path: Path, libraries: Path) -> None:
    """Judgements of pages that answer nothing, in a folder of the same name."""
    import datasets

    from pagelens.evaluation import vidore

    changed = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, changed)
    rows = [{"query-id": id, "corpus-id": "page-4", "score": 1} for id in ("q1", "q3", "q4")]
    [qrels] = (changed / "qrels").iterdir()
    before = vidore.run([str(folder)], tmp_path, Pipeline(libraries, "words")).rows
    datasets.Dataset.from_list(rows).to_parquet(qrels)
    after = vidore.run([str(changed)], tmp_path, Pipeline(libraries, "words")).rows
    assert [each.stage for each in after] == [each.stage for each in before]
    assert all(now.score < then.score for now, then in zip(after, before, strict=True))


@others
def test_candidates_that_mteb_shares(folder: Path, tmp_path: Path, libraries: Path) -> None:
    """A reranking task: no stage finds what is not among the candidates."""
    import datasets

    from pagelens.evaluation import vidore

    shared = tmp_path / "shared"
    shutil.copytree(folder, shared)
    (shared / "top_ranked").mkdir()
    rows = [{"query-id": id, "corpus-ids": ["page-1", "page-2", "page-4"]} for id in QRELS]
    datasets.Dataset.from_list(rows).to_parquet(shared / "top_ranked/test-00000-of-00001.parquet")
    about = (shared / "README.md").read_text().removesuffix("---\n")
    part = "- config_name: top_ranked\n  data_files:\n  - split: test\n    path: top_ranked/test-*\n---\n"
    (shared / "README.md").write_text(about + part)
    found = vidore.run([str(shared)], tmp_path, Pipeline(libraries, "words"))
    assert not found.failed
    kept = json.loads((tmp_path / "predictions/rerank/SharedLocal_predictions.json").read_text())
    run = kept["default"]["test"]
    assert run["q2"] and all(set(pages) <= {"page-1", "page-2", "page-4"} for pages in run.values())


@others
def test_the_pipeline_of_vidore_benchmark(folder: Path, tmp_path: Path, images: dict[str, bytes]) -> None:
    from pagelens.evaluation.vidore import VidorePipeline

    pipeline = VidorePipeline(str(tmp_path), "words")
    pictures = [Image.open(BytesIO(data)) for data in images.values()]
    pipeline.index(list(images), pictures, [""] * len(images), dataset_name="office")
    assert next(iter(pipeline.search(["q3"], [QUERIES["q3"]])["q3"])) == "page-3"


@others
def test_an_unknown_task_is_said(folder: Path, tmp_path: Path) -> None:
    from pagelens.evaluation import vidore

    with pytest.raises(UsageError, match="no benchmark or task 'ViDoRe"):
        vidore.run(["ViDoRe(v9)"], tmp_path, Pipeline(tmp_path, "words"))
