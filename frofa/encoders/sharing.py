"""Copies of an estimator that share its encoder."""

from copy import copy
from typing import Any


class SharesModel:
    """Mixin, before BaseEstimator, of estimators whose parameter `model` may be an encoder: `clone` shares it.

    scikit-learn would copy it deeply, but an encoder does not change, and may be large.
    """

    model: Any

    def __sklearn_clone__(self) -> Any:
        if isinstance(self.model, str) or hasattr(self.model, "get_params"):
            return super().__sklearn_clone__()  # type: ignore[misc]
        # Left out of the copying, and put back.
        rest = copy(self)
        rest.model = ""
        cloned = super(SharesModel, rest).__sklearn_clone__()  # type: ignore[misc]
        cloned.model = self.model
        return cloned
