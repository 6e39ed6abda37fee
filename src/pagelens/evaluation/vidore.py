"""ViDoRe and other benchmarks of page retrieval, through mteb; each stage is a model of its own there.

Results are kept as mteb keeps them, under a revision that stands for everything that shapes a score: a result
of other code, models or data is never taken for ours. Needs the extra `vidore`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image

from pagelens.errors import Missing, UsageError
from pagelens.evaluation.pipeline import Pipeline, Scores
from pagelens.hits import SCHEMA

MEASURES = ("ndcg_at_5", "ndcg_at_10", "recall_at_1", "recall_at_10", "recall_at_100")
PUBLISHED: Mapping[str, Sequence[tuple[str, str, float]]] = {
    "ViDoRe(v1)": (
        ("jina-reranker-m0 on the best of a first stage, as its makers claim", "ndcg_at_5", 0.9102),
    ),
}
"""Benchmark -> who, measure, mean over its tasks: what stands beside ours."""


class Row(NamedTuple):
    """One stage on one subset of one task."""

    task: str
    subset: str
    stage: str
    main: str
    """The measure that the task is about."""
    score: float
    measures: Mapping[str, float]


@dataclass(frozen=True)
class Results:
    """All that was measured."""

    revision: str
    rows: Sequence[Row]
    means: Mapping[str, Mapping[str, float]]
    """Benchmark or folder -> stage -> mean of the main score over its tasks, each the mean of its subsets."""
    failed: Sequence[str]
    """Tasks that could not be run, and why."""

    def as_dict(self) -> dict[str, Any]:
        """What `pagelens vidore --json` prints."""
        rows = [each._asdict() for each in self.rows]
        published = {
            name: [dict(zip(("who", "measure", "score"), each, strict=True)) for each in PUBLISHED[name]]
            for name in self.means
            if name in PUBLISHED
        }
        return {"schema": SCHEMA, **asdict(self), "rows": rows, "published": published}

    def lines(self) -> list[str]:
        """For a terminal."""
        width = max((len(f"{each.task} {each.subset}") for each in self.rows), default=0) + 2
        found = [f"{'':{width}}{'stage':18}{'main':>12}" + "".join(f"{name:>15}" for name in MEASURES)]
        for each in self.rows:
            values = "".join(f"{each.measures[name]:15.3f}" for name in MEASURES)
            found.append(f"{f'{each.task} {each.subset}':{width}}{each.stage:18}{each.score:12.4f}{values}")
        for name, stages in self.means.items():
            found += ["", f"{name}, mean of the main scores"]
            found += [f"  {stage:18}{mean:.4f}" for stage, mean in stages.items()]
            found += [f"  {who}: {measure} {score:.4f}" for who, measure, score in PUBLISHED.get(name, ())]
        return [*found, *(f"not run: {each}" for each in self.failed)]


class MtebSearch:
    """One stage of a pipeline as mteb's `SearchProtocol`; the stages share every search.

    Its revision tells the data apart as well (`data`: theirs), for mteb's results do not.
    """

    def __init__(self, shared: Shared, stage: str, data: str) -> None:
        from mteb.models.model_meta import ModelMeta

        self._shared, self._stage = shared, stage
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"pagelens/{shared.pipeline.name}-{stage.replace(':', '-')}",
                "revision": f"{shared.pipeline.signature}-{data[:8]}",
                "modalities": ["text", "image"],
            }
        )

    def index(self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **_: Any) -> None:
        """Take the corpus in, unless another stage did already."""
        self._shared.index((task_metadata.name, hf_split, hf_subset), corpus)

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        **_: Any,
    ) -> Scores:
        """Query id -> page id -> score; at most 100 pages a query, as everywhere in pagelens."""
        key = (task_metadata.name, hf_split, hf_subset)
        self._shared.pipeline.check_unseen(self._stage, queries["text"])
        found = self._shared.search(key, queries, top_ranked)[self._stage]
        return {id: dict(list(pages.items())[:top_k]) for id, pages in found.items()}


class Shared:
    """A pipeline and the answers to the questions of the current task, by stage."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._indexed: tuple[str, str, str] | None = None
        self._answers: dict[str, Scores] | None = None

    def index(self, key: tuple[str, str, str], corpus: Any) -> None:
        """A corpus of mteb; the same key is the same corpus."""
        if key != self._indexed:
            self._indexed, self._answers = None, None
            self.pipeline.index(_pages(key[0], corpus))
            self._indexed = key

    def search(
        self, key: tuple[str, str, str], queries: Any, top_ranked: Mapping[str, Sequence[str]] | None
    ) -> dict[str, Scores]:
        """Asked once for all stages."""
        assert key == self._indexed
        if self._answers is None:
            questions = dict(zip(queries["id"], queries["text"], strict=True))
            self._answers = self.pipeline.search(questions, top_ranked)
        return self._answers


