"""Facts that a report tells of a classifier, which pages and programs show as they like."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from frofa.evaluation import Interval, RejectionCurve
from frofa.image_classifier.report import EvaluationReport
from frofa.learning_curves import LabelsNeeded

Where = Literal["test", "training"]
"""Whether an image is one that the report is about, or one that the classifier was fitted to."""

SECTIONS = (
    *("summary", "classes", "confusion", "mistakes", "unsure", "calibration", "rejection", "learning", "labels"),
    *("map", "attention", "members", "augmentation", "skipped", "reproduce"),
)
"""Names of the sections of a report, in their order; `Facts.notes` has some of them as keys."""


@dataclass(frozen=True, eq=False)
class RejectionFacts:
    """Curves of rejection by the probability of the predicted class, and by novelty where there is some."""

    by_confidence: RejectionCurve
    by_novelty: RejectionCurve | None = None


@dataclass(frozen=True, eq=False)
class WrongLabel:
    """A label that a person should look at, as the other images speak against it.

    Attributes
    ----------
    where : {"test", "training"}
    index : int
        Position among the images of the report, or among those that the classifier was fitted to.
    name : str
    given, suggested : str
    probability : float
        How likely the given label is wrong by the model of `frofa.label_issues`, from 0.5 to 1. It puts labels in
        order, and is no share of wrong ones: where all labels are right, a few in a hundred stand out as much.
    picture : image item or None
    by_others : tuple of two floats, or None
        Probabilities of the given and of the suggested label by a probe that is fitted to all other images.
    """

    where: Where
    index: int
    name: str
    given: str
    suggested: str
    probability: float
    picture: Any = None
    by_others: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Copy:
    """One of several images that are copies; attributes are those of `WrongLabel`, and `label` is None without one."""

    where: Where
    index: int
    name: str
    label: str | None = None
    picture: Any = None


@dataclass(frozen=True, eq=False)
class Leak:
    """Images that are the same, or nearly.

    Attributes
    ----------
    copies : tuple of Copy
        Two at least, those of the training images first.
    exact : bool
        Whether they are the same byte for byte (features: the same numbers), or nearly the same.
    """

    copies: tuple[Copy, ...]
    exact: bool

    @property
    def is_leak(self) -> bool:
        """Whether the copies lie on both sides: among the training images and among the others."""
        return len({copy.where for copy in self.copies}) == 2

    @property
    def labels(self) -> list[str]:
        """Labels that the copies have, each once, in their order; several are a dispute."""
        return list(dict.fromkeys(copy.label for copy in self.copies if copy.label is not None))


@dataclass(frozen=True, eq=False)
class AttentionExample:
    """Attention of a token head over one image.

    Attributes
    ----------
    index : int
        Position among the images of the report.
    picture : PIL.Image.Image
        The image as the backbone saw it, resized and cropped.
    weights : ndarray of float32, shape (n_maps, rows, columns)
        A map for each attention head (or slot) over the grid of patches; each is not negative and has the sum 1 at
        most, as tokens that are no patches take the rest.
    head : str
        The token head, as a blend calls its member.
    maps : str
        What one of the maps is, such as ``"attention head"``.
    """

    index: int
    picture: Image.Image
    weights: npt.NDArray[np.float32]
    head: str
    maps: str = "attention head"


@dataclass(frozen=True, eq=False)
class MemberFacts:
    """A member of a blend: how much it counts, and what it adds on the images of the report.

    Attributes
    ----------
    name : str
    weight : float
        From 0 to 1.
    out_of_fold_accuracy : float
        On the training images; NaN where it is not known.
    alone, without, difference : Interval or None
        Accuracy of the member alone, that of the blend without it, and that of the blend less the latter, paired by
        image, with 95 % intervals; None where the member does not count, or nothing is left without it.
    reason : str
        Why it was left out of the blend; empty where it was not.
    """

    name: str
    weight: float
    out_of_fold_accuracy: float = float("nan")
    alone: Interval | None = None
    without: Interval | None = None
    difference: Interval | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class AugmentationFacts:
    """Accuracy with and without an augmentation on the images of the report.

    Attributes
    ----------
    name : str
        Of the augmentation, such as ``"6 views of each image"`` or ``"brightness 0.1"``.
    about : str
        A sentence that says what was compared with what.
    plain, augmented, difference : Interval
        Accuracies, and the second less the first, paired by image, with 95 % intervals.
    n : int
        Images.
    """

    name: str
    about: str
    plain: Interval
    augmented: Interval
    difference: Interval
    n: int


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts of a classifier on n labelled images of K classes, in the order of the input.

    Attributes
    ----------
    title : str
    names : list of str, of n
        The path of an image as it was given, or such as ``"image 12"``, counted from 1.
    pictures : sequence of n image items, or None
        What thumbnails are made of.
    labels : list of str, of K
        The classes as text.
    truth, predicted : ndarray of intp, shape (n,)
        Positions of the true and of the most probable class.
    probabilities : ndarray of float64, shape (n, K)
    evaluation : EvaluationReport
        Scores; its confusion matrix is that of `truth` and `predicted`.
    sets : ndarray of bool, shape (n, K), or None
        Prediction sets at `level`.
    level : float
    novelty : ndarray of float64, shape (n,), or None
        P-values: small ones are of images that are like none of the training images.
    rejection : RejectionFacts or None
    needed : LabelsNeeded or None
        The learning curve of the training images, and how many labels the target takes.
    wrong : list of WrongLabel
        The most likely first; those of training images are among them.
    leaks : list of Leak
        Copies; those between training images and the others first.
    coordinates : ndarray of float32, shape (n, 2), or None
        Of a map on which similar images are near each other.
    map_method : str
        ``"PCA"`` or ``"UMAP"``.
    explained_variance : tuple of two floats, or None
        Shares, from 0 to 1, of the variance along either axis of PCA.
    attention : list of AttentionExample
    members : list of MemberFacts
    augmentation : list of AugmentationFacts
    identity : dict of str to str
        What it takes to make the report again: versions, digests, parameters, the date; by what they are called.
    skipped : list of (str, str)
        Names of images that could not be read, with reasons.
    n_unlabelled : int
        Images without a label, which nothing here is of; those of unknown labels are in ``evaluation.unknown_labels``.
    notes : dict of str to str
        By section (of `SECTIONS`): why it is absent, or what it could not look at.
    """

    title: str
    names: list[str]
    pictures: Sequence[Any] | None
    labels: list[str]
    truth: npt.NDArray[np.intp]
    predicted: npt.NDArray[np.intp]
    probabilities: npt.NDArray[np.float64]
    evaluation: EvaluationReport
    sets: npt.NDArray[np.bool_] | None = None
    level: float = 0.9
    novelty: npt.NDArray[np.float64] | None = None
    rejection: RejectionFacts | None = None
    needed: LabelsNeeded | None = None
    wrong: list[WrongLabel] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    coordinates: npt.NDArray[np.float32] | None = None
    map_method: str = "PCA"
    explained_variance: tuple[float, float] | None = None
    attention: list[AttentionExample] = field(default_factory=list)
    members: list[MemberFacts] = field(default_factory=list)
    augmentation: list[AugmentationFacts] = field(default_factory=list)
    identity: dict[str, str] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    n_unlabelled: int = 0
    notes: dict[str, str] = field(default_factory=dict)
