"""Published heads that start from the words of classes, coded by their papers' formulas, with their own defaults.

None of them sees a validation set here: where a paper chooses an epoch or a setting on one, this is its last epoch and
its published default.
"""

from baselines.text.clap import ConstrainedProbe, CrossModalProbe, TextStartedProbe
from baselines.text.discriminant import ZeroShotDiscriminant
from baselines.text.head import TextHead, ZeroShot
from baselines.text.lp_plus_plus import BlendedProbe
from baselines.text.proker import ProximalKernelRidge
from baselines.text.ss_text import TextCentredMean
from baselines.text.tip_adapter import TipAdapter, TrainedTipAdapter

__all__ = [
    "BlendedProbe",
    "ConstrainedProbe",
    "CrossModalProbe",
    "ProximalKernelRidge",
    "TextCentredMean",
    "TextHead",
    "TextStartedProbe",
    "TipAdapter",
    "TrainedTipAdapter",
    "ZeroShot",
    "ZeroShotDiscriminant",
]
