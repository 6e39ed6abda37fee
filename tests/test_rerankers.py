"""The contract over all members, and each against a second implementation."""

from __future__ import annotations

import json
import math
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagelens import Library
from pagelens.errors import Missing, UsageError
from pagelens.records import Box, Candidate, Page, Query, Region, Stage
from pagelens.rerankers import evidence
from pagelens.rerankers.evidence import FEATURES, Coefficients, EvidenceReranker
from pagelens.rerankers.text import TextReranker
from pagelens.rules import Rule, one_per_document
from pagelens.searching import ExplainingReranker, Reranker, Step
from pagelens.words import idf, terms

ENGLISH = ("eng",)
QUESTION = "What rent does the tenant pay for the shop in 2021?"
TEXTS = [
    "Lease agreement\nThe tenant pays a rent of 1,250 a month for the shop.\nSigned on 3 May 2021.",
    "Annual report 2021\nRevenue rose to 48 million. The shop in Quay Street was closed.",
    "",
    "rent rent rent tenant shop",
    "Shop floor plan " + "corridor " * 300 + "the tenant pays",
    "12 34 56 2021",
    "rent" + " corridor" * 24 + " tenant",
    "the and of",
]


REGIONS = [["text", "chart"], ["table"], [], ["signature", "table"]]
NAMED = {"chart": "chart", "table": "table", "signature": "signed"}
"""What is on a page, and how the questions below call it."""


def no_image() -> Any:
    raise AssertionError("nobody asked for the image")


def candidate(number: int, text: str, /, **scores: float) -> Candidate:
    stages = {name: Stage(1, score) for name, score in scores.items()}
    return Candidate(
        Page("0" * 16, number, 595, 842),
        f"/scans/tenant_rent-{number % 3}.pdf",
        text,
        stages,
        no_image,
        regions=tuple(Region(kind, Box(0, 0, 9, 9), 1.0) for kind in REGIONS[number % len(REGIONS)]),
    )


def candidates() -> list[Candidate]:
    """Pages as a first stage returns them: no words, no scores in its lists."""
    draw = random.Random(4)
    found = []
    for number, text in enumerate(TEXTS):
        scores = {"document": draw.uniform(0, 2), "fused": draw.uniform(-2, 2)}
        if text:
            scores["text"] = draw.uniform(0, 0.8)
        if terms(text, ENGLISH) & terms(QUESTION, ENGLISH):
            scores["bm25"] = draw.uniform(1, 9)
        found.append(candidate(number, text, **scores))
    return found


