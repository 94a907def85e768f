"""Honest few-shot numbers: support samples, means and shares with intervals, scores of predictions and choices."""

from frofa.evaluation.calibration import Reliability, calibration_error, calibration_floor, reliability
from frofa.evaluation.choices import GroupAccuracy, MultipleChoiceReport, multiple_choice, score_choices
from frofa.evaluation.intervals import Interval, mean_interval, paired_interval, proportion_interval
from frofa.evaluation.labels import confusion_matrix, label_positions
from frofa.evaluation.probabilities import brier_score, log_loss
from frofa.evaluation.rejection import RejectionCurve, rejection_curve
from frofa.evaluation.sampling import disjoint_shots, sample_shots

__all__ = [
    "GroupAccuracy",
    "Interval",
    "MultipleChoiceReport",
    "RejectionCurve",
    "Reliability",
    "brier_score",
    "calibration_error",
    "calibration_floor",
    "confusion_matrix",
    "disjoint_shots",
    "label_positions",
    "log_loss",
    "mean_interval",
    "multiple_choice",
    "paired_interval",
    "proportion_interval",
    "rejection_curve",
    "reliability",
    "sample_shots",
    "score_choices",
]
