"""Questions from files to a table: embeddings, cosines, the adapter, and what it may not have seen."""

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.linalg import eigh

from frofa.evaluation import multiple_choice, score_choices
from frofa.scifibench.adapter import adapted_scores, canonical_maps
from frofa.scifibench.embedding import EmbeddedQuestion, EmbeddedQuestions, cosine_scores, embed_splits, units
from frofa.scifibench.questions import Figure, Question, Task
from frofa.scifibench.table import COLUMNS, difference, make_cells, table_lines, write_csv

Array = npt.NDArray[Any]
TASKS: tuple[Task, ...] = ("Figure2Caption", "Caption2Figure")
CATEGORIES = ("cs.AI", "cs.CV", "cs.LG", "other cs")


def related(n: int = 240, own: float = 0.0, widths: tuple[int, int] = (12, 12)) -> EmbeddedQuestions:
    """Questions about pairs of which both sides are a map of the same hidden numbers; `own` is shared as it is."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(n, 6))
    sides = [hidden @ rng.normal(size=(6, width)) + 0.5 * rng.normal(size=(n, width)) for width in widths]
    if own:
        common = own * rng.normal(size=(n, widths[0]))
        sides = [side + common for side in sides]
    questions = []
    for row in range(n):
        # Wrong choices are of the same category, so that they leave the other ones to be trained on.
        others = rng.choice(np.setdiff1d(np.arange(row % 4, n, 4), [row]), 4, replace=False)
        choices, task = rng.permutation([row, *others]), TASKS[row // 4 % 2]
        asked, many = (row,), tuple(choices.tolist())
        figures, captions = (asked, many) if task == "Figure2Caption" else (many, asked)
        answer = int(np.flatnonzero(choices == row)[0])
        questions.append(
            EmbeddedQuestion(f"CS_{task}", task, "CS", row, CATEGORIES[row % 4], figures, captions, answer)
        )
    return EmbeddedQuestions(tuple(questions), *sides)


def accuracy(embedded: EmbeddedQuestions, scores: Array) -> float:
    return float((scores.argmax(1) == embedded.answer).mean())


class Numbers:
    """Embeds figures by their bytes and captions by their letters, and keeps what it was asked for."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def transform(self, items: Any) -> Array:
        self.seen.extend(items)
        texts = [item.read().decode() if isinstance(item, Figure) else item for item in items]
        return np.array([[text.count(letter) + 0.01 for letter in "abcdef"] for text in texts], np.float32)


class Made:
    """A split that was never a file."""

    def __init__(self, questions: list[Question]) -> None:
        self.name, self.subset, self._questions = questions[0].split, "CS", questions

    def read(self) -> list[Question]:
        return self._questions


def figure(text: str) -> Figure:
    return Figure(f"file, {text}", text.encode())


def test_each_figure_and_caption_is_embedded_once() -> None:
    captions = ("aa", "bb", "cc")
    first = Question("CS_Figure2Caption", "Figure2Caption", 0, "cs.AI", captions, (figure("aa"),), 0)
    second = replace(first, id=1, figures=(figure("bbc"),), answer=1)
    third = Question(
        "CS_Caption2Figure", "Caption2Figure", 2, "cs.CV", ("cc",), (figure("aa"), figure("c"), figure("bbc")), 1
    )
    images, texts = Numbers(), Numbers()
    splits: Any = [Made([first, second]), Made([third])]
    embedded = embed_splits(splits, images, texts)
    assert [one.data for one in images.seen] == [b"aa", b"bbc", b"c"]
    assert texts.seen == ["aa", "bb", "cc"]
    assert embedded.figure_at.tolist() == [[0, 0, 0], [1, 1, 1], [0, 2, 1]]
    assert embedded.caption_at.tolist() == [[0, 1, 2], [0, 1, 2], [2, 2, 2]]
    assert embedded.pairs.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert accuracy(embedded, cosine_scores(embedded)) == 1


