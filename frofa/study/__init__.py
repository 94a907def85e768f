"""The paper's study on one's own images and backbones: every augmentation against the baselines.

`run_study` fits and writes results, `report_study` turns them into a report; ``frofa study`` does both. `run_law` and
`report_law` do so for accuracy as a function of weights, sparsity and labels.
"""

from frofa.study.law.measuring import run_law
from frofa.study.law.report import report_law
from frofa.study.run import n_skipped, report_study, run_study
from frofa.study.study import Study

__all__ = ["Study", "n_skipped", "report_law", "report_study", "run_law", "run_study"]
