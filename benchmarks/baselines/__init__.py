"""Published heads for frozen features, coded by their papers' formulas, with their own default hyperparameters.

TabICL 2.2.0 and TabPFN 9.2.0 are not among them: their wheels bring code and no checkpoint, which is a download.
"""

from baselines.discriminant import LedoitWolfDiscriminant, ShrunkDiscriminant
from baselines.logistic_grid import LogisticGrid
from baselines.nearest_mean import NearestMean
from baselines.neighbours import WeightedNeighbours
from baselines.ridge import FixedRidge

__all__ = [
    "FixedRidge",
    "LedoitWolfDiscriminant",
    "LogisticGrid",
    "NearestMean",
    "ShrunkDiscriminant",
    "WeightedNeighbours",
]
