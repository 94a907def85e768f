"""Checks that vouch for a backbone and its extractor: weights, preprocessing, outputs, sensitivity and cost."""

from frofa.doctor.check import check_extractor, examine, extractor_for
from frofa.doctor.finding import Finding, Outcome
from frofa.doctor.golden import write_golden

__all__ = ["Finding", "Outcome", "check_extractor", "examine", "extractor_for", "write_golden"]
