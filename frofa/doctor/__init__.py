"""Checks that vouch for a backbone and its extractor: weights, preprocessing, outputs, sensitivity and cost."""

from frofa.doctor.check import check_extractor, examine
from frofa.doctor.finding import Finding, Outcome
from frofa.doctor.golden import write_golden

__all__ = ["Finding", "Outcome", "check_extractor", "examine", "write_golden"]
