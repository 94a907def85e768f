"""Augmentation in a report: accuracy with it and without, on the same images."""

from copy import copy
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from frofa.augmentations import Augmentation
from frofa.blocks import FeatureBlocks
from frofa.displays.attention.looking import inside
from frofa.estimators import FewShotClassifier
from frofa.estimators.blending.members import SHORT
from frofa.evaluation import paired_interval
from frofa.reporting.facts.contents import AugmentationFacts
from frofa.reporting.facts.inputs import Inputs
from frofa.reporting.facts.members import blend_in, proportion_of, right_of

Right = npt.NDArray[np.bool_]
Found = tuple[list[AugmentationFacts], str | None]
PLAIN = "map"
"""Member of a blend that is trained without augmentation; others of the same kind have its name and more."""


def augmentation_facts(inputs: Inputs) -> Found:
    """Compare predictions with augmentation and without: of views, of attention heads, and of a head by itself.

    Parameters
    ----------
    inputs : Inputs
        A head by itself that was trained with augmentation is trained again without, on `train`, if there is some.

    Returns
    -------
    comparisons : list of AugmentationFacts
    note : str or None
        What could not be compared.
    """
    blend = blend_in(inputs.head)
    of_training, note = _of_head(inputs) if blend is None else _of_blend(blend, inputs)
    found = [*_of_views(inputs), *_of_feature_views(inputs), *of_training]
    if not found and note is None:
        note = "This classifier has neither several views of an image nor heads that were trained with augmentation."
    return found, note


def _of_views(inputs: Inputs) -> list[AugmentationFacts]:
    """Compare the plain image alone with all views, by the same fitted head."""
    features = inputs.features
    if not isinstance(features, FeatureBlocks) or features.n_views < 2:
        return []
    n = features.n_views
    plain = _right(inputs.head, features.select(n_views=1), inputs)
    about = (
        f"The same fitted classifier, once with the image alone, and once with the average over {n} views of it: the "
        "image as it is, mirrored or cropped."
    )
    return [compared(f"{n} views of each image", about, plain, inputs.predicted == inputs.truth)]


def _of_feature_views(inputs: Inputs) -> list[AugmentationFacts]:
    """Compare predictions from features as they are with those that average over augmented features, too."""
    fitted = inside(inputs.head)
    n = getattr(fitted, "n_views", 0)
    if not n or not hasattr(fitted, "augment"):
        return []
    head = copy(fitted)
    head.n_views = 0
    about = f"The same fitted head, once with features as they are, and once averaged over {n} augmented copies, too."
    plain = _right(head, inputs.features, inputs)
    return [compared(f"{n} augmented copies of features", about, plain, inputs.predicted == inputs.truth)]


def _of_blend(blend: FewShotClassifier, inputs: Inputs) -> Found:
    """Compare heads of a blend that were trained with augmentation with the one without."""
    if blend.effort == "fast":
        return [], None
    counting = {name: one for name, one in blend.members_.items() if one.weight > 0}
    augmented = [name for name in blend.members_ if name.startswith(f"{PLAIN} ")]
    kept = [name for name in augmented if name in counting]
    if PLAIN not in counting or not kept:
        return [], _out_of_fold(blend, augmented)
    log_probs, truth = blend._of_members(inputs.features), inputs.classes[inputs.truth]
    plain = right_of(log_probs[PLAIN], blend.classes_, truth)
    return [
        compared(
            name.removeprefix(f"{PLAIN} "),
            "Two attention heads of the blend, each by itself: one trained on features as they are, for "
            f"{SHORT:g} of the steps, and one with augmentation in feature space, for all of them.",
            plain,
            right_of(log_probs[name], blend.classes_, truth),
        )
        for name in kept
    ], None


def _out_of_fold(blend: FewShotClassifier, augmented: list[str]) -> str:
    """Say why heads cannot be compared, and how they did on the training images."""
    said = [
        f"{name} {100 * blend.members_[name].out_of_fold_accuracy:.1f} %"
        for name in (PLAIN, *augmented)
        if name in blend.members_ and np.isfinite(blend.members_[name].out_of_fold_accuracy)
    ]
    why = (
        "Attention heads with augmentation in feature space and without cannot be compared on these images, as the "
        "blend keeps only heads that count."
    )
    return f"{why} Out of fold, on the training images: {', '.join(said)}." if said else why


def _of_head(inputs: Inputs) -> Found:
    """Compare a head that was trained with augmentation with the same one trained without it."""
    fitted = inside(inputs.head)
    augment = getattr(fitted, "augment_", None) or getattr(fitted, "augment", None)
    if not isinstance(augment, Augmentation):
        return [], None
    train = inputs.train
    if train is None or train.extracted is None:
        return [], "What augmentation in feature space adds is not known without the training images: give train=."
    features = inputs.parts.prepare(train.extracted)
    head = clone(fitted).set_params(augment=None)
    if getattr(head, "n_views", 0):
        head.set_params(n_views=0)
    if len(np.unique(train.codes)) < len(inputs.classes):
        return (
            [],
            "What augmentation in feature space adds is not known, as training images of some classes are missing.",
        )
    head.fit(features, inputs.classes[train.codes])
    about = "This head, and the same one trained again on the training images without augmentation in feature space."
    plain = _right(head, inputs.features, inputs)
    return [compared(repr(augment), about, plain, inputs.predicted == inputs.truth)], None


def compared(name: str, about: str, plain: Right, augmented: Right) -> AugmentationFacts:
    """Compare which of the same images (n,) are right without augmentation and with it."""
    difference = paired_interval(plain, augmented)
    return AugmentationFacts(name, about, proportion_of(plain), proportion_of(augmented), difference, len(plain))


def _right(head: Any, features: Any, inputs: Inputs) -> Right:
    probabilities = np.asarray(head.predict_proba(features))
    return right_of(probabilities, np.asarray(head.classes_), inputs.classes[inputs.truth])
