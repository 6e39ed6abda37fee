"""What looking at pages costs, by level of stored features: `python benchmarks/rerank.py --data DIR`.

Random weights in the published layouts and, with `--shapes full`, of the published sizes (a GPU and 20 GB of
disk); `small` fits a laptop. Page images are real. All is measured in one run and given as ratios; operations
are counted by torch, so that the measured ratio can be held against the counted one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pypdfium2
import torch
from collection import OUT, data_argument
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from pagelens.records import Candidate, Page
from pagelens.rerankers import load_reranker
from pagelens.rerankers.vision_language import Read
from pagelens.store.pages import PageFiles

sys.path.append(str(Path(__file__).parents[1] / "tests"))  # where checkpoints are made up
from tiny_checkpoints import write_jina, write_nemotron, write_qwen3_vl  # noqa: E402

TOGETHER = 8
"""Pages of which only the question is read, in one go: alone a page is over before it has begun."""
BUDGET = 200.0
"""Milliseconds."""
QUESTIONS_A_PAGE = 36
TEXT_TOKENS = 800
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bfloat16 operations a second, of the makers' data sheets."""


def _attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any) -> int:
    heads = query[1]
    count: int = sdpa_flop_count(query, (key[0], heads, *key[2:]), (value[0], heads, *value[2:]))
    return count


ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention: _attention,
    torch.ops.aten._scaled_dot_product_efficient_attention: _attention,
    torch.ops.aten._scaled_dot_product_cudnn_attention: _attention,
}
"""Operations of attention; torch counts none on a CPU, and refuses heads that share keys on a GPU."""
SEED_TABLE = "for comparison, text passages on an A100: 5 / 12 / 35 ms a pair for 1B / 2-3B / 7-8B models"
WORDS = [
    "revenue",
    "of",
    "the",
    "northern",
    "region",
    "rose",
    "by",
    "a",
    "tenth",
    "in",
    "the",
    "third",
    "quarter",
    "as",
    "harbours",
    "renewed",
    "their",
    "vanes",
]
VOCABULARY = 151936


@dataclass(frozen=True)
class Family:
    """A model, and how its checkpoint is made up at two sizes."""

    write: Callable[..., Path]
    full: dict[str, Any]
    small: dict[str, Any]