class VidorePipeline:
    """As vidore-benchmark's `BasePipeline` wants it: `index` and `search`, and no more.

    Args:
        out: Where libraries are kept.
        profile: As `Pipeline`.
        rerank: As `Pipeline`.
        stage: Whose order is given; default: the last.
    """

    def __init__(
        self,
        out: str = "vidore-output",
        profile: str = "auto",
        rerank: Sequence[str] | None = None,
        stage: str | None = None,
    ) -> None:
        self._pipeline = Pipeline(Path(out) / "libraries", profile, rerank)
        self._stage = stage or self._pipeline.stages[-1]

    def index(
        self,
        corpus_ids: Sequence[str],
        corpus_images: Sequence[PIL.Image.Image],
        corpus_texts: Sequence[str],
        dataset_name: str | None = None,
    ) -> None:
        """Take a corpus in; its texts are left alone, pages are read by us."""
        pages = zip(corpus_ids, corpus_images, strict=True)
        self._pipeline.index((str(id), _png(image)) for id, image in pages)

    def search(self, query_ids: Sequence[str], queries: Sequence[str]) -> Scores:
        """Query id -> page id -> score."""
        questions = dict(zip(map(str, query_ids), queries, strict=True))
        self._pipeline.check_unseen(self._stage, queries)
        return self._pipeline.search(questions)[self._stage]


def run(
    names: Sequence[str],
    out: Path,
    pipeline: Pipeline,
    say: Callable[[str], None] = lambda line: None,
) -> Results:
    """Run benchmarks, tasks, or folders in the ViDoRe format; what is done is not done again.

    Args:
        names: Of benchmarks or tasks as mteb knows them, or folders.
        out: Results: `mteb/results` as mteb keeps them, `predictions`, `vidore-benchmark`.
        pipeline: What is measured.
        say: Told what is done.

    Raises:
        UsageError: there is no such benchmark, task or folder.
        Missing: mteb is not installed.
    """
    mteb = _mteb()
    groups = {name: _tasks(name, out / "folders") for name in names}
    shared = Shared(pipeline)
    cache = mteb.ResultCache(cache_path=out / "mteb")
    rows: list[Row] = []
    failed = []
    for name, tasks in groups.items():
        for task in tasks:
            say(f"{name}: {task.metadata.name}")
            try:
                data = str(task.metadata.dataset["revision"])
                for stage in pipeline.stages:
                    rows += _evaluate(task, MtebSearch(shared, stage, data), stage, cache, out)
            except (OSError, ValueError, UsageError) as error:
                failed.append(f"{task.metadata.name}: {str(error).splitlines()[0]}")
    if failed and not rows:
        raise UsageError(f"no task could be run; {failed[0]}; is its data set here, or the network?")
    _write_vidore(rows, out, pipeline)
    return Results(pipeline.signature, rows, _means(groups, rows), failed)


def _evaluate(task: Any, search: MtebSearch, stage: str, cache: Any, out: Path) -> list[Row]:
    result = _mteb().evaluate(
        search,
        task,
        cache=cache,
        encode_kwargs={"batch_size": 1, "show_progress_bar": False},
        prediction_folder=out / "predictions" / stage.replace(":", "-"),
        show_progress_bar=False,
        co2_tracker=False,
    )
    return [
        Row(
            task.metadata.name,
            own["hf_subset"],
            stage,
            task.metadata.main_score,
            float(own["main_score"]),
            {name: float(own[name]) for name in MEASURES},
        )
        for scored in result.task_results
        for subsets in scored.scores.values()
        for own in subsets
    ]