class Overlap:
    """The share of the question's words on the page: no weights, for plumbing only."""

    name = "overlap"
    needs = frozenset({"text"})

    def score(self, query: Query | str, candidates: Sequence[Candidate]) -> list[float]:
        asked = set((query if isinstance(query, str) else query.text).lower().split())
        return [len(asked & set(each.text.lower().split())) / len(asked) for each in candidates]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of two layers with random weights, and a window of 48 tokens."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,?"
    whole = sorted(
        {word.lower().strip(".,?") for text in [QUESTION, *TEXTS] for word in text.split()} - set(letters)
    )
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{c}" for c in letters),
        *whole,
    ]
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-cross-encoder"
    fast: Any = PreTrainedTokenizerFast
    fast(
        tokenizer_object=tokenizer,
        model_max_length=48,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    ).save_pretrained(folder)
    torch.manual_seed(0)
    settings: Any = BertConfig
    config = settings(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=48,
        num_labels=1,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def text_member(tiny: Path) -> TextReranker:
    return TextReranker.load(str(tiny))


@pytest.fixture(params=["evidence", "text", "overlap"])
def member(request: pytest.FixtureRequest) -> Reranker:
    if request.param == "text":
        return request.getfixturevalue("text_member")  # type: ignore[no-any-return]
    return EvidenceReranker(ENGLISH) if request.param == "evidence" else Overlap()


# The contract


def test_one_finite_number_a_candidate(member: Reranker) -> None:
    scores = member.score(QUESTION, candidates())
    assert len(scores) == len(TEXTS) and all(
        type(score) is float and math.isfinite(score) for score in scores
    )
    assert len(set(scores)) > 3
    assert member.score(Query(QUESTION), candidates()) == scores
    assert member.needs <= {"text", "image", "stages", "list"} and member.name


def test_scores_do_not_hang_on_the_order(member: Reranker) -> None:
    given = candidates()
    scores = dict(zip((each.page.number for each in given), member.score(QUESTION, given), strict=True))
    for seed in range(3):
        shuffled = given[:]
        random.Random(seed).shuffle(shuffled)
        found = dict(
            zip((each.page.number for each in shuffled), member.score(QUESTION, shuffled), strict=True)
        )
        if isinstance(member, TextReranker):  # other batches, other rounding
            assert found == pytest.approx(scores, abs=1e-5)
        else:
            assert found == scores


def test_scores_hang_on_the_others_only_where_that_is_said(member: Reranker) -> None:
    alone = [member.score(QUESTION, [each])[0] for each in candidates()]
    if "list" in member.needs:
        assert alone == [0.0] * len(TEXTS)
    else:
        assert alone == pytest.approx(member.score(QUESTION, candidates()), abs=1e-5)


def test_nothing_one_page_and_a_page_without_words(member: Reranker) -> None:
    assert member.score(QUESTION, []) == []
    assert len(member.score(QUESTION, candidates()[:1])) == 1
    assert all(map(math.isfinite, member.score(QUESTION, [candidate(1, ""), candidate(2, "")])))


@pytest.mark.parametrize("question", ["what is the", "?", "zeppelin"])
def test_a_question_that_no_page_answers(member: Reranker, question: str) -> None:
    assert all(map(math.isfinite, member.score(question, candidates())))


def test_reasons_add_up_to_the_score(member: Reranker) -> None:
    if not isinstance(member, ExplainingReranker):
        pytest.skip(f"{member.name} gives no reasons")
    opinions = member.opinions(QUESTION, candidates())
    assert [opinion.score for opinion in opinions] == member.score(QUESTION, candidates())
    for opinion in opinions:
        if opinion.features:
            assert math.fsum(each.share for each in opinion.features.values()) == pytest.approx(opinion.score)


def test_members_rerank_a_library(member: Reranker, small_library: Library) -> None:
    hits = small_library.search("who signed the lease?", k=6, rerank=Step(member, 4))
    plain = small_library.search("who signed the lease?", k=6, rerank=None)
    assert {hit.page_id for hit in hits} == {hit.page_id for hit in plain}
    assert {hit.page_id for hit in hits[:4]} == {hit.page_id for hit in plain[:4]}
    assert [hit.last_stage for hit in hits] == ["rerank"] * 4 + ["fused"] * 2
    assert [hit.page_id for hit in hits[4:]] == [hit.page_id for hit in plain[4:]]
    scores = [hit.score for hit in hits[:4]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("rules", [(), (one_per_document,)])
def test_a_run_sorted_by_score_is_the_order_of_the_search(
    member: Reranker, rules: Sequence[Rule], small_library: Library
) -> None:
    """Evaluation tools sort by score, whatever rank stands beside it."""
    how: dict[str, Any] = {"k": 6, "rerank": Step(member, 2), "rules": rules}
    hits = small_library.search("who signed the lease?", **how)
    ranked = small_library.rank("who signed the lease?", **how)
    assert [page_id for page_id, _ in ranked] == [hit.page_id for hit in hits]
    scores = [score for _, score in ranked]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == hits[0].score


# Evidence


def straight_line(
    question: str, given: Sequence[Candidate], weights: dict[int, float]
) -> list[dict[str, float]]:
    """Every feature, one after the other, the slow way."""
    words = [(word, terms(word, ENGLISH)) for word in question.split()]
    asked = [found for _, found in words if found]
    everything = set().union(*asked)
    total = sum(weights.get(term, 0) for term in everything) or 1
    lowest = min((c.stages["text"].score for c in given if "text" in c.stages), default=0.0)
    rows = []
    for each in given:
        tokens = [terms(token, ENGLISH) & everything for token in each.text.split()]
        on_page = set().union(*tokens)

        def share(found: set[int]) -> float:
            return sum(weights.get(term, 0) for term in found) / total  # noqa: B023

        numbers = {t for word, found in words if re.search(r"\d", word) for t in found}
        stretches = [set().union(*tokens[start : start + 25]) for start in range(len(tokens))]
        pairs = list(zip(asked, asked[1:], strict=False))
        in_order = [
            any(
                tokens[i] & a and any(tokens[j] & b for j in (i + 1, i + 2) if j < len(tokens))
                for i in range(len(tokens))
            )
            for a, b in pairs
        ]
        name = each.path.rpartition("/")[2].removesuffix(".pdf").replace("_", " ").replace("-", " ")
        rows.append(
            {
                "page": each.stages["bm25"].score if "bm25" in each.stages else 0.0,
                "dense": each.stages["text"].score if "text" in each.stages else lowest,
                "document": each.stages["document"].score if "document" in each.stages else 0.0,
                "name": share(set(terms(name, ENGLISH)) & everything),
                "heading": share(set().union(*tokens[:20])),
                "coverage": share(on_page),
                "numbers": len(numbers & on_page) / max(1, len(numbers)),
                "proximity": max(map(share, stretches), default=0.0),
                "order": sum(in_order) / max(1, len(pairs)),
                "named": float(any(NAMED.get(r.kind) in question.split() for r in each.regions)),
                "length": math.log(max(20, len(tokens))),
                "digits": len(re.findall(r"\d", each.text)) / max(100, len(each.text)),
            }
        )
    return rows


QUESTIONS = [
    QUESTION,
    "signed chart of the corridor",
    "corridor floor plan",
    "rent 1,250 in May",
    "what is the",
    "revenue-million U.S. 48",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_features_are_the_straight_line(question: str) -> None:
    asked = terms(question, ENGLISH)
    held = {t: sum(t in terms(text, ENGLISH) for text in TEXTS) for t in asked}
    weights = {term: idf(count, len(TEXTS)) for term, count in held.items() if count}
    expected = straight_line(question, candidates(), weights)
    assert [row.keys() for row in expected] == [FEATURES.keys()] * len(TEXTS)
    for reranker in (
        EvidenceReranker(ENGLISH),  # counts among the candidates
        EvidenceReranker(ENGLISH, idf=lambda terms: {term: weights[term] for term in terms & weights.keys()}),
    ):
        measured = reranker.measure(question, candidates())
        assert [pytest.approx(row) for row in expected] == measured


def test_words_met_before_and_words_forgotten_are_measured_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    reranker, given = EvidenceReranker(ENGLISH), candidates()
    evidence._vocabulary.cache_clear()
    fresh = [reranker.measure(question, given) for question in QUESTIONS]
    assert [reranker.measure(question, given[::-1])[::-1] for question in QUESTIONS] == fresh
    monkeypatch.setattr(evidence, "REMEMBERED", 10)
    assert [reranker.measure(question, given) for question in QUESTIONS] == fresh


def test_the_score_is_the_weighted_sum_of_standardised_features() -> None:
    draw = random.Random(6)
    weights = {name: draw.uniform(-1, 1) for name in FEATURES}
    reranker = EvidenceReranker(ENGLISH, Coefficients(weights, {}))
    matrix = np.array([[row[name] for name in FEATURES] for row in reranker.measure(QUESTION, candidates())])
    spread = matrix.std(0)
    z = np.divide(matrix - matrix.mean(0), spread, out=np.zeros_like(matrix), where=spread > 1e-12)
    expected = z @ np.array([weights[name] for name in FEATURES])
    assert reranker.score(QUESTION, candidates()) == pytest.approx(expected.tolist())


def test_document_frequencies_come_from_the_collection(small_library: Library) -> None:
    reranker = small_library.reranker("evidence")
    assert isinstance(reranker, EvidenceReranker) and reranker._idf is not None
    total, question = 6, "who signed the lease in Harbour Office?"
    texts = [small_library.words(page["page_id"]).text for page in small_library.pages()]
    expected = {
        term: idf(count, total)
        for term in terms(question, ENGLISH)
        if (count := sum(term in terms(text, ENGLISH) for text in texts))
    }
    assert reranker._idf(terms(question, ENGLISH)) == pytest.approx(expected, rel=1e-5)
    few = small_library.candidates(question, k=2)
    coverage = [row["coverage"] for row in reranker.measure(question, few)]
    by_hand = [
        sum(expected[t] for t in terms(c.text, ENGLISH) & expected.keys()) / sum(expected.values())
        for c in few
    ]
    assert coverage == pytest.approx(by_hand, rel=1e-5)


def test_evidence_is_the_default_second_stage_and_every_reason_is_shown(small_library: Library) -> None:
    hits = small_library.search("who signed the lease?", k=3)
    assert hits[0].evidence[0].text == "This lease was signed by Martha Lindqvist."
    for hit in hits:
        assert hit.last_stage == "rerank" and list(hit.stages)[-2] == "fused"
        assert hit.stages["rerank"].features.keys() == Coefficients.load().weights.keys()
        shown = json.loads(json.dumps(hit.as_dict()))["stages"]["rerank"]
        assert sum(each["share"] for each in shown["features"].values()) == pytest.approx(hit.score)
    assert small_library.search("lease", k=1, stage="fused")[0].last_stage == "fused"
    assert small_library.search("lease", k=1, stage="bm25")[0].last_stage == "bm25"


def test_plain_pages_are_refused_by_a_member_that_needs_the_stages() -> None:
    with pytest.raises(UsageError, match="cross-encoder takes plain texts"):
        EvidenceReranker(ENGLISH).score(QUESTION, ["a plain text"])  # type: ignore[list-item]


def test_the_shipped_coefficients_have_a_card() -> None:
    shipped = Coefficients.load()
    assert set(shipped.weights) == set(FEATURES)
    assert len(shipped.card["questions"]) == len(set(shipped.card["questions"])) > 400
    assert {"data", "figures", "limits", "document frequencies"} <= shipped.card.keys()
    assert any("CC BY-NC 4.0" in each["terms"] for each in shipped.card["data"])
    assert shipped.weights["length"] < 0 < shipped.weights["dense"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"weights": {}}',
        '{"weights": {"page": "x"}, "card": {}, "blend": {}}',
        '{"weights": {"mood": 1}, "card": {}, "blend": {}}',
    ],
)
def test_a_file_that_holds_no_coefficients_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "fitted.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="pagelens fit"):
        Coefficients.load(path)


def test_a_fitted_file_is_a_reranker(tmp_path: Path, small_library: Library) -> None:
    path = tmp_path / "fitted.json"
    Coefficients({"page": -1.0}, {}).save(path)
    hits = small_library.search("the lease of the tenant", k=6, rerank=f"{path}@6")
    scores = [hit.stages["bm25"].score if "bm25" in hit.stages else 0.0 for hit in hits]
    assert scores == sorted(scores) and scores[0] < scores[-1]


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    saved = Coefficients({"page": 0.25, "length": -1.5}, {"questions": ["q1"]}, {"text": 0.75})
    saved.save(tmp_path / "fitted.json")
    assert Coefficients.load(tmp_path / "fitted.json") == saved


def test_a_fitted_blend_weighs_the_reranker_after_it(
    tmp_path: Path, tiny: Path, small_library: Library
) -> None:
    path = tmp_path / "fitted.json"
    Coefficients({"page": 1.0, "length": -0.5}, {}, {str(tiny): 0.0}).save(path)
    before = small_library.search("who signed the lease?", k=6, rerank=f"{path}@6")
    after = small_library.search("who signed the lease?", k=6, rerank=[f"{path}@6", f"{tiny}@6"])
    assert [hit.page_id for hit in after] == [hit.page_id for hit in before]
    plain = small_library.search("who signed the lease?", k=6, rerank=["evidence@6", f"{tiny}@6"])
    for hit in plain:
        features = hit.stages[hit.last_stage or ""].features
        assert features.keys() == {"rerank:evidence", str(tiny)} and features[str(tiny)].share != 0


# The text cross-encoder


def test_short_pages_are_scored_as_sentence_transformers_does(tiny: Path, text_member: TextReranker) -> None:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny))
    short = [text for text in TEXTS if len(text) < 80]
    expected = [float(model.predict([(QUESTION, text)])[0]) for text in short]
    assert len(set(expected)) == len(short)
    assert text_member.score(QUESTION, short) == pytest.approx(expected, abs=1e-5)
    assert text_member.score(QUESTION, [{"text": text} for text in short]) == pytest.approx(
        expected, abs=1e-5
    )


