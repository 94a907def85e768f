"""Displays of classifiers and their images, in scikit-learn's style."""

from frofa.displays.attention import AttentionDisplay
from frofa.displays.confusion import ConfusionDisplay
from frofa.displays.map import EmbeddingDisplay
from frofa.displays.mistakes import Mistake, MistakesDisplay
from frofa.displays.rejection import RejectionDisplay
from frofa.displays.reliability import ReliabilityDisplay
from frofa.displays.words import WordsDisplay

__all__ = [
    "AttentionDisplay",
    "ConfusionDisplay",
    "EmbeddingDisplay",
    "Mistake",
    "MistakesDisplay",
    "RejectionDisplay",
    "ReliabilityDisplay",
    "WordsDisplay",
]
