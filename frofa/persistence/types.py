"""The fixed table of types that may be saved and loaded, with the parts of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from sklearn import feature_selection
from sklearn.base import BaseEstimator
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils import Bunch

from frofa import augmentations, estimators
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.estimators.core.numbers.estimator import OutputsEstimator
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.pretrained import PretrainedHead
from frofa.texts.extractor import FrozenTextExtractor

SKLEARN = "sklearn."
IMAGE_CLASSIFIER = "frofa.ImageClassifier"
_NOT_KEPT = {IMAGE_CLASSIFIER: ("skipped_",)}
"""Fitted attributes of our own types that tell of one run, and no file has."""
TRANSFORMED = "_sklearn_output_config"
"""Attribute that holds the choice of `set_output`; any scikit-learn transformer may have it."""


@dataclass(frozen=True)
class SavedType:
    """A type that files may name, with the names of its parts."""

    kind: type
    params: tuple[str, ...] | None = None  # of its constructor, and attributes too; None: those of get_params
    private: tuple[str, ...] = ()  # fitted attributes that do not end in an underscore
    derived: tuple[str, ...] = ()  # fitted attributes that no file has, as `finish` makes them anew
    local: tuple[str, ...] = ()  # parameters that only this machine or process has a use for: None in files
    finish: Callable[[Any], object] | None = None  # checks each loaded object, or makes what is derived
    numeric: bool = False  # takes any numbers (n, n_features_in_), and holds an array of that width

    def params_of(self, value: Any) -> dict[str, Any]:
        """Arguments that construct an equal object."""
        if self.params is None:
            found: dict[str, Any] = value.get_params(deep=False)
        else:
            found = {name: getattr(value, name) for name in self.params}
        return {**found, **dict.fromkeys(self.local)}

    def state_of(self, value: Any) -> dict[str, Any]:
        """Fitted attributes by name."""
        return {name: item for name, item in vars(value).items() if self.is_state(name)}

    def is_state(self, name: str) -> bool:
        """Whether an attribute of this name is fitted state."""
        public = name.endswith("_") and not name.startswith("_")
        return (public and name not in self.derived) or name in self.private or name == TRANSFORMED

    def is_computed(self, name: str) -> bool:
        """Whether an attribute of this name is a property in the installed version of the type."""
        found = getattr(self.kind, name, None)
        return isinstance(found, property) and found.fset is None


@cache
def saved_type(name: str) -> SavedType | None:
    """The type of this name in files, imported now if it was not; None if there is none."""
    if name in _own_types():
        kind = _own_types()[name]
        # Its members are tried out themselves: it may need tokens, of which a row of numbers has none.
        if kind is estimators.FewShotClassifier:
            return SavedType(kind, local=kind._unsaved, finish=_describe_members)
        return SavedType(
            kind, numeric=_is_head(kind), local=getattr(kind, "_unsaved", ()), derived=_NOT_KEPT.get(name, ())
        )
    module, row = _rows().get(name, (None, {}))
    found = getattr(import_module(f"sklearn.{module}"), name.removeprefix(SKLEARN), None) if module else None
    return None if found is None else SavedType(found, **row)  # not all are in every version


def name_of(kind: type) -> str | None:
    """The name of a type in files; None if it cannot be saved."""
    # A name alone is not enough: a type of another package may be called the same.
    own = (f"{package}.{kind.__name__}" for package in ("frofa", "frofa.estimators", "frofa.augmentations"))
    for name in (*own, SKLEARN + kind.__name__):
        if (found := saved_type(name)) is not None and found.kind is kind:
            return name
    return None


def sklearn_names() -> list[str]:
    """The public types of scikit-learn that may be saved."""
    names = (name.removeprefix(SKLEARN) for name in _rows())
    return sorted(name for name in names if not name.startswith("_"))


@cache
def _rows() -> dict[str, tuple[str, dict[str, Any]]]:
    return {SKLEARN + name: (module, row) for module, rows in _SKLEARN.items() for name, row in rows.items()}


@cache
def saved_functions() -> Mapping[str, Callable[..., Any]]:
    """Functions that may be parameters, by the names that they have in files."""
    names = ("chi2", "f_classif", "mutual_info_classif")
    return {f"sklearn.{name}": getattr(feature_selection, name) for name in names}


@cache
def _own_types() -> dict[str, type]:
    abstract = {"Augmentation", "FeatureImage", "TokenBatch", "Variant"}
    named = {name: getattr(estimators, name) for name in estimators.__all__}
    # By name, as scikit-learn's: it stands above this package, which it saves itself by.
    types: dict[str, type] = {
        IMAGE_CLASSIFIER: import_module("frofa.image_classifier").ImageClassifier,
        "frofa.FrozenFeatureExtractor": FrozenFeatureExtractor,
        "frofa.FrozenTextExtractor": FrozenTextExtractor,
        "frofa.PretrainedHead": PretrainedHead,
    }
    # Of a search, what it found is saved in its place.
    fitted = {name: kind for name, kind in named.items() if issubclass(kind, BaseEstimator)}
    types |= {f"frofa.estimators.{k}": kind for k, kind in fitted.items() if not issubclass(kind, BaseSearchCV)}
    return types | {
        f"frofa.augmentations.{name}": getattr(augmentations, name)
        for name in augmentations.__all__
        if name[0].isupper() and name not in abstract
    }


def _is_head(kind: type) -> bool:
    return issubclass(kind, (FeatureClassifier, OutputsEstimator))


def _name_members(ensemble: Any) -> None:
    """Make ``named_estimators_`` of a fitted ensemble: its members that were not dropped."""
    if not hasattr(ensemble, "estimators_"):
        return
    kept = [name for name, estimator in ensemble.estimators if not isinstance(estimator, str)]
    ensemble.named_estimators_ = Bunch(**dict(zip(kept, ensemble.estimators_, strict=True)))


def _describe_members(classifier: Any) -> None:
    """Make the descriptions of the members of a fitted few-shot classifier what they were, and check that all count."""
    if hasattr(classifier, "members_"):
        classifier.members_ = {name: Bunch(**one) for name, one in classifier.members_.items()}
        weights = [one.weight for one in classifier.members_.values()]
        if not np.array_equal(weights, classifier.weights_):
            raise ValueError("the weights of the members differ from weights_")
        counting = [one.estimator for one in classifier.members_.values() if one.weight > 0]
        if not all(isinstance(estimator, FeatureClassifier) for estimator in counting):
            raise ValueError("a member that counts is missing")


def _interpolate(regression: Any) -> None:
    """Make the function of a fitted isotonic regression."""
    if hasattr(regression, "X_thresholds_"):
        regression._build_f(regression.X_thresholds_, regression.y_thresholds_)


def _check_steps(pipeline: Any) -> None:
    """Refuse steps that are no pairs of a name and an estimator."""
    for step in pipeline.steps:
        if not isinstance(step, tuple) or len(step) != 2 or not isinstance(step[0], str):
            raise ValueError(f"expected pairs of a name and an estimator as steps. Got {step!r:.80}")
    if not pipeline.steps:
        raise ValueError("a pipeline without steps")


def _index(neighbours: Any) -> None:
    """Make the search tree of a fitted classifier by neighbours: its data are fitted again."""
    if hasattr(neighbours, "_fit_X"):
        # Everything else stays as it was saved, whatever fitting makes of it.
        state = dict(vars(neighbours))
        neighbours.fit(neighbours._fit_X, neighbours.classes_[neighbours._y])
        vars(neighbours).update(state)


def _numeric(*names: str, **fields: Any) -> dict[str, dict[str, Any]]:
    return {name: {"numeric": True, **fields} for name in names}


_ENSEMBLE: dict[str, Any] = {"derived": ("named_estimators_",), "finish": _name_members}
_SKLEARN: dict[str, dict[str, dict[str, Any]]] = {
    "calibration": {
        **_numeric("CalibratedClassifierCV"),
        "_CalibratedClassifier": {"params": ("estimator", "calibrators", "classes", "method")},
        "_SigmoidCalibration": {},
        "_TemperatureScaling": {},
    },
    "compose": {
        "ColumnTransformer": {
            "private": ("_columns", "_transformer_to_input_indices", "_remainder", "_name_to_fitted_passthrough")
        }
    },
    "decomposition": {**_numeric("IncrementalPCA", "TruncatedSVD"), **_numeric("PCA", private=("_fit_svd_solver",))},
    "discriminant_analysis": {
        **_numeric("LinearDiscriminantAnalysis", private=("_max_components", "_n_features_out")),
        **_numeric("QuadraticDiscriminantAnalysis"),
    },
    "ensemble": {
        "StackingClassifier": {**_ENSEMBLE, "private": ("_label_encoder", "_n_feature_outs")},
        "VotingClassifier": _ENSEMBLE,
    },
    "feature_selection": _numeric("SelectKBest", "SelectPercentile", "VarianceThreshold"),
    "frozen": {"FrozenEstimator": {}},
    "isotonic": {"IsotonicRegression": {"derived": ("f_",), "finish": _interpolate}},
    "linear_model": {
        **_numeric("LogisticRegression", "LogisticRegressionCV"),
        **_numeric("Perceptron", "SGDClassifier", derived=("loss_function_",)),
        **_numeric("RidgeClassifier", "RidgeClassifierCV", private=("_label_binarizer",)),
    },
    "model_selection": {
        name: {"params": ("n_splits", "shuffle", "random_state")} for name in ("KFold", "StratifiedKFold")
    },
    "multiclass": {"OneVsOneClassifier": {}, "OneVsRestClassifier": {}},
    "naive_bayes": _numeric("BernoulliNB", "ComplementNB", "GaussianNB", "MultinomialNB"),
    "neighbors": {
        **_numeric("KNeighborsClassifier", private=("_fit_X", "_y", "_fit_method"), finish=_index),
        **_numeric("NearestCentroid"),
    },
    "pipeline": {"FeatureUnion": {}, "Pipeline": {"local": ("memory",), "finish": _check_steps}},
    "preprocessing": {
        "FunctionTransformer": {},  # of no function: what "passthrough" becomes
        **{name: {} for name in ("LabelBinarizer", "LabelEncoder", "Normalizer")},
        **_numeric("MaxAbsScaler", "MinMaxScaler", "QuantileTransformer", "RobustScaler", "StandardScaler"),
        **_numeric("PowerTransformer", private=("_scaler",)),
    },
    "svm": _numeric("LinearSVC"),
}
