"""What may be saved and loaded: a fixed table of types, with what makes up each of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from sklearn import feature_selection
from sklearn.utils import Bunch

from frofa import augmentations, estimators
from frofa.estimators.core.classifier import FeatureClassifier
from frofa.extraction.extractor import FrozenFeatureExtractor
from frofa.pretrained import PretrainedHead

SKLEARN = "sklearn."
TRANSFORMED = "_sklearn_output_config"
"""What `set_output` chose; any scikit-learn transformer may have it."""


@dataclass(frozen=True)
class SavedType:
    """A type that files may name.

    Attributes
    ----------
    kind : type
    params : tuple of str or None
        Arguments of its constructor, which are attributes, too; None is what ``get_params`` says.
    private : tuple of str
        Fitted attributes that do not end in an underscore.
    derived : tuple of str
        Fitted attributes that are left out.
    local : tuple of str
        Parameters that are of this machine alone, and None in files.
    finish : callable or None
        Called with what was loaded: makes the derived ones.
    numeric : bool
        Whether it takes any array of numbers of its ``n_features_in_`` columns and holds an array of that width.
    """

    kind: type
    params: tuple[str, ...] | None = None
    private: tuple[str, ...] = ()
    derived: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    finish: Callable[[Any], object] | None = None
    numeric: bool = False

    def params_of(self, value: Any) -> dict[str, Any]:
        """The arguments that make another one."""
        if self.params is None:
            found: dict[str, Any] = value.get_params(deep=False)
        else:
            found = {name: getattr(value, name) for name in self.params}
        return {**found, **dict.fromkeys(self.local)}

    def state_of(self, value: Any) -> dict[str, Any]:
        """What was fitted."""
        return {name: item for name, item in vars(value).items() if self.is_state(name)}

    def is_state(self, name: str) -> bool:
        """Whether an attribute of this name is fitted state."""
        public = name.endswith("_") and not name.startswith("_")
        return (public and name not in self.derived) or name in self.private or name == TRANSFORMED

    def is_computed(self, name: str) -> bool:
        """Whether this version of the type has a property where another one had an attribute."""
        found = getattr(self.kind, name, None)
        return isinstance(found, property) and found.fset is None


@cache
def saved_type(name: str) -> SavedType | None:
    """The type of this name in files, imported now if it was not; None if there is none."""
    if name in _own_types():
        kind = _own_types()[name]
        return SavedType(kind, numeric=_is_head(kind))
    module, row = _rows().get(name, (None, {}))
    found = getattr(import_module(f"sklearn.{module}"), name.removeprefix(SKLEARN), None) if module else None
    return None if found is None else SavedType(found, **row)  # not all are in every version


def name_of(kind: type) -> str | None:
    """The name of a type in files; None if it cannot be saved."""
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
    heads = {name: getattr(estimators, name) for name in estimators.__all__}
    types: dict[str, type] = {
        "frofa.FrozenFeatureExtractor": FrozenFeatureExtractor,
        "frofa.PretrainedHead": PretrainedHead,
    }
    types |= {f"frofa.estimators.{name}": kind for name, kind in heads.items() if _is_head(kind)}
    return types | {
        f"frofa.augmentations.{name}": getattr(augmentations, name)
        for name in augmentations.__all__
        if name[0].isupper() and name not in abstract
    }


def _is_head(kind: type) -> bool:
    return issubclass(kind, FeatureClassifier)


def _name_members(ensemble: Any) -> None:
    """``named_estimators_`` of an ensemble: of its fitted members, those that were not dropped."""
    if not hasattr(ensemble, "estimators_"):
        return
    kept = [name for name, estimator in ensemble.estimators if not isinstance(estimator, str)]
    ensemble.named_estimators_ = Bunch(**dict(zip(kept, ensemble.estimators_, strict=True)))


def _interpolate(regression: Any) -> None:
    """The function of a fitted isotonic regression."""
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
    """The search tree of a fitted classifier by neighbours: its data are fitted again."""
    if hasattr(neighbours, "_fit_X"):
        state = dict(vars(neighbours))
        neighbours.fit(neighbours._fit_X, neighbours.classes_[neighbours._y])
        vars(neighbours).update(state)


_NUMERIC: dict[str, Any] = {"numeric": True}
_ENSEMBLE: dict[str, Any] = {"derived": ("named_estimators_",), "finish": _name_members}
_SKLEARN: dict[str, dict[str, dict[str, Any]]] = {
    "calibration": {
        "CalibratedClassifierCV": _NUMERIC,
        "_CalibratedClassifier": {"params": ("estimator", "calibrators", "classes", "method")},
        "_SigmoidCalibration": {},
        "_TemperatureScaling": {},
    },
    "compose": {
        "ColumnTransformer": {
            "private": ("_columns", "_transformer_to_input_indices", "_remainder", "_name_to_fitted_passthrough")
        },
    },
    "decomposition": {
        "IncrementalPCA": _NUMERIC,
        "PCA": {**_NUMERIC, "private": ("_fit_svd_solver",)},
        "TruncatedSVD": _NUMERIC,
    },
    "discriminant_analysis": {
        "LinearDiscriminantAnalysis": {**_NUMERIC, "private": ("_max_components", "_n_features_out")},
        "QuadraticDiscriminantAnalysis": _NUMERIC,
    },
    "ensemble": {
        "StackingClassifier": {**_ENSEMBLE, "private": ("_label_encoder", "_n_feature_outs")},
        "VotingClassifier": _ENSEMBLE,
    },
    "feature_selection": {"SelectKBest": _NUMERIC, "SelectPercentile": _NUMERIC, "VarianceThreshold": _NUMERIC},
    "frozen": {"FrozenEstimator": {}},
    "isotonic": {"IsotonicRegression": {"derived": ("f_",), "finish": _interpolate}},
    "linear_model": {
        "LogisticRegression": _NUMERIC,
        "LogisticRegressionCV": _NUMERIC,
        "Perceptron": {**_NUMERIC, "derived": ("loss_function_",)},
        "RidgeClassifier": {**_NUMERIC, "private": ("_label_binarizer",)},
        "RidgeClassifierCV": {**_NUMERIC, "private": ("_label_binarizer",)},
        "SGDClassifier": {**_NUMERIC, "derived": ("loss_function_",)},
    },
    "model_selection": {
        name: {"params": ("n_splits", "shuffle", "random_state")} for name in ("KFold", "StratifiedKFold")
    },
    "multiclass": {"OneVsOneClassifier": {}, "OneVsRestClassifier": {}},
    "naive_bayes": {
        "BernoulliNB": _NUMERIC,
        "ComplementNB": _NUMERIC,
        "GaussianNB": _NUMERIC,
        "MultinomialNB": _NUMERIC,
    },
    "neighbors": {
        "KNeighborsClassifier": {**_NUMERIC, "private": ("_fit_X", "_y", "_fit_method"), "finish": _index},
        "NearestCentroid": _NUMERIC,
    },
    "pipeline": {"FeatureUnion": {}, "Pipeline": {"local": ("memory",), "finish": _check_steps}},
    "preprocessing": {
        "FunctionTransformer": {},  # of no function: what "passthrough" becomes
        "LabelBinarizer": {},
        "LabelEncoder": {},
        "MaxAbsScaler": _NUMERIC,
        "MinMaxScaler": _NUMERIC,
        "Normalizer": {},
        "PowerTransformer": {**_NUMERIC, "private": ("_scaler",)},
        "QuantileTransformer": _NUMERIC,
        "RobustScaler": _NUMERIC,
        "StandardScaler": _NUMERIC,
    },
    "svm": {"LinearSVC": _NUMERIC},
}