def _means(groups: Mapping[str, Sequence[Any]], rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, tasks in groups.items():
        wanted = {task.metadata.name for task in tasks}
        by_task: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            if row.task in wanted:
                by_task[row.stage][row.task].append(row.score)
        found[name] = {
            stage: sum(sum(v) / len(v) for v in own.values()) / len(own) for stage, own in by_task.items()
        }
    return found


def _write_vidore(rows: Sequence[Row], out: Path, pipeline: Pipeline) -> None:
    """A file a task and stage, with the keys of vidore-benchmark's pipeline evaluation."""
    subsets: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        subsets[row.task, row.stage].append(row)
    for (task, stage), own in subsets.items():
        by_language = {
            row.subset: {f"ndcg_cut_{k}": row.measures[f"ndcg_at_{k}"] for k in (5, 10)} for row in own
        }
        overall = {
            name: sum(each[name] for each in by_language.values()) / len(own)
            for name in ("ndcg_cut_5", "ndcg_cut_10")
        }
        record = {
            "dataset": task,
            "split": "test",
            "language": own[0].subset if len(own) == 1 else None,
            "module_path": "pagelens.evaluation.vidore",
            "class_name": "VidorePipeline",
            "pipeline_args": {"profile": pipeline.name, "stage": stage, "revision": pipeline.signature},
            "aggregated_metrics": {"overall": overall, "by_language": by_language, "timing": {}, "infos": {}},
        }
        folder = out / "vidore-benchmark" / stage.replace(":", "-")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{task}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _tasks(name: str, links: Path) -> list[Any]:
    """Of a benchmark, a task or a folder, to which a link is made in `links`."""
    mteb = _mteb()
    if Path(name).is_dir():
        return [_local_task(Path(name).resolve(), links)]
    with contextlib.suppress(KeyError, ValueError):
        return list(mteb.get_benchmark(name).tasks)
    with contextlib.suppress(KeyError, ValueError):
        return [mteb.get_task(name)]
    raise UsageError(
        f"mteb knows no benchmark or task {name!r}, and there is no such folder; benchmarks are ViDoRe(v1), "
        "ViDoRe(v2), ViDoRe(v3), ViDoRe(v3.1), 'ViDoRe(v3.1, reranking)'"
    )


def _local_task(folder: Path, links: Path) -> Any:
    """A folder in the ViDoRe format as a task: corpus, queries and qrels, be it of several subsets."""
    import datasets
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    title, content = folder.name, _content(folder)
    folder = _by_content(folder, content, links)
    try:
        configs = datasets.get_dataset_config_names(str(folder))
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} is no data set: {error}") from error
    subsets = [name.removesuffix("-corpus") for name in configs if name.endswith("-corpus")]
    if not subsets and "corpus" not in configs:
        raise UsageError(
            f"{folder} has the parts {', '.join(configs)}; the ViDoRe format has corpus, queries and qrels, "
            "named in its README.md"
        )
    subsets = subsets or ["default"]
    config = f"{subsets[0]}-corpus" if subsets != ["default"] else "corpus"
    split = datasets.get_dataset_split_names(str(folder), config_name=config)
    columns = datasets.load_dataset_builder(str(folder), config).info.features or {}
    both = "text" in columns
    name = "".join(letter for letter in title.title() if letter.isalnum())

    class LocalTask(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = TaskMetadata(
            name=f"{name}Local",
            description=f"The pages in {title}",
            dataset={"path": str(folder), "revision": content},
            type="DocumentUnderstanding",
            category="t2it" if both else "t2i",
            modalities=["text", "image"],
            eval_splits=["test"] if "test" in split else list(split)[:1],
            eval_langs=["eng-Latn"] if subsets == ["default"] else {each: ["eng-Latn"] for each in subsets},
            main_score="ndcg_at_10",
        )

    return LocalTask()


def _by_content(folder: Path, content: str, links: Path) -> Path:
    """The folder by a name that changes with its content.

    What `datasets` has read once of a folder it keeps by the folder's name alone, and gives for any other.
    """
    link = links.resolve() / content
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder, target_is_directory=True)
    return link


def _content(folder: Path) -> str:
    """Stands for the data: a changed file is another revision."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            name = str(path.relative_to(folder)).encode(errors="surrogateescape")
            digest.update(hashlib.sha256(name).digest() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def _pages(task: str, corpus: Any) -> Iterator[tuple[str, bytes]]:
    """Ids and image files of a corpus of mteb, as they are stored: not decoded."""
    import datasets

    if "image" not in corpus.column_names:
        raise UsageError(f"{task} has no page images; pagelens reads pages, not texts")
    for row in corpus.cast_column("image", datasets.Image(decode=False)):
        image = row["image"]
        yield str(row["id"]), image["bytes"] or Path(image["path"]).read_bytes()


def _png(image: PIL.Image.Image) -> bytes:
    stored = BytesIO()
    image.convert("RGB").save(stored, "PNG")
    return stored.getvalue()


def _mteb() -> Any:
    try:
        import mteb
    except ImportError as error:
        raise Missing("ViDoRe runs through mteb: pip install 'pagelens[vidore]'") from error
    return mteb