def test_a_long_page_is_its_best_passage(tiny: Path, text_member: TextReranker) -> None:
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny))
    words = TEXTS[4].split()
    (opinion,) = text_member.opinions(QUESTION, [TEXTS[4]])
    spans = text_member._passages(QUESTION, words)
    scores = [float(model.predict([(QUESTION, " ".join(words[s.start : s.stop]))])[0]) for s in spans]
    assert len(spans) > 5
    assert opinion.score == pytest.approx(max(scores), abs=1e-5)
    assert opinion.passage == spans[int(np.argmax(scores))]


@pytest.mark.parametrize("words", [1, 5, 30, 31, 200])
def test_passages_cover_the_page_overlap_by_half_and_are_never_cut(
    text_member: TextReranker, words: int
) -> None:
    text = [f"word{'x' * (i % 7)}" for i in range(words)]
    spans = text_member._passages(QUESTION, text)
    assert spans[0].start == 0 and spans[-1].stop == words
    assert {i for span in spans for i in span} == set(range(words))
    for one, other in zip(spans, spans[1:], strict=False):
        assert one.start < other.start <= one.stop - len(one) // 2 and other.stop > one.stop
    window = 48  # of the tiny model
    tokenizer = text_member._model.tokenizer
    for span in spans:
        read = tokenizer(QUESTION, " ".join(text[span.start : span.stop]))["input_ids"]
        assert len(read) <= window


