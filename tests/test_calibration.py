"""Calibration, against temperatures that were planted, formulas written out again, and mteb's own area."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import run, run_json

from pagelens import Library, UsageError
from pagelens.calibration import Calibration, log_odds, own_score, sigmoid, signature_of
from pagelens.evaluation.calibrating import (
    FEWEST,
    Calibrated,
    Examples,
    _folds,
    calibrate,
    expected_error,
    fit,
    normalised_area,
)
from pagelens.evaluation.runs import Question
from pagelens.records import Candidate, Feature, Query, Stage
from pagelens.rerankers.evidence import Coefficients, EvidenceReranker
from pagelens.searching import Step

EACH = 20
"""Pages of a question."""


def examples_of(scores: np.ndarray, chance: np.ndarray, seed: int = 99) -> Examples:
    """Pages that answer with the given chance; every question stands alone."""
    numbers = np.arange(len(scores)) // EACH
    return Examples(scores, np.random.default_rng(seed).random(len(scores)) < chance, numbers, numbers)


def drawn(questions: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(-1, 2, questions * EACH)


# what is fitted


@pytest.mark.parametrize("temperature", [0.5, 3.0])
def test_a_planted_temperature_is_found(temperature: float) -> None:
    scores = drawn(2000)
    found = fit(examples_of(scores, sigmoid(scores / temperature)), "m")
    assert found.log_loss["temperature"] <= found.log_loss["isotonic"]
    if found.calibration.method == "temperature":
        assert 1 / found.calibration.slope == pytest.approx(temperature, rel=0.05)
    else:  # a shift that is none may win by chance
        assert found.calibration.shift == pytest.approx(0, abs=0.1)
    assert found.ece[1] < 0.02 < found.ece[0]
    assert found.brier[1] < found.brier[0]


def test_probabilities_that_are_too_sure_are_taken_as_log_odds() -> None:
    truth = drawn()
    found = fit(examples_of(sigmoid(4 * truth), sigmoid(truth)), "m")
    assert found.calibration.log_odds
    assert found.calibration.slope == pytest.approx(0.25, rel=0.1)
    after = found.calibration.probabilities(sigmoid(4 * truth))
    assert np.abs(after - sigmoid(truth)).mean() < 0.02


def test_a_shift_is_found_and_chosen() -> None:
    scores = drawn()
    found = fit(examples_of(scores, sigmoid(1.5 * scores - 3)), "m")
    assert found.calibration.method == "Platt"
    assert (found.calibration.slope, found.calibration.shift) == pytest.approx((1.5, -3), rel=0.1)


def test_steps_are_found_by_the_isotonic_way() -> None:
    scores = np.random.default_rng(0).uniform(-6, 6, 400 * EACH)
    chance = np.select([scores < -3, scores < 3], [0.02, 0.5], 0.9)
    found = fit(examples_of(scores, chance), "m")
    assert found.calibration.method == "isotonic"
    assert found.calibration.probabilities(np.array([-5.0, 0.0, 5.0])) == pytest.approx(
        [0.02, 0.5, 0.9], abs=0.05
    )


@pytest.mark.parametrize("sign", [1, -1], ids=["parted", "upside down"])
def test_no_probability_falls_and_none_is_certain(sign: int) -> None:
    """Also where scores part the answers from the rest, and where better pages score lower."""
    scores = drawn(40)
    examples = Examples(scores, sign * scores > 1, *[np.arange(len(scores)) // EACH] * 2)
    found = fit(examples, "m")
    after = found.calibration.probabilities(np.sort(scores))
    assert (np.diff(after) >= 0).all()
    assert after.min() > 0 and after.max() < 1


def test_figures_are_out_of_fold() -> None:
    """A score that knows each page by heart gains nothing on pages that had no part in the fit."""
    draw = np.random.default_rng(0)
    scores = draw.random(60 * EACH) * 10 - 5
    examples = examples_of(scores, np.full(len(scores), 0.3))
    found = fit(examples, "m")
    base = examples.relevant.mean()
    entropy = -(base * np.log(base) + (1 - base) * np.log(1 - base))
    assert min(found.log_loss[way] for way in ("Platt", "isotonic")) > entropy - 0.002


def test_questions_that_share_a_document_share_a_fold() -> None:
    examples = examples_of(drawn(60), np.full(60 * EACH, 0.1))
    shared = Examples(examples.scores, examples.relevant, examples.questions, examples.questions // 3)
    parts = _folds(shared)
    assert sum(part.sum() for part in parts) == len(shared.scores)
    for group in range(20):
        assert sum(bool(part[shared.groups == group].any()) for part in parts) == 1


# what it is worth


def test_the_expected_error_is_that_of_the_bins_written_out() -> None:
    draw = np.random.default_rng(1)
    values = draw.random(500)
    truth = draw.random(500) < values**2
    total = 0.0
    for low in range(15):
        own = [i for i, v in enumerate(values) if low / 15 <= v < (low + 1) / 15]
        if own:
            gap = sum(values[i] for i in own) / len(own) - sum(truth[i] for i in own) / len(own)
            total += abs(gap) * len(own) / 500
    assert expected_error(values, truth) == pytest.approx(total)


def test_the_area_is_1_for_the_best_choice_and_0_for_none() -> None:
    quality = np.random.default_rng(2).random(200)
    assert normalised_area(quality, quality) == pytest.approx(1)
    assert normalised_area(np.zeros(200), quality) == pytest.approx(0)
    assert normalised_area(-quality, quality) < -0.5
    assert np.isnan(normalised_area(quality, np.ones(200)))


@pytest.mark.filterwarnings("ignore")  # of what mteb loads
def test_the_area_is_that_of_mteb() -> None:
    metrics = pytest.importorskip(
        "mteb._evaluators.retrieval_metrics", reason="mteb is not installed: pip install 'pagelens[vidore]'"
    )
    draw = np.random.default_rng(3)
    for _ in range(20):
        confidence, quality = draw.integers(0, 8, 37) / 8, (draw.random(37) < 0.6).astype(float)
        assert normalised_area(confidence, quality) == pytest.approx(metrics.nauc(confidence, quality))


def test_a_threshold_leaves_out_the_wrong_answers_first() -> None:
    scores = drawn(300) * 3
    found = fit(examples_of(scores, sigmoid(scores - 4)), "m")
    risks = [each.risk for each in found.curve]
    assert found.curve[0].coverage == 1.0
    assert risks[-1] < risks[0] and found.nauc > 0.2
    assert [e.threshold for e in found.curve] == sorted(e.threshold for e in found.curve)
    assert json.loads(json.dumps(found.as_dict()))["nauc"] == found.nauc


# what cannot be


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_one_class_is_said_with_its_count(chance: float) -> None:
    kind = "relevant" if chance else "not relevant"
    with pytest.raises(UsageError, match=f"all 800 pages .* are judged {kind}"):
        fit(examples_of(drawn(40), np.full(800, chance)), "m")


def test_few_questions_are_said_with_their_count() -> None:
    few = FEWEST - 1
    with pytest.raises(UsageError, match=f"{few} independent questions .* {FEWEST} are the fewest"):
        fit(examples_of(np.arange(few * EACH) % EACH - 5.0, np.arange(few * EACH) % EACH == 0), "m")


# in a library


class Sure:
    """Scores a page by one word of the question; its own scores are probabilities, and it is blended."""

    needs = frozenset({"text"})

    def __init__(self, name: str = "sure") -> None:
        self.name = name
        self.signature = f"{name} 1"

    def score(self, query: Query | str, candidates: Sequence[Candidate]) -> list[float]:
        text = query.text if isinstance(query, Query) else query
        return [0.97 if text.split()[-1] in each.text else 0.6 for each in candidates]


WORDS = ["Lindqvist", "heating", "landlord", "northern", "corridor", "Second"]
QUESTIONS = [
    Question(f"q{n}", f"office {how} {word}", {}, n)
    for n, (how, word) in enumerate((how, word) for how in ("where is", "page about") for word in WORDS)
]
NOWHERE = [Question(f"n{n}", f"office number {n} yacht", {}, n) for n in range(12)]


@pytest.fixture
def library(tmp_path: Path, small_office: Path) -> Any:
    with Library(tmp_path / "library.pagelens", profile="words") as library:
        library.ingest(small_office, readers=1)
        yield library


def answers(library: Library) -> dict[str, dict[str, int]]:
    """The page with the word; none has `yacht`."""
    pages = {each["page_id"]: library.words(each["page_id"]).text for each in library.pages()}
    judged = {
        each.id: {id: int(each.query.split()[-1] in text) for id, text in pages.items()} for each in QUESTIONS
    }
    return judged | {each.id: dict.fromkeys(pages, 0) for each in NOWHERE}


def calibrated(library: Library, step: Step, monkeypatch: pytest.MonkeyPatch) -> Calibrated:
    monkeypatch.setattr("pagelens.evaluation.calibrating.FEWEST", 2)
    monkeypatch.setattr("pagelens.evaluation.calibrating.FOLDS", 2)
    return calibrate(library, [*QUESTIONS, *NOWHERE], answers(library), rerank=step)


def test_hits_have_a_probability_of_the_reranker_s_own_score(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step(Sure(), 20)
    assert library.search(QUESTIONS[0].query, rerank=step)[0].probability is None
    found = calibrated(library, step, monkeypatch)
    library.keep(found.calibration)
    hits = library.search(f"office {WORDS[0]}", rerank=step)
    expected = found.calibration.probabilities(np.array([0.97, 0.6]))
    assert hits[0].probability == pytest.approx(expected[0])
    assert [each.probability for each in hits[1:]] == pytest.approx([expected[1]] * len(hits[1:]))
    assert hits[0].as_dict()["probability"] == hits[0].probability
    assert expected[0] > 0.7 and expected[1] < 0.2
    assert (found.questions, found.pages, found.relevant) == (24, 144, 12)
    likely = library.search(f"office {WORDS[0]}", rerank=step, min_probability=0.5)
    assert [each.page_id for each in likely] == [hits[0].page_id]


def test_nothing_relevant_is_an_answer(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step(Sure(), 20)
    library.keep(calibrated(library, step, monkeypatch).calibration)
    hits = library.search("Harbour Office yacht", rerank=step, min_probability=0.5)
    assert not hits
    assert any("nothing relevant here" in note for note in hits.notes)


def test_what_compares_pages_is_calibrated_among_all_of_them(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A score among the pages of one document is another score."""
    evidence, sure = Step(library.reranker("evidence"), 20), Step(Sure(), 20)
    for step in (evidence, sure):
        library.keep(calibrated(library, step, monkeypatch).calibration)
    asked, only = f"office {WORDS[0]}", {"page": [1, 1]}
    assert library.search(asked, rerank=evidence)[0].probability is not None
    assert library.search(asked, rerank=evidence, filter=only)[0].probability is None
    assert library.search(asked, rerank=sure, filter=only)[0].probability is not None
    with pytest.raises(UsageError, match="evidence compares pages with each other"):
        library.search(asked, rerank=evidence, filter=only, min_probability=0.5)
    filtered = [each._replace(filter=only) for each in QUESTIONS]
    with pytest.raises(UsageError, match="nothing to calibrate on: 12 questions left out: the reranker comp"):
        calibrate(library, filtered, answers(library), rerank=evidence)


