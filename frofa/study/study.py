"""A study: image sets, backbones, and what is compared on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frofa.study.plan import NAMES


@dataclass(frozen=True)
class Study:
    """What to study.

    Attributes
    ----------
    directories : sequence of Path
        Image sets: DIRECTORY/train/CLASS/IMAGE and DIRECTORY/test/CLASS/IMAGE, or DIRECTORY/CLASS/IMAGE, of which a
        third becomes the test part.
    backbones : sequence of str
    out : Path
        Directory of the results; features are kept in its ``features``.
    shots : sequence of int
        Images a class.
    n_seeds : int
        Support samples, disjoint where there are enough images.
    quick : bool
        Few levels of each augmentation instead of many.
    heads : sequence of str
        ``"map"``, ``"probes"``, or both.
    augmentations : sequence of str or None
        Those to study, as named in the results; None is all.
    device : str
    n_jobs : int
    command : str
        What the report says was run.
    """

    directories: Sequence[Path]
    backbones: Sequence[str]
    out: Path
    shots: Sequence[int] = (1, 5, 10, 25)
    n_seeds: int = 5
    quick: bool = False
    heads: Sequence[str] = ("map", "probes")
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
        for name, value in (("shots", min(self.shots)), ("seeds", self.n_seeds)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1. Got {value}.")

    @property
    def results_file(self) -> Path:
        """The CSV file of all fits."""
        return self.out / "results.csv"

    @property
    def notes_file(self) -> Path:
        """The JSON file of what was run, for the report."""
        return self.out / "notes.json"
