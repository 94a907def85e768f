"""One image set, backbone and number of shots of a comparison of heads: its support samples, and what is scored."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from frofa.study.data import StudyData
from frofa.study.heads.scoring import score
from frofa.study.results import Candidate, Key, StudyResult

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class StudyCell:
    """The support samples of one number of shots, and the images that predictions are scored on.

    Heads are fitted to `rows` with `codes` of theirs; they predict the images of `unseen`, whose labels nothing but
    `results` reads.
    """

    data: StudyData
    shots: int
    samples: Sequence[Rows]

    @cached_property
    def rows(self) -> Rows:
        """Rows of all images that are in a support sample."""
        return np.unique(np.concatenate(self.samples))

    @cached_property
    def places(self) -> list[Rows]:
        """Positions of each support sample in `rows`."""
        return [np.searchsorted(self.rows, sample) for sample in self.samples]

    @cached_property
    def codes(self) -> Rows:
        """Classes of the images of `rows`, from 0."""
        return self._all_codes[self.rows]

    @cached_property
    def unseen(self) -> Rows:
        """Rows of validation images, then of test images."""
        return np.concatenate([self.data.validation, self.data.test])

    @cached_property
    def _all_codes(self) -> Rows:
        codes: Rows = np.unique(self.data.y, return_inverse=True)[1]
        return codes

    def lacking(self, candidates: Iterable[Candidate], done: set[Key]) -> list[Candidate]:
        """Choose the candidates that lack a result of some support sample."""
        place, seeds = (self.data.dataset, self.data.backbone, self.shots), range(len(self.samples))
        return [one for one in candidates if any((*place, seed, one) not in done for seed in seeds)]

    def results(
        self,
        candidate: Candidate,
        log_probabilities: Tensor,
        *,
        probabilistic: bool = True,
        out_of_fold: Sequence[float] | None = None,
        seconds: float = float("nan"),
    ) -> list[StudyResult]:
        """Score what the heads of all support samples (S, n_unseen, n_classes) say of the unseen images.

        Scores that are no log-probabilities have accuracies only.
        """
        codes = torch.as_tensor(self._all_codes[self.unseen], device=log_probabilities.device)
        n = len(self.data.validation)
        validation = score(log_probabilities[:, :n], codes[:n]).accuracy.tolist()
        test = score(log_probabilities[:, n:], codes[n:])
        columns = {
            "test": test.accuracy.tolist(),
            "log_loss": test.log_loss.tolist(),
            "calibration": test.calibration.tolist(),
            "calibration_floor": test.floor.tolist(),
            "calibration_pooled": [test.pooled] * len(self.samples),
        }
        if not probabilistic:
            columns = {"test": columns["test"]}
        expected = [float("nan")] * len(self.samples) if out_of_fold is None else [100 * one for one in out_of_fold]
        where: dict[str, Any] = {"dataset": self.data.dataset, "backbone": self.data.backbone, "shots": self.shots}
        found = []
        for seed in range(len(self.samples)):
            scores = {"validation": validation[seed], "out_of_fold": expected[seed], "seconds": seconds}
            scores |= {name: values[seed] for name, values in columns.items()}
            found.append(StudyResult(**asdict(candidate), **where, seed=seed, **scores))
        return found
