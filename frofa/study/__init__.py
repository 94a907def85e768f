"""The paper's study on one's own images and backbones: every augmentation against the baselines.

`run_study` fits and writes results, `report_study` turns them into a report; ``frofa study`` does both.
"""

from frofa.study.run import n_skipped, report_study, run_study
from frofa.study.study import Study

__all__ = ["Study", "n_skipped", "report_study", "run_study"]
