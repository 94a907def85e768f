"""Part of heads that tells samples of other classes: known samples are kept at fit, and compared with later."""

from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from frofa.blocks import FeatureBlocks
from frofa.estimators.core.confident.parameters import Novelty
from frofa.estimators.core.support import Array, Support
from frofa.estimators.solvers.novelty.ranks import least_samples, p_values, threshold
from frofa.estimators.solvers.novelty.scores import energies, left_out_scores_of, scores_of
from frofa.estimators.tokens.image_views import views_in
from frofa.estimators.tokens.lazy import average_tokens

MOST_ROWS, LEAST_SHOTS = 1000, 5
"""Samples that are kept at most, evenly among the classes, but five of each at least: a file of 768 channels grows by
1.5 MB, and a share of 5 % is of 50 samples."""
NONE_OF_THESE = "none of these"


def rows_of(features: Any) -> npt.NDArray[np.float64]:
    """Turn features of any kind into one row of length one for each image, (n, D).

    Each view of each block is brought to length one; views of an image are averaged, and blocks stand side by side.
    Tokens are averaged over the tokens, and left out where there are vectors.
    """
    if not isinstance(features, FeatureBlocks):
        return _averaged(views_in(features))
    names = features.vectors or features.names
    return _unit(np.concatenate([_averaged(features.views(name)) for name in names], axis=1))


def _averaged(views: Any) -> npt.NDArray[np.float64]:
    found: Any = 0
    for view in views:
        found = found + _unit(average_tokens(view) if view.ndim == 3 else np.asarray(view, np.float64))
    return _unit(found)


def _unit(rows: Array) -> npt.NDArray[np.float64]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = rows / np.where(length > 0, length, 1)
    return unit


