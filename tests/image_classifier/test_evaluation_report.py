"""EvaluationReport: what it prints of few classes and of many, and what it gives as JSON."""

import json

import numpy as np

from frofa.evaluation import brier_score, log_loss
from frofa.image_classifier.report import evaluation_report


def test_few_classes_have_a_confusion_table() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    report = evaluation_report(["cat", "dog", "dog"], probabilities, np.array(["cat", "dog"]))
    text = str(report)
    assert text.startswith("3 images, 2 classes\naccuracy           66.7 % (20.8 to 93.9)")
    assert text.endswith("     cat  dog\ncat    1    0\ndog    1    1")
    assert "cat  100.0 % (20.7 to 100.0), 1 of 1" in text


def test_many_classes_have_their_most_common_confusions() -> None:
    classes = np.array([f"class {number:02d}" for number in range(30)])
    y = np.repeat(classes, 3)
    probabilities = np.eye(30)[np.repeat(np.arange(30), 3)]
    assert str(evaluation_report(y, probabilities, classes)).splitlines()[-1] == "no confusions"
    probabilities[:2] = np.eye(30)[7]
    assert str(evaluation_report(y, probabilities, classes)).splitlines()[-1] == "2 x class 00 taken for class 07"


def test_json_has_labels_of_any_kind_and_gaps() -> None:
    report = evaluation_report([3, 4, 9], np.array([[1.0, 0.0]] * 3), np.array([3, 5]))
    assert report.unknown_labels == {"4": 1, "9": 1}
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (found["n_images"], found["labels"], found["confusion_matrix"]) == (1, [3, 5], [[1, 0], [0, 0]])
    assert found["classes"][1] == {"label": 5, "n": 0, "n_correct": 0, "accuracy": None, "low": None, "high": None}


def test_intervals_of_two_images_that_say_nothing_are_left_out() -> None:
    report = evaluation_report(["cat", "dog"], np.array([[0.9, 0.1], [0.8, 0.2]]), np.array(["cat", "dog"]))
    assert "log_loss" not in report.intervals
    assert "brier_score" not in report.intervals
    assert "nan" not in str(report)
    sure = evaluation_report(["cat", "dog"] * 2, np.array([[0.9, 0.1], [0.2, 0.8]] * 2), np.array(["cat", "dog"]))
    assert 0 < sure.intervals["log_loss"].low < sure.log_loss < sure.intervals["log_loss"].high < np.log(2)


def test_intervals_stay_within_the_range_of_their_score() -> None:
    y, table, classes = ["a", "a", "a"], np.array([[0.99, 0.01], [0.9, 0.1], [0.02, 0.98]]), ["a", "b"]
    loss, brier = log_loss(y, table, classes, 0.95), brier_score(y, table, classes, 0.95)
    assert (loss.low, brier.low, brier.high) == (0, 0, 2)
    assert loss.high > loss.mean
