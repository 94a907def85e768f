"""Members of a blend in a report: what each of them counts, reaches alone, and adds to the others."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.displays.attention.looking import inside
from frofa.estimators import FewShotClassifier
from frofa.evaluation import Interval, label_positions, paired_interval, proportion_interval
from frofa.reporting.facts.contents import MemberFacts
from frofa.reporting.facts.inputs import Inputs

Right = npt.NDArray[np.bool_]


def member_facts(inputs: Inputs) -> tuple[list[MemberFacts], str | None]:
    """Score each member of a blend alone, and the blend without it.

    Without a member, the others keep their weights, in proportion: they are not fitted again.

    Parameters
    ----------
    inputs : Inputs

    Returns
    -------
    members : list of MemberFacts
        In the order of the blend; those that do not count have no scores.
    note : str or None
        Why there are none.
    """
    blend = blend_in(inputs.head)
    if blend is None:
        return [], "This classifier is no blend of several heads."
    if blend.effort == "fast":
        return [], "With effort='fast', there is one head, the probe: effort='high' blends heads on tokens with it."
    log_probs = blend._of_members(inputs.features)
    shares = {name: blend.members_[name].weight * found for name, found in log_probs.items()}
    truth = inputs.classes[inputs.truth]
    right = right_of(sum(shares.values()), blend.classes_, truth)
    members = []
    for name, one in blend.members_.items():
        facts = MemberFacts(name, float(one.weight), float(one.out_of_fold_accuracy), reason=one.reason)
        if name in shares:
            alone = proportion_of(right_of(log_probs[name], blend.classes_, truth))
            facts = replace(facts, alone=alone)
        if name in shares and len(shares) > 1:
            rest = sum(share for other, share in shares.items() if other != name)
            without = right_of(rest, blend.classes_, truth)
            facts = replace(facts, without=proportion_of(without), difference=paired_interval(without, right))
        members.append(facts)
    return members, None


def blend_in(head: Any) -> FewShotClassifier | None:
    """Find the blend that a head is, or that it holds; None where there is none."""
    found = inside(head)
    return found if isinstance(found, FewShotClassifier) else None


def right_of(scores: Any, classes: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Right:
    """Tell which samples (n,) have the largest of their scores (n, K) at their true label."""
    right: Right = scores.argmax(1) == label_positions(truth, classes)
    return right


def proportion_of(right: Right) -> Interval:
    """Give the share of samples that are right, with its 95 % interval."""
    return proportion_interval(int(right.sum()), len(right))