def _qwen3_text(hidden: int, inner: int, layers: int, heads: int, size: int) -> dict[str, Any]:
    half = size // 2
    section = [half - 2 * (half // 4), half // 4, half // 4]
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "head_dim": size,
        "vocab_size": VOCABULARY,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": section, "rope_type": "default"},
    }


def _text(hidden: int, inner: int, layers: int, heads: int, keys: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": keys,
    }


FAMILIES = {
    "jina-m0": Family(
        write_jina,
        {
            "text": {**_text(1536, 8960, 28, 12, 2), "vocab_size": VOCABULARY},
            "vision": {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16},
        },
        {
            "text": _text(512, 2048, 4, 4, 2),
            "vision": {"depth": 2, "embed_dim": 512, "hidden_size": 512, "num_heads": 4},
        },
    ),
    "nemotron-vl": Family(
        write_nemotron,
        {
            "text": {**_text(2048, 8192, 16, 32, 8), "head_dim": 64, "vocab_size": 128267},
            "vision": {
                "hidden_size": 1152,
                "intermediate_size": 4304,
                "num_hidden_layers": 27,
                "num_attention_heads": 16,
                "image_size": 512,
            },
        },
        {
            "text": {**_text(256, 1024, 4, 4, 4), "head_dim": 64},
            "vision": {
                "hidden_size": 128,
                "intermediate_size": 480,
                "num_hidden_layers": 4,
                "num_attention_heads": 2,
                "image_size": 512,
            },
        },
    ),
    "qwen3-vl-2b": Family(
        write_qwen3_vl,
        {
            "text": _qwen3_text(2048, 6144, 28, 16, 128),
            "vision": {
                "depth": 24,
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_heads": 16,
                "out_hidden_size": 2048,
                "num_position_embeddings": 2304,
                "deepstack_visual_indexes": [5, 11, 17],
            },
        },
        {
            "text": {**_qwen3_text(512, 2048, 4, 4, 128), "vocab_size": 288},
            "vision": {
                "depth": 2,
                "hidden_size": 512,
                "intermediate_size": 2048,
                "num_heads": 4,
                "out_hidden_size": 512,
                "num_position_embeddings": 2304,
                "deepstack_visual_indexes": [0, 1],
            },
        },
    ),
}


def main() -> None:
    """Print the tables, write JSON."""
    parser = data_argument(__doc__)
    parser.add_argument("--shapes", choices=["small", "full"], default="small")
    parser.add_argument("--models", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument(
        "--candidates", nargs="+", type=int, help="default: 5 16 24 40 100, or 2 4 for small shapes"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5, help="questions asked of each")
    parser.add_argument("--threads", type=int, default=1, help="on a CPU; several wait for each other")
    parser.add_argument(
        "--operations", action="store_true", help="only count those of the published sizes; a CPU will do"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.getLogger("pagelens.weights").setLevel(logging.ERROR)  # the licence, at every load
    counts = arguments.candidates or ([5, 16, 24, 40, 100] if arguments.shapes == "full" else [2, 4])
    pages = list(_pages(arguments.data / "mmdocir-dev" / "pdf", max(counts)))
    if arguments.operations:
        for name in arguments.models:
            _operations(name, pages[0])
        return
    report: dict[str, Any] = {"schema": 1, "shapes": arguments.shapes, "models": {}}
    for name in arguments.models:
        folder = _weights(name, arguments.shapes)
        bench = Bench(name, folder, arguments.device, pages, counts, arguments.rounds)
        report["device"] = bench.device
        report["models"][name] = bench.run()
    print(SEED_TABLE)
    OUT.mkdir(exist_ok=True)
    (OUT / f"rerank-{arguments.shapes}.json").write_text(json.dumps(report, indent=1) + "\n")


class Bench:
    """One model."""

    def __init__(
        self,
        name: str,
        folder: Path,
        device: str,
        pages: Sequence[Candidate],
        counts: list[int],
        rounds: int,
    ) -> None:
        self.name, self.folder, self.asked, self.pages = name, folder, device, pages
        self.counts, self.rounds = counts, rounds
        self.root = OUT / "rerank-features"
        first = self._load("none")
        self.levels: tuple[str, ...] = first.model.levels
        place = first.model.body.device
        self.cuda = place.type == "cuda"
        self.device = torch.cuda.get_device_name(place) if self.cuda else "CPU"
        self.both = first.model.takes_both
        self.first = first
        self.weights = torch.cuda.memory_allocated() if self.cuda else 0

    def run(self) -> dict[str, Any]:
        """Every level, every place."""
        print(f"\n{self.name}, {self.device}, {self.first.model.body.dtype}")
        print(f"{'':34}" + "".join(f"{f'{count} pages':>22}" for count in self.counts) + f"{'in 200 ms':>11}")
        result: dict[str, Any] = {"rows": {}}
        result["rows"]["computed every time"] = base = self._row("computed every time", self.first)
        if self.both:
            texted = self._load("none", with_text=True)
            result["rows"]["and 800 tokens of text"] = self._row("and 800 tokens of text", texted)
            del texted
        for level in self.levels:
            for place, hits in self._places():
                reranker = self._kept(level, place, hits)
                title = f"{level}, {place}" + (f", {hits:.0%} there" if place == "disk" else "")
                row = self._row(title, reranker)
                row["times_faster"] = [
                    a["p50"] / b["p50"] for a, b in zip(base["ms"], row["ms"], strict=True)
                ]
                result["rows"][title] = row
                size = PageFiles(str(self.root)).size()["features"] / len(self.pages)
                if hits == 1:
                    result.setdefault("bytes_a_page", {})[level] = size
                del reranker
        result["forward"] = forward = self._forward()
        for level in self.levels:
            ratios = forward[level]
            print(
                f"{level}: {result['bytes_a_page'][level] / 1e6:.1f} MB a page; {forward['tflop']:.3f} TFLOP "
                f"a page become {forward['tflop'] / ratios['counted']:.4f}: {ratios['counted']:.1f} times "
                f"fewer counted, {ratios['measured']:.1f} times less time measured"
            )
        result["page_major"] = self._page_major()
        if self.cuda:
            peak = next((each for key, each in PEAK.items() if key in self.device), None)
            if peak:
                seconds = base["ms"][-1]["p50"] / 1000 / self.counts[-1]
                result["share_of_peak"] = forward["tflop"] * 1e12 / seconds / peak
                print(f"computed every time: {result['share_of_peak']:.0%} of the card's peak")
        return result

    def _places(self) -> list[tuple[str, float]]:
        memory = [("device", 1.0)] if self.cuda else []
        return [*memory, ("host", 1.0), ("disk", 1.0), ("disk", 0.5), ("disk", 0.0)]

    def _load(self, level: Any, files: PageFiles | None = None, with_text: bool = False) -> Any:
        dtype = "auto"
        return load_reranker(
            self.name, self.folder, self.asked, dtype, level, with_text=with_text, files=files
        )

    def _kept(self, level: str, place: str, hits: float) -> Any:
        """A reranker whose features are where they are said to be."""
        files = PageFiles(str(self.root))
        reranker = self._load(level, files)
        list(reranker.prepare(self.pages))
        if place == "disk":
            missing = [page for number, page in enumerate(self.pages) if number % 100 >= hits * 100]
            if hits == 0.5:
                missing = self.pages[1::2]  # type: ignore[assignment]
            for file in list(files.stored(".safetensors")):
                if any(f"/{page.page.number}." in file.path for page in missing):
                    files.unlink(file.path)
        room = {"disk": (0, 0), "host": (1 << 40, 0), "device": (1 << 40, 1 << 40)}[place]
        reranker.features.resize(*room)
        if place != "disk":
            reranker.opinions("to have them there", self.pages)
        return reranker

    def _row(self, title: str, reranker: Any) -> dict[str, Any]:
        row: dict[str, Any] = {"ms": []}
        reranker.opinions("to wake the device", self.pages[:1])
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        for count in self.counts:
            spent = []
            for turn in range(self.rounds):
                started = time.perf_counter()
                reranker.opinions(f"what became of vane number {turn}?", self.pages[:count])
                spent.append((time.perf_counter() - started) * 1000)
            p50, p95 = np.percentile(spent, [50, 95])
            row["ms"].append({"candidates": count, "p50": float(p50), "p95": float(p95)})
        if self.cuda:
            row["peak_gb"] = (
                torch.cuda.max_memory_allocated() - (reranker is not self.first) * self.weights
            ) / 1e9
        reranker.calibrate()
        reranker.within("once, so that costs are known", self.pages, BUDGET)
        row["in_200_ms"] = sum(each is not None for each in reranker.within("and now?", self.pages, BUDGET))
        cells = "".join(
            f"{each['p50']:10.0f} {each['p50'] / each['candidates']:5.1f}/page" for each in row["ms"]
        )
        memory = f"{row['peak_gb']:8.1f} GB" if self.cuda else ""
        print(f"{title:34}{cells}{row['in_200_ms']:11}{memory}", flush=True)
        return row

    def _forward(self) -> dict[str, Any]:
        """The model's own work on one page: operations counted, and time, with and without features.

        Images are prepared before, which is no operation of the model. On a CPU the time is that of the
        thread, which other work on the machine does not touch.
        """
        model = self.first.model
        pixels = [model.body.prepare(self.pages[0].image, model.sizes[0])]
        question = Read("how many operations is this?")
        vision = model.body.look(pixels)[0]
        compose = model.body.tokenizer.compose

        def read() -> None:
            model.body.read([compose(model.whole(question, Read(vision=vision)))])

        def whole() -> None:
            model.body.look(pixels)
            read()

        work = {"none": whole, "vision": read}
        if "prefix" in self.levels:
            kept = model.body.keep([compose(model.beginning(vision))])
            several = kept * TOGETHER
            work["prefix"] = lambda: model.body.read([compose(model.ending(question))] * TOGETHER, several)
        counted, spent = {}, {}
        for level, each in work.items():
            with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
                each()
            pages = TOGETHER if level == "prefix" else 1
            counted[level] = counter.get_total_flops() / pages
            spent[level] = min(self._seconds(each) for _ in range(max(3, self.rounds))) / pages
        ratios = {
            level: {"counted": counted["none"] / counted[level], "measured": spent["none"] / spent[level]}
            for level in self.levels
        }
        return {"tflop": counted["none"] / 1e12, **ratios}

    def _seconds(self, work: Callable[[], None]) -> float:
        if not self.cuda:
            started = time.thread_time()
            work()
            return time.thread_time() - started
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - started

    def _page_major(self) -> dict[str, float]:
        """Pairs a second, page by page against question by question."""
        pages = self.pages[: max(1, len(self.pages) // 4)]
        questions = [f"what became of vane number {number}?" for number in range(QUESTIONS_A_PAGE)]
        started = time.perf_counter()
        self.first.score_pairs([(question, page) for question in questions for page in pages])
        major = len(questions) * len(pages) / (time.perf_counter() - started)
        started = time.perf_counter()
        for question in questions[:2]:
            self.first.score(question, pages)
        minor = 2 * len(pages) / (time.perf_counter() - started)
        print(f"page by page: {major:.1f} pairs/s against {minor:.1f}, {major / minor:.1f} times")
        return {"page_major_pairs_per_second": major, "pairs_per_second": minor, "ratio": major / minor}


def _operations(name: str, page: Candidate) -> None:
    """Operations a page at the published sizes, from three models of one or two layers a tower.

    Layers of a tower are alike, so each adds the same.
    """
    family, counts = FAMILIES[name], {}
    depth = "depth" if "depth" in family.full["vision"] else "num_hidden_layers"
    for seeing, reading in ((1, 1), (2, 1), (1, 2)):
        folder = OUT / "weights" / f"{name}-{seeing}-{reading}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        stacked = family.full["vision"].get("deepstack_visual_indexes")
        vision = {**family.full["vision"], depth: seeing + (2 if stacked else 0)}
        if stacked:
            vision["deepstack_visual_indexes"] = [0, 1, 2]
        text = {
            **family.full["text"],
            "num_hidden_layers": reading + (2 if stacked else 0),
            "vocab_size": 288,
        }
        family.write(folder, text=text, vision=vision)
        bench = Bench(name, folder, "cpu", [page], [1], 1)
        counts[seeing, reading] = bench._forward()
        shutil.rmtree(folder)
    more = 3 if stacked else 1
    layers = family.full["vision"][depth] - more, family.full["text"]["num_hidden_layers"] - more

    def whole(level: str) -> float:
        def one(key: tuple[int, int]) -> float:
            ratio = 1 if level == "none" else counts[key][level]["counted"]
            return float(counts[key]["tflop"] / ratio)

        base = one((1, 1))
        return float(base + layers[0] * (one((2, 1)) - base) + layers[1] * (one((1, 2)) - base))

    levels = ["none", *(level for level in counts[1, 1] if level != "tflop")]
    print(f"{name}: " + ", ".join(f"{level} {whole(level):.2f} TFLOP a page" for level in levels), flush=True)


def _weights(name: str, shapes: str) -> Path:
    """The folder of random weights of that size; made once."""
    folder = OUT / "weights" / f"{name}-{shapes}"
    if not (folder / "model.safetensors").exists():
        print(f"making random weights for {name} ({shapes})", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        family = FAMILIES[name]
        family.write(folder, **getattr(family, shapes))
    return folder


def _pages(folder: Path, count: int) -> Iterator[Candidate]:
    """Real pages at 150 DPI, as an ingest stores them, with 800 tokens of words beside."""
    text = " ".join(WORDS[n % len(WORDS)] for n in range(TEXT_TOKENS))
    made = 0
    for path in sorted(folder.glob("*.pdf")):
        with pypdfium2.PdfDocument(path) as document:
            for source in document:
                if made == count:
                    return
                buffer = BytesIO()
                source.render(scale=150 / 72).to_pil().convert("RGB").save(buffer, "JPEG", quality=80)
                width, height = source.get_size()
                jpeg = buffer.getvalue()
                yield Candidate(
                    Page("0123456789abcdef", made, width, height),
                    str(path),
                    text,
                    {},
                    lambda jpeg=jpeg: PIL.Image.open(BytesIO(jpeg)).convert("RGB"),  # type: ignore[misc]
                    image_sha256=hashlib.sha256(jpeg).hexdigest(),
                )
                made += 1


if __name__ == "__main__":
    main()
