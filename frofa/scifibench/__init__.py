"""Multiple-choice questions about scientific figures, as SciFIBench has them, and the mining of such questions."""

from frofa.scifibench.questions import Question
from frofa.scifibench.reading import Split, find_splits

__all__ = ["Question", "Split", "find_splits"]
