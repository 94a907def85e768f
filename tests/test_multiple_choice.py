"""Multiple choice by cosine: accuracy, chance level, ties, groups and wrong input."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from frofa.evaluation import multiple_choice, proportion_interval, score_choices

Array = npt.NDArray[np.float64]


def made_up(n: int = 200, m: int = 5, channels: int = 16, noise: float = 0.5) -> tuple[Array, Array, Any]:
    """Questions whose right choice is the image with noise, and whose other choices are noise alone."""
    rng = np.random.default_rng(0)
    images, choices, answer = rng.normal(size=(n, channels)), rng.normal(size=(n, m, channels)), rng.integers(m, size=n)
    choices[np.arange(n), answer] = images + noise * rng.normal(size=(n, channels))
    return images, choices, answer


def test_accuracy_and_margins_are_those_of_cosines_by_hand() -> None:
    images, choices, answer = made_up(noise=2.0)
    report = multiple_choice(images, choices, answer)
    right = 0
    for row in range(len(images)):
        cosines = [
            images[row] @ choice / np.linalg.norm(images[row]) / np.linalg.norm(choice) for choice in choices[row]
        ]
        assert report.scores[row] == pytest.approx(cosines)
        others = [cosine for place, cosine in enumerate(cosines) if place != answer[row]]
        assert report.margins[row] == pytest.approx(cosines[answer[row]] - max(others))
        right += int(np.argmax(cosines)) == answer[row]
    assert 0.3 < right / len(images) < 0.95
    assert report.accuracy == proportion_interval(right, len(images))
    assert report.chance == pytest.approx(0.2)
    assert np.array_equal(report.credit == 1, report.margins > 0)


def test_lengths_and_dtypes_do_not_matter_and_nothing_is_changed() -> None:
    images, choices, answer = made_up()
    expected = multiple_choice(images, choices, answer)
    scales = np.random.default_rng(1).uniform(1e-3, 1e3, choices.shape[:2])[..., None]
    for array in (images, choices):
        array.setflags(write=False)
    scaled = multiple_choice((images * 7).astype(np.float32), (choices * scales).astype(np.float32), answer)
    assert np.array_equal(scaled.predicted, expected.predicted)
    assert multiple_choice(images * 1e-200, choices * 1e200, answer).accuracy == expected.accuracy


def test_images_may_be_what_is_chosen_from() -> None:
    images, choices, answer = made_up()
    one, other = multiple_choice(images, choices, answer), multiple_choice(choices, images, answer)
    assert np.array_equal(one.scores, other.scores)


def test_letters_are_positions() -> None:
    images, choices, answer = made_up()
    letters = ["ABCDE"[place] for place in answer]
    assert multiple_choice(images, choices, letters).accuracy == multiple_choice(images, choices, answer).accuracy


def test_embeddings_that_say_nothing_are_at_chance() -> None:
    images, choices, answer = made_up()
    for same in (np.ones_like(choices), np.zeros_like(choices)):
        report = multiple_choice(images, same, answer)
        assert report.accuracy.mean == pytest.approx(0.2)
        assert report.tied.all()
    shuffled = multiple_choice(np.random.default_rng(3).permutation(images), choices, answer)
    assert shuffled.accuracy.low < 0.2 < shuffled.accuracy.high


def test_ties_count_what_guessing_among_them_makes() -> None:
    report = score_choices([[0.5, 0.5, 0.1], [0.5, 0.1, 0.5], [0.1, 0.5, 0.5], [0.9, 0.5, 0.5]], [0, 1, 2, 0])
    assert report.credit.tolist() == [0.5, 0.0, 0.5, 1.0]
    assert report.tied.tolist() == [True, True, True, False]
    assert report.accuracy.mean == 0.5
    assert report.predicted.tolist() == [0, 0, 1, 0]


def test_a_copy_of_the_right_choice_is_a_tie_whatever_its_length() -> None:
    images, choices, answer = made_up(noise=0.01)
    choices[np.arange(len(images)), (answer + 1) % 5] = choices[np.arange(len(images)), answer] / 3
    report = multiple_choice(images, choices, answer)
    assert (report.credit == 0.5).all()


def test_groups_have_accuracies_and_chance_levels_of_their_own() -> None:
    images, choices, answer = made_up(n=60)
    ragged = [row[:2] if i % 2 else row for i, row in enumerate(choices)]
    answer = np.where(np.arange(60) % 2, answer % 2, answer)
    report = multiple_choice(images, ragged, answer, groups=np.where(np.arange(60) % 2, "two", "five"))
    assert list(report.groups) == ["five", "two"]
    assert (report.groups["two"].chance, report.groups["five"].chance) == pytest.approx((0.5, 0.2))
    assert report.chance == pytest.approx(0.35)
    assert report.groups["two"].n == report.groups["five"].n == 30
    assert np.isnan(report.scores[1, 2:]).all()
    total = sum(group.n * group.accuracy.mean for group in report.groups.values())
    assert total / 60 == pytest.approx(report.accuracy.mean)
    assert str(report).splitlines()[1].startswith("five  ")
    assert report.to_dict()["groups"]["two"]["n"] == 30


def test_the_level_is_that_of_the_intervals() -> None:
    images, choices, answer = made_up(noise=2.0)
    narrow = multiple_choice(images, choices, answer, confidence_level=0.5).accuracy
    wide = multiple_choice(images, choices, answer, confidence_level=0.99).accuracy
    assert narrow.half_width < wide.half_width


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.ones((3, 4))}, "one embedding for each of 4 questions, of 4 channels.*Got shape \\(3, 4\\)"),
        ({"images": np.ones((4, 5))}, "Got shape \\(4, 5\\)"),
        ({"choices": np.ones((4, 1, 4))}, "at least two choices a question. Got 1 in question 0"),
        ({"choices": np.ones((4, 4))}, "Got shape \\(4, 4\\)"),
        ({"choices": np.ones((0, 3, 4)), "images": np.ones((0, 4))}, "one question at least"),
        (
            {"choices": [np.ones((2, 4)), np.ones((2, 3))] * 2},
            "with one D, for each question. Got \\(2, 3\\), \\(2, 4\\)",
        ),
        ({"answer": [0, 1, 2, 3]}, "answers among the choices. Got 3 in question 3"),
        ({"answer": ["A", "b", "D", "C"]}, "answers among the choices. Got D in question 2"),
        ({"answer": [0, 1, 2, -1]}, "Got -1 in question 3"),
        ({"answer": [0.0, 1.0, 2.0, 1.0]}, "positions from 0, or letters from A. Got float64"),
        ({"answer": [0]}, "one answer for each of 4 questions. Got shape \\(1,\\)"),
        ({"groups": ["a"]}, "a group for each of 4 questions. Got shape \\(1,\\)"),
        ({"images": np.full((4, 4), np.nan)}, "finite numbers. Got NaN"),
        ({"confidence_level": 1.0}, "confidence must be between 0 and 1"),
    ],
)
def test_wrong_input_says_what_was_expected(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"images": np.ones((4, 4)), "choices": np.ones((4, 3, 4)), "answer": [0, 1, 2, 0], **change}
    with pytest.raises(ValueError, match=message):
        multiple_choice(**given)
