"""Labels of images: which to give next, and which are wrong."""

from frofa.labelling.suggestions.strategy import UncertaintyHerding
from frofa.labelling.suggestions.suggesting import suggest
from frofa.labelling.wrong import DuplicateGroup, LabelIssues, label_issues

__all__ = ["DuplicateGroup", "LabelIssues", "UncertaintyHerding", "label_issues", "suggest"]