def test_the_best_passage_is_the_evidence(text_member: TextReranker, small_library: Library) -> None:
    hits = small_library.search("who signed the lease?", k=2, rerank=["evidence@3", Step(text_member, 2)])
    assert [hit.last_stage for hit in hits] == [f"rerank:{text_member.name}"] * 2
    for hit in hits:
        words = small_library.words(hit.page_id).words
        (opinion,) = text_member.opinions("who signed the lease?", [hit.text])
        assert opinion.passage is not None
        read = words[opinion.passage.start : opinion.passage.stop]
        assert hit.evidence[0].text == " ".join(word.text for word in read)


def test_a_question_that_fills_the_window_is_refused(text_member: TextReranker) -> None:
    with pytest.raises(UsageError, match="reads 48 in all"):
        text_member.score("tenant " * 60, ["rent"])


def test_a_budget_is_kept_by_the_cross_encoder_too(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only the model moves on, 10 ms a passage."""
    member = TextReranker.load(str(tiny))
    whole: Any = member._model.predict
    now = [0.0]

    def slow(pairs: list[tuple[str, str]], **options: object) -> object:
        now[0] += 0.01 * len(pairs)
        return whole(pairs, **options)

    pages = [f"the rent of shop {number} is due" for number in range(40)]
    expected = member.opinions("rent?", pages)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(member._model, "predict", slow)
    member.calibrate()
    started = now[0]
    opinions = member.within("rent?", pages, 150)
    assert now[0] - started <= 0.15
    done = [each for each in opinions if each is not None]
    assert 0 < len(done) < 40 and opinions == [*done, *[None] * (40 - len(done))]
    scores = [each.score for each in expected[: len(done)]]
    assert [each.score for each in done] == pytest.approx(scores, abs=1e-5)
    assert member.within("rent?", pages, 0) == [None] * 40


def test_images_are_refused(text_member: TextReranker) -> None:
    with pytest.raises(UsageError, match="needs a text, not bytes"):
        text_member.score(QUESTION, [b"jpeg"])  # type: ignore[list-item]


def test_not_a_number_is_not_hidden_behind_another_passage(
    text_member: TextReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: Iterator[float] = iter([1.0, math.nan, 2.0] + [0.0] * 100)
    predict: Callable[..., Any] = lambda pairs, **_: np.array([next(answers) for _ in pairs])  # noqa: E731
    monkeypatch.setattr(text_member._model, "predict", predict)
    assert math.isnan(text_member.score(QUESTION, [TEXTS[4]])[0])


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(Missing, match=re.escape("pip install 'pagelens[rerank]'")):
        TextReranker.load("text")


def test_a_model_is_found_below_the_folder_of_models(tiny: Path) -> None:
    found = TextReranker.load("somebody/tiny-cross-encoder", tiny.parent)
    assert found.score("rent", ["tenant"]) == TextReranker.load(str(tiny)).score("rent", ["tenant"])


def test_a_model_that_is_nowhere_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Missing, match="PAGELENS_MODELS"):
        TextReranker.load(str(tmp_path / "nothing"))