def test_cosines_are_those_of_multiple_choice() -> None:
    embedded = related(own=2.0)
    scores = cosine_scores(embedded)
    rows = [row for row, one in enumerate(embedded.questions) if one.task == "Caption2Figure"]
    images, texts = embedded.figures[embedded.figure_at[rows]], embedded.captions[embedded.caption_at[rows, 0]]
    report = multiple_choice(images, texts, embedded.answer[rows])
    assert scores[rows] == pytest.approx(report.scores)


def test_questions_may_have_different_numbers_of_choices() -> None:
    embedded = related()
    short = embedded.questions[0]._replace(captions=embedded.questions[0].captions[:3], answer=2)
    mixed = EmbeddedQuestions((short, *embedded.questions[1:]), embedded.figures, embedded.captions)
    for scores in (cosine_scores(mixed), adapted_scores(mixed)[0]):
        assert np.isnan(scores).sum() == 2
        assert np.isnan(scores[0, 3:]).all()


@pytest.mark.parametrize("widths", [(12, 12), (12, 20), (30, 9)])
def test_the_adapter_finds_what_is_common_also_of_different_widths(widths: tuple[int, int]) -> None:
    embedded = related(widths=widths)
    scores, chosen = adapted_scores(embedded)
    assert accuracy(embedded, scores) > 0.8
    assert [one.category for one in chosen] == sorted(CATEGORIES)
    assert {one.n_pairs for one in chosen} == {180}


def test_the_adapter_keeps_what_the_towers_know() -> None:
    embedded = related(n=120, own=3.0)
    own, adapted = accuracy(embedded, cosine_scores(embedded)), accuracy(embedded, adapted_scores(embedded)[0])
    assert 0.6 < own <= adapted + 0.02


def test_shuffled_embeddings_are_at_chance() -> None:
    embedded = related(n=400, own=3.0)
    captions = np.random.default_rng(1).permutation(embedded.captions)
    shuffled = EmbeddedQuestions(embedded.questions, embedded.figures, captions)
    for scores in (cosine_scores(shuffled), adapted_scores(shuffled)[0]):
        interval = score_choices(scores, embedded.answer, confidence_level=0.99).accuracy
        assert interval.low < 0.2 < interval.high


def test_answers_of_a_category_do_not_change_its_own_scores() -> None:
    embedded = related()
    changed = tuple(
        one._replace(answer=(one.answer + 1) % 5) if one.category == "cs.CV" else one for one in embedded.questions
    )
    before, after = adapted_scores(embedded)[0], adapted_scores(replace(embedded, questions=changed))[0]
    tested = embedded.categories == "cs.CV"
    assert np.array_equal(before[tested], after[tested])
    assert not np.array_equal(before[~tested], after[~tested])


@pytest.mark.parametrize("n_categories", [2, 3, 15])
def test_whole_categories_are_left_out_however_many_there_are(n_categories: int) -> None:
    embedded = related()
    renamed = tuple(one._replace(category=f"c{one.id * n_categories // 240}") for one in embedded.questions)
    embedded = replace(embedded, questions=renamed)
    scores, chosen = adapted_scores(embedded)
    assert [one.category for one in chosen] == sorted({*embedded.categories.tolist()})
    assert accuracy(embedded, scores) > 0.5
    tested = embedded.categories == "c1"
    changed = tuple(
        one._replace(answer=(one.answer + 1) % 5) if out else one for one, out in zip(renamed, tested, strict=True)
    )
    assert np.array_equal(adapted_scores(replace(embedded, questions=changed))[0][tested], scores[tested])


def test_pairs_with_a_part_in_a_tested_question_are_left_out() -> None:
    embedded = related()
    # A question of cs.AI has the figures and captions of two questions of cs.CV among its wrong choices.
    foreign = [row for row, one in enumerate(embedded.questions) if one.category == "cs.CV"][:2]
    first = next(row for row, one in enumerate(embedded.questions) if one.category == "cs.AI")
    one = embedded.questions[first]
    wrong = [place for place in range(5) if place != one.answer][:2]
    captions = list(one.captions)
    for place, row in zip(wrong, foreign, strict=True):
        captions[place] = row
    mixed = (*embedded.questions[:first], one._replace(captions=tuple(captions)), *embedded.questions[first + 1 :])
    chosen = adapted_scores(replace(embedded, questions=mixed))[1]
    assert {found.category: found.n_pairs for found in chosen}["cs.AI"] == 178