def some_of(codes: Array, weights: Array) -> npt.NDArray[np.intp]:
    """Choose the positions of samples to keep: those with weight, the first of each class if there are too many."""
    used = np.flatnonzero(weights)
    order = np.argsort(codes[used], kind="stable")
    counts = np.unique(codes[used], return_counts=True)[1]
    # The place (n,) of each sample in its class.
    places = np.empty(len(used), np.intp)
    places[order] = np.concatenate([np.arange(count) for count in counts])
    return used[places < max(MOST_ROWS // len(counts), LEAST_SHOTS)]


def check_share(share: float, n_samples: int, name: str) -> None:
    """Raise a ValueError if so few known samples cannot say which scores a share of them exceed."""
    if n_samples < least_samples(share):
        # Rounded up: a share that is named is to be one that can be asked for.
        least = ceil(1000 / (n_samples + 1)) / 1000
        raise ValueError(
            f"{name} with reject={share:g} needs {least_samples(share)} known samples or more, as the least share that "
            f"n samples tell of is 1 / (n + 1). Got {n_samples}: reject={least:g} or more."
        )


def reject_label_for(classes: Array, label: Any) -> Any:
    """Return the label of rejected samples, if it can be told from these classes."""
    kind = classes.dtype.kind
    if label is None and kind in "biufUOT":
        label = -1 if kind in "biuf" else NONE_OF_THESE
    numbers = isinstance(label, (int, float, np.number, np.bool_))
    if (kind in "biuf" and not numbers) or (kind in "UT" and not isinstance(label, str)) or label is None:
        raise ValueError(f"reject_label must be of the kind of the classes, {classes.tolist()[:3]}. Got {label!r}.")
    if label in classes.tolist():
        raise ValueError(
            "reject_label must be none of the classes: set it to another value, such as "
            f"reject_label={_other_than(classes)!r}. Got {label!r}, which is one."
        )
    return label


def _other_than(classes: Array) -> Any:
    """Name a label of the kind of the classes, which is none of them."""
    if classes.dtype.kind in "biuf":
        return int(np.floor(classes.astype(np.float64).min())) - 1
    return next(name for name in (NONE_OF_THESE, "rejected", "rejected_") if name not in classes.tolist())


def with_rejected(labels: Array, rejected: Array, label: Any) -> Array:
    """Put the label of rejected samples into labels (n,), in a dtype that holds both."""
    dtype = labels.dtype if labels.dtype.kind in "OTmM" else np.result_type(labels.dtype, np.asarray(label).dtype)
    widened = labels.astype(dtype)
    widened[rejected] = label
    return widened


class TellsNovelty:
    """Part of a head that tells samples of other classes than those that it was fitted to.

    ``novelty_`` has the known samples as `rows` of length one, in float16, and their `codes`, and where something was
    to be rejected, their left-out `scores` by a `method`; of energies, scores alone.
    """

    novelty_: dict[str, Any]
    classes_: Array
    reject: float | None
    reject_label: Any
    novelty: Novelty

    def novelty_score(self, X: Any) -> Array:
        """Score how unlike the training samples others are.

        Parameters
        ----------
        X : array-like of shape (n, C) or (n, N, C), RaggedTokens or FeatureBlocks
            As `predict` takes them.

        Returns
        -------
        ndarray of shape (n,)
            Larger is more novel; the unit is the method's own, and `novelty_p_value` has none.

        Raises
        ------
        ValueError
            If the head keeps nothing to compare with: with ``novelty=None``, or fitted beside others by a search.
        """
        check_is_fitted(self)
        method = self._novelty_method()
        if method == "energy":
            return self._energies(X)
        known = self.novelty_
        rows = np.asarray(known["rows"], np.float64)
        return scores_of(rows, known["codes"], self._novelty_rows(X), method)

    def novelty_p_value(self, X: Any) -> Array:
        """Estimate the share of images of the known classes that are as novel as each sample, or more.

        Parameters
        ----------
        X : array-like of shape (n, C) or (n, N, C), RaggedTokens or FeatureBlocks
            As `predict` takes them.

        Returns
        -------
        ndarray of shape (n,)
            At most 1 and at least ``1 / (n_known + 1)``: the rank of the sample's score among the scores of training
            samples, each left out, ``(1 + #{known >= score}) / (n_known + 1)``, and between ranks by interpolation.

        Raises
        ------
        ValueError
            As of `novelty_score`.
        """
        scores = self.novelty_score(X)
        return p_values(self._known_scores(), scores)

    def novelty_threshold(self, share: float) -> float:
        """Return the `novelty_score` that this share of images of the known classes exceed.

        Raises
        ------
        ValueError
            If it takes more training samples to say so: 19 for 0.05.
        """
        check_is_fitted(self)
        known = self._known_scores()
        check_share(share, len(known), type(self).__name__)
        return threshold(known, share)

    def _rejected(self, X: Any) -> npt.NDArray[np.bool_]:
        """Tell which samples `predict` rejects."""
        assert self.reject is not None
        rejected: npt.NDArray[np.bool_] = self.novelty_score(X) > self.novelty_threshold(self.reject)
        return rejected

    def _with_rejected(self, labels: Array, X: Any) -> Array:
        return with_rejected(labels, self._rejected(X), reject_label_for(self.classes_, self.reject_label))

    def _novelty_method(self) -> str:
        """Return the method, if there is what it needs."""
        method, known = self.novelty, getattr(self, "novelty_", None)
        if method is None or known is None:
            raise ValueError(
                f"{type(self).__name__} keeps no samples to tell novelty by: fit it by itself, with novelty='auto', or "
                "with reject."
            )
        if (method == "energy" or "rows" not in known) and method != known.get("method"):
            raise ValueError(f"fitted with novelty={known.get('method', 'auto')!r}: fit again. Got {method!r}.")
        return method

    def _known_scores(self) -> Array:
        """Score the training samples, each left out, (n,)."""
        method, known = self._novelty_method(), self.novelty_
        if known.get("method") == method:
            scores: Array = known["scores"]
            return scores
        return left_out_scores_of(np.asarray(known["rows"], np.float64), known["codes"], method)

    def _learn_novelty(self, support: Support, *, alone: bool) -> None:
        """Keep what is compared with, and its scores if samples are to be rejected.

        Heads that are fitted side by side, as by a search, keep something only if they are to reject.
        """
        if hasattr(self, "novelty_"):
            del self.novelty_
        share, method = getattr(self, "reject", None), getattr(self, "novelty", None)
        if method is None and share is not None:
            raise ValueError("reject needs a way to tell novelty, such as novelty='auto'. Got novelty=None.")
        if method is None or (share is None and not alone):
            return
        if share is not None:
            reject_label_for(self.classes_, self.reject_label)
        self.novelty_ = self._known(support, method)
        if share is not None:
            scores = self._known_scores()
            check_share(share, len(scores), type(self).__name__)
            self.novelty_ |= {"scores": scores, "method": method}

    def _known(self, support: Support, method: str) -> dict[str, Any]:
        if method == "energy":
            return {"scores": self._left_out_energies(support), "method": method}
        kept = some_of(support.codes, support.weights)
        return {
            "rows": rows_of(self._compared(support.features[kept])).astype(np.float16),
            "codes": support.codes[kept],
        }

    def _left_out_energies(self, support: Support) -> Array:
        # Scores that are left out in closed form are of features normalised with the sample, and are off by that.
        scores = self._out_of_fold(support)
        known = np.isfinite(scores).all(1) & (support.weights > 0)
        return energies(self._logits_of(scores[known]))

    def _energies(self, X: Any) -> Array:
        return energies(self._logits_of(self._checked_scores(X)))

    def _novelty_rows(self, X: Any) -> npt.NDArray[np.float64]:
        return rows_of(self._compared(self._prepare(self._tokens(self._check_features(X, reset=False)))))

    def _compared(self, features: Any) -> Any:
        """Choose what is compared among checked features."""
        return features

    # What the head has:
    _checked_scores: Any
    _logits_of: Any
    _out_of_fold: Any
    _prepare: Any
    _tokens: Any
    _check_features: Any
