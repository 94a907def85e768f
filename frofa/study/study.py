"""A study: image sets, backbones, and what is compared on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frofa.study.plan import NAMES


@dataclass(frozen=True)
class Study:
    """The images, backbones and candidates of a study, and where its results go.

    Parameters
    ----------
    directories : sequence of Path
        Image sets: DIRECTORY/train/CLASS/IMAGE and DIRECTORY/test/CLASS/IMAGE, or DIRECTORY/CLASS/IMAGE, of which a
        third becomes the test part. Each needs a name of its own.
    backbones : sequence of str
        Models, as in `FrozenFeatureExtractor`.
    out : Path
        Directory of the results; features are kept in its ``features``.
    shots : sequence of int, default=(1, 2, 5, 10, 25)
        Numbers of images a class, each compared separately.
    n_seeds : int, default=10
        Support samples for each number of shots, disjoint where there are enough images.
    quick : bool, default=False
        No heads on tokens in the comparison of heads; few levels of each augmentation in that of augmentations.
    heads : sequence of str, default=("few-shot",)
        What to compare: ``"few-shot"``, heads that need no tuning with today's defaults and with tuned probes;
        ``"map"`` and ``"probes"``, augmentations of MAP heads and of probes.
    sparsities : sequence of float, default=(0, 0.25, 0.5, 0.75)
        For the law of weights and labels: shares of the weights of linear layers that are set to zero.
    augmentations : sequence of str, default=None
        Augmentations to study, as named in the results; None is all.
    device : str, default="auto"
        Where features are extracted and heads trained, as in `FrozenFeatureExtractor`.
    n_jobs : int, default=-1
        Threads that decode images, as in `FrozenFeatureExtractor`.
    command : str, default="run_study(...)"
        What the report says was run.

    Raises
    ------
    ValueError
        If two image sets have one name, an augmentation is unknown, or a number is less than 1.
    """

    directories: Sequence[Path]
    backbones: Sequence[str]
    out: Path
    shots: Sequence[int] = (1, 2, 5, 10, 25)
    n_seeds: int = 10
    quick: bool = False
    heads: Sequence[str] = ("few-shot",)
    sparsities: Sequence[float] = (0.0, 0.25, 0.5, 0.75)
    augmentations: Sequence[str] | None = None
    device: str = "auto"
    n_jobs: int = -1
    command: str = "run_study(...)"

    def __post_init__(self) -> None:
        names = [directory.resolve().name for directory in self.directories]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"image sets need different names. Got twice: {', '.join(sorted(repeated))}.")
        if unknown := set(self.augmentations or ()) - set(NAMES):
            raise ValueError(f"unknown augmentations: {', '.join(sorted(unknown))}. There are: {', '.join(NAMES)}.")
        if outside := [share for share in self.sparsities if not 0 <= share < 1]:
            raise ValueError(f"sparsities must be from 0 to below 1. Got {outside[0]}.")
        for name, value in (("shots", min(self.shots)), ("seeds", self.n_seeds)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1. Got {value}.")

    @property
    def results_file(self) -> Path:
        """The CSV file of all fits."""
        return self.out / "results.csv"

    @property
    def law_file(self) -> Path:
        """The CSV file of accuracies by backbone, sparsity and shots."""
        return self.out / "law.csv"

    @property
    def notes_file(self) -> Path:
        """The JSON file of what was run, for the report."""
        return self.out / "notes.json"
