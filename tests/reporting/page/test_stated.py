"""Statements on few images say no more than these can tell."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from frofa.image_classifier.report import evaluation_report
from frofa.reporting.facts.contents import Copy, Facts, Leak, WrongLabel
from frofa.reporting.page.pictures import Pictures
from frofa.reporting.page.sections.labels import wrong_and_copies
from frofa.reporting.page.sections.summary import findings, summary
from frofa.reporting.page.stated import by_chance, calibration_stated, images_of_classes, weakest, without_leaks

NONE = Pictures({}, frozenset())
LABELS = ["a", "b", "c", "d"]


def facts_of(truth: list[int], predicted: list[int], sure: float, n_times: int = 1) -> Facts:
    """Facts of images of four classes that are predicted with one probability."""
    true, said = np.tile(truth, n_times), np.tile(predicted, n_times)
    probabilities = np.full((len(true), 4), (1 - sure) / 3)
    probabilities[np.arange(len(true)), said] = sure
    names = [f"image {i + 1}" for i in range(len(true))]
    report = evaluation_report(np.array(LABELS)[true], probabilities, np.array(LABELS))
    return Facts("Few", names, None, LABELS, true, said, probabilities, report)


def words(facts: Facts) -> str:
    return " ".join([*findings(facts), summary(facts)])


def leaking(facts: Facts, indices: list[int]) -> Facts:
    own = tuple(Copy("test", i, f"image {i + 1}") for i in indices)
    return replace(facts, leaks=[Leak((Copy("training", 0, "t"), *own), True)])


def test_few_images_are_too_few_to_tell() -> None:
    # Seven of ten are right, at 0.757 on average.
    facts = facts_of([0] * 10, [0] * 7 + [1] * 3, 0.757)
    assert (
        calibration_stated(facts)
        == "10 images are too few to tell whether probabilities come true as often as they say."
    )
    assert calibration_stated(facts_of([0], [0], 0.9)).startswith("1 image is too few")


def test_many_images_tell() -> None:
    truth, predicted = [0, 1, 2, 3], [0, 1, 2, 0]
    right = facts_of(truth, predicted, 0.75, 500)
    assert calibration_stated(right) == "Probabilities come true about as often as they say."
    assert calibration_stated(facts_of(truth, predicted, 0.75, 20)).startswith("As far as 80 images can tell, prob")
    assert calibration_stated(facts_of(truth, predicted, 0.95, 500)).startswith("The classifier is too sure of itself")
    assert calibration_stated(facts_of(truth, predicted, 0.5, 500)).startswith("The classifier is not sure enough")


def test_perfect_probabilities_stay_below_what_chance_makes() -> None:
    rng = np.random.default_rng(0)
    sure: npt.NDArray[np.float64] = rng.uniform(0.5, 1, 100)
    table = np.stack([sure, 1 - sure], 1)
    above = 0
    for _ in range(200):
        truth = (rng.uniform(size=100) > sure).astype(int)
        report = evaluation_report(np.array(["a", "b"])[truth], table, np.array(["a", "b"]))
        facts = Facts("", [], None, ["a", "b"], truth, table.argmax(1), table, report)
        above += report.calibration_error > by_chance(facts)
    assert above <= 14


def test_classes_without_images_are_counted() -> None:
    facts = facts_of([0] * 10, [0] * 7 + [1] * 3, 0.7)
    assert images_of_classes(facts) == "10 images of 1 of the 4 classes that the classifier knows"
    assert "3 classes have no image here" in words(facts)
    assert weakest(facts) is None
    assert "weakest" not in words(facts)
    whole = facts_of([0, 1, 2, 3], [0, 1, 2, 3], 0.7)
    assert images_of_classes(whole) == "4 images of 4 classes"
    assert "no image here" not in words(whole)


def test_a_class_is_the_weakest_only_if_that_is_no_chance() -> None:
    few = facts_of([0, 1, 2, 3], [0, 1, 2, 0], 0.7)
    assert "recognised least is <bdi>d</bdi>" in words(few)
    assert "may be chance" in words(few)
    many = facts_of([0, 1, 2, 3], [0, 1, 2, 0], 0.7, 50)
    assert "The weakest class is <bdi>d</bdi>" in words(many)


def test_leaks_are_counted_by_image_and_taken_out_of_the_accuracy() -> None:
    facts = leaking(facts_of([0, 1, 2, 3], [0, 1, 2, 0], 0.7), [0, 1])
    n, accuracy = without_leaks(facts)
    assert accuracy is not None
    assert (n, accuracy.mean) == (2, 0.5)
    assert "2 images of this report are among the training images too" in words(facts)
    assert "Without them, it is 50.0" in words(facts)
    assert "no honest accuracy" in words(leaking(facts, [0, 1, 2, 3]))


def test_copies_are_said_in_sentences() -> None:
    facts = facts_of([0, 1], [0, 1], 0.7)
    inside = replace(facts, leaks=[Leak((Copy("test", 0, "x"), Copy("test", 1, "y")), False)])
    assert "1 group of copies." in wrong_and_copies(inside, NONE)
    assert "1 group of copies; this one has images on both sides" in wrong_and_copies(leaking(facts, [0]), NONE)


def test_labels_to_look_at_have_probabilities_of_labels_and_none_of_being_wrong() -> None:
    facts = facts_of([0, 1], [0, 1], 0.7)
    one = WrongLabel("test", 0, "image 1", "a", "b", 0.99, None, (0.004, 0.62))
    page = wrong_and_copies(replace(facts, wrong=[one]), NONE).replace("\xa0", " ")
    assert "by the others: <bdi>a</bdi> under 1 %, <bdi>b</bdi> 62 %" in page
    assert "99 %" not in page
