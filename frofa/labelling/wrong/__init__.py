"""Search for wrong labels, copies and outliers."""

from frofa.labelling.wrong.duplicates import DuplicateGroup
from frofa.labelling.wrong.issues import label_issues
from frofa.labelling.wrong.report import LabelIssues

__all__ = ["DuplicateGroup", "LabelIssues", "label_issues"]
