"""Reports of classifiers, as numbers and as pages."""

from frofa.reporting.facts.contents import Facts
from frofa.reporting.reports import Report, report

__all__ = ["Facts", "Report", "report"]
