"""Checks that vouch for a backbone and its extractor: weights, preprocessing, outputs, sensitivity and cost."""

from frofa.doctor.checks.golden import write_golden
from frofa.doctor.examine import check_extractor, examine, extractor_for
from frofa.doctor.finding import Finding, Outcome

__all__ = ["Finding", "Outcome", "check_extractor", "examine", "extractor_for", "write_golden"]
