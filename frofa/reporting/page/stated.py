"""Statements on few images: as much as these can tell, and no more."""

import numpy as np

from frofa.evaluation import Interval, proportion_interval
from frofa.reporting.facts.contents import Facts
from frofa.reporting.page.markup import counted, percent, with_interval

MUCH = 0.02
"""Calibration errors above what chance explains by so much stand out."""
CLOSE, VAGUE = 0.05, 0.1
"""Calibration errors that chance must not make, for probabilities to be called right, and right as far as one sees."""


def images_of_classes(facts: Facts) -> str:
    """Count images and classes, those without an image too."""
    images, n_classes, n_empty = counted(len(facts.truth), "image"), len(facts.labels), n_without_images(facts)
    if not n_empty:
        return f"{images} of {counted(n_classes, 'class', 'classes')}"
    return f"{images} of {n_classes - n_empty:,} of the {n_classes:,} classes that the classifier knows"


def n_without_images(facts: Facts) -> int:
    """Count classes that the classifier knows, and of which there is no image."""
    return int((facts.evaluation.confusion_matrix.sum(1) == 0).sum())


def without_leaks(facts: Facts) -> tuple[int, Interval | None]:
    """Count images that are among the training images too, and give the accuracy of the others, if there are some."""
    leaked = {copy.index for leak in facts.leaks if leak.is_leak for copy in leak.copies if copy.where == "test"}
    others = np.setdiff1d(np.arange(len(facts.truth)), list(leaked))
    if not len(others):
        return len(leaked), None
    hits = int((facts.truth[others] == facts.predicted[others]).sum())
    return len(leaked), proportion_interval(hits, len(others))


def by_chance(facts: Facts) -> float:
    """Calibration error that perfect probabilities stay below with a probability of about 97.5 %, of as many images.

    The sum of gaps in a bin is normal, and its size has the standard deviation sqrt(1 - 2 / pi) of its own.
    """
    bins = facts.evaluation.reliability
    if bins is None:
        return facts.evaluation.calibration_floor
    some = bins.counts > 0
    variance = (bins.counts * bins.confidence * (1 - bins.confidence))[some].sum()
    return float(facts.evaluation.calibration_floor + 2 * np.sqrt((1 - 2 / np.pi) * variance) / bins.counts.sum())


def calibration_stated(facts: Facts) -> str:
    """Say whether probabilities come true as often as they say, if there are enough images to tell."""
    one, mean, most = facts.evaluation, float(facts.probabilities.max(1).mean()), by_chance(facts)
    low = one.intervals["calibration_error"].low if "calibration_error" in one.intervals else 0.0
    if low >= MUCH and one.calibration_error > max(most, one.calibration_floor + MUCH):
        numbers = f"its mean probability is {percent(mean)}, its accuracy {with_interval(one.accuracy)}"
        if one.accuracy.low <= mean <= one.accuracy.high:
            return f"Probabilities do not come true as often as they say, though {numbers}."
        sure = "too sure" if mean > one.accuracy.mean else "not sure enough"
        return f"The classifier is {sure} of itself: {numbers}."
    if most <= CLOSE:
        return "Probabilities come true about as often as they say."
    images = counted(len(facts.truth), "image")
    if most <= VAGUE:
        return f"As far as {images} can tell, probabilities come true about as often as they say."
    few = f"{images} {'is' if len(facts.truth) == 1 else 'are'} too few"
    return f"{few} to tell whether probabilities come true as often as they say."


def weakest(facts: Facts) -> tuple[int, Interval, bool] | None:
    """Give the class that is recognised least, its share, and whether it lies clearly below the others.

    None where all images are right, or all are of one class.
    """
    table = facts.evaluation.confusion_matrix
    sizes, hits = table.sum(1), table.diagonal()
    shares = np.where(sizes > 0, hits / np.maximum(sizes, 1), np.inf)
    worst = int(shares.argmin())
    if not shares[worst] < 1 or (sizes > 0).sum() < 2:
        return None
    share = proportion_interval(int(hits[worst]), int(sizes[worst]))
    rest = proportion_interval(int(hits.sum() - hits[worst]), int(sizes.sum() - sizes[worst]))
    return worst, share, share.high < rest.low
