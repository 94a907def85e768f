"""Learning curves of a classifier: how accurate it will be with more labels, and how many are enough."""

from frofa.learning_curves.answer import CurvePoint, LabelsNeeded
from frofa.learning_curves.display import LearningCurveDisplay
from frofa.learning_curves.estimate import how_many_labels

__all__ = ["CurvePoint", "LabelsNeeded", "LearningCurveDisplay", "how_many_labels"]