def test_an_answer_that_is_not_there_teaches_nothing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step(Sure(), 20)
    first, *others = QUESTIONS
    qrels = {**answers(library), first.id: {"gone#0": 1}}
    monkeypatch.setattr("pagelens.evaluation.calibrating.FEWEST", 2)
    monkeypatch.setattr("pagelens.evaluation.calibrating.FOLDS", 2)
    found = calibrate(library, [*QUESTIONS, *NOWHERE], qrels, rerank=step)
    assert found.questions == len(others) + len(NOWHERE)
    assert "1 question left out: no page that answers is in this library" in found.notes
    assert "1 relevant page not in this library, such as gone#0" in found.notes


def test_the_calibration_of_another_model_is_refused(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = Step(Sure(), 20), Step(Sure("newer"), 20)
    with pytest.raises(UsageError, match="no calibration of sure 1.*pagelens calibrate"):
        library.search("Harbour", rerank=one, min_probability=0.5)
    library.keep(calibrated(library, one, monkeypatch).calibration)
    with pytest.raises(UsageError, match="no calibration of newer 1.*there is one for sure 1"):
        library.search("Harbour", rerank=other, min_probability=0.5)
    assert library.search("Harbour", rerank=other)[0].probability is None
    for how in ({"rerank": None}, {"rerank": one, "stage": "bm25"}, {"rerank": one, "skip_margin": 1.0}):
        with pytest.raises(UsageError):
            library.search("Harbour", min_probability=0.5, **how)


def test_a_calibration_outlives_the_library_s_closing(tmp_path: Path, small_office: Path) -> None:
    folder = tmp_path / "library.pagelens"
    with Library(folder, profile="words") as library:
        library.ingest(small_office, readers=1)
        signature = signature_of(library.steps()[-1])
        assert signature is not None and signature.endswith("eng of 50 pages")
        kept = Calibration(signature, "isotonic", False, knots=((-1.0, 0.0), (9.0, 0.75)))
        library.keep(kept)
    asked = ("search", "Lindqvist", "--library", folder)
    best = run_json(*asked)["hits"][0]
    expected = kept.probabilities(np.array([best["stages"]["rerank"]["score"]]))[0]
    assert best["probability"] == pytest.approx(expected) and 0 < expected < 0.75
    assert run_json(*asked, "--min-probability", 0.8)["hits"] == []
    none = run(*asked, "--min-probability", 0.8)
    assert (none.returncode, "nothing relevant here" in none.stdout) == (0, True)
    assert f"{expected:.0%} likely" in run(*asked).stdout


def test_signatures_know_what_shapes_a_score() -> None:
    shipped = EvidenceReranker(("eng",))
    heavier = Coefficients({**shipped.coefficients.weights, "page": 9.0}, {})
    others = [shipped.with_coefficients(heavier), EvidenceReranker(("deu",))]
    signatures = {signature_of(Step(each, 50)) for each in (shipped, *others)}
    assert len({*signatures, signature_of(Step(shipped, 20))}) == 4
    assert signature_of(Step(EvidenceReranker(("eng",)), 50)) in signatures
    assert signature_of(Step(Sure(), 20)) == signature_of(Step(Sure(), 50)) == "sure 1"


def test_a_blended_score_is_taken_apart() -> None:
    assert own_score(Stage(1, 2.5, {"fused": Feature(9.0, 1.5), "sure": Feature(0.97, 1.0)}), "sure") == 0.97
    assert own_score(Stage(1, 2.5, {"page": Feature(3.0, 2.5)}), "evidence") == 2.5


def test_log_odds_undo_the_sigmoid() -> None:
    assert log_odds(sigmoid(np.array([-3.0, 0.0, 5.0]))) == pytest.approx([-3, 0, 5])
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()