def test_canonical_maps_solve_the_generalised_eigenproblem() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(60, 7))
    second = first @ rng.normal(size=(7, 5)) + rng.normal(size=(60, 5)) + 3
    ridge = 0.3
    [found] = canonical_maps(first, second, [ridge])
    one, other = first - first.mean(0), second - second.mean(0)
    covariances = [side.T @ side for side in (one, other)]
    damped = [each + ridge * np.trace(each) / len(each) * np.eye(len(each)) for each in covariances]
    cross = one.T @ other
    values, vectors = eigh(cross @ np.linalg.solve(damped[1], cross.T), damped[0])
    # Largest first; a weighted direction is the eigenvector times its correlation, up to its sign.
    expected = (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, :5]
    assert np.abs(found.weights[0]) == pytest.approx(np.abs(expected), abs=1e-9)
    assert found.figures(first) == pytest.approx(one @ found.weights[0])
    assert found.captions(second).mean(0) == pytest.approx(np.zeros(5), abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one._replace(category="cs.AI"), "two categories at least. Got cs.AI alone"),
        (lambda one: one if one.id < 12 else None, "needs 10 figures .* the questions of cs.AI, cs.CV. Got 6"),
    ],
)
def test_too_few_questions_for_an_adapter(change: Callable[[Any], Any], message: str) -> None:
    embedded = related()
    questions = tuple(changed for one in embedded.questions if (changed := change(one)) is not None)
    with pytest.raises(ValueError, match=message):
        adapted_scores(replace(embedded, questions=questions))


def test_tables_have_every_task_and_category() -> None:
    embedded = related()
    scores = {"cosine": cosine_scores(embedded), "adapter": adapted_scores(embedded)[0]}
    cells = make_cells(embedded, scores)
    assert len(cells) == 2 * 2 * 5
    for method in scores:
        by_task = {cell.task: cell for cell in cells if cell.category == "all" and cell.method == method}
        hits = sum(cell.n * cell.accuracy.mean for cell in by_task.values())
        assert hits / 240 == pytest.approx(accuracy(embedded, scores[method]))
        for task, every in by_task.items():
            parts = [one for one in cells if (one.task, one.method) == (task, method) and one.category != "all"]
            assert [one.category for one in parts] == sorted(CATEGORIES)
            assert sum(one.n * one.accuracy.mean for one in parts) == pytest.approx(every.n * every.accuracy.mean)
    text = io.StringIO()
    write_csv(cells, text)
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert [*rows[0]] == [*COLUMNS]
    assert [float(row["accuracy"]) for row in rows] == pytest.approx([cell.accuracy.mean for cell in cells], abs=1e-6)
    lines = table_lines(cells)
    assert lines[0] == "CS Figure2Caption: accuracy in % with interval; chance 20.0"
    assert lines[2].split()[:2] == ["all", "120"]
    assert len(lines) == 2 * 7 + 1
    gain = difference(embedded, scores["cosine"], scores["adapter"])
    assert gain.mean == pytest.approx(accuracy(embedded, scores["adapter"]) - accuracy(embedded, scores["cosine"]))


def test_embeddings_must_be_rows_of_finite_numbers() -> None:
    class Broken(Numbers):
        def transform(self, items: Any) -> Array:
            return np.asarray(super().transform(items) * np.nan)

    question = Question("s", "Figure2Caption", 0, "c", ("a", "b"), (figure("a"),), 0)
    splits: Any = [Made([question])]
    with pytest.raises(ValueError, match="embeddings of 1 figures"):
        embed_splits(splits, Broken(), Numbers())
    with pytest.raises(ValueError, match="embeddings of 2 captions"):
        embed_splits(splits, Numbers(), Broken())


def test_units_leave_zeros() -> None:
    assert units(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0.0, 0.0]]
