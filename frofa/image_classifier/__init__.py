"""Images and a few labels in, a classifier out."""

from frofa.image_classifier.classifier import ImageClassifier
from frofa.image_classifier.report import EvaluationReport

__all__ = ["EvaluationReport", "ImageClassifier"]
