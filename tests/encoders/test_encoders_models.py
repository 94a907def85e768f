"""Custom encoders in clones, pickles, searches and files; PyTorch modules as encoders."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_helpers import LABELS, SIGNALS, Array, Counting, moments
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import frofa
from frofa import FrozenFeatureExtractor, FunctionEncoder, TorchEncoder
from frofa.estimators import BatchedSearchCV, RidgeProbeClassifier
from frofa.exceptions import (
    EncoderError,
    SavedFileError,
)


@pytest.fixture
def module() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(40, 5))


def test_a_module_runs_in_eval_mode_and_in_its_own_type(module: nn.Module, tmp_path: Path) -> None:
    extractor = FrozenFeatureExtractor(TorchEncoder(module, device="cpu"), store=tmp_path)
    features = extractor.transform(SIGNALS.astype(np.float64))
    assert not module[1].training  # type: ignore[index]
    with torch.no_grad():
        np.testing.assert_allclose(features, module(torch.tensor(SIGNALS)).numpy(), rtol=1e-5, atol=1e-6)
    assert all(p.requires_grad for p in module.parameters())


class Scale(nn.Module):
    """A module with a buffer that is not saved, a setting, a tensor attribute and a list."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.ones(20), persistent=False)
        self.factor, self.offset, self.order = 2.0, torch.zeros(2, 20), [1, 0]

    def forward(self, x: torch.Tensor) -> Any:
        window: Any = self.window
        return ((x * window + self.offset)[:, self.order] * self.factor).flatten(1)


def changes_of_a_module() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    yield "weights in place", lambda m: m[0].weight.data.mul_(2)
    yield "weights through NumPy", lambda m: m[0].weight.detach().numpy().__imul__(2)
    yield "other weights", lambda m: setattr(m[0], "weight", nn.Parameter(m[0].weight * 2))
    yield "buffer", lambda m: m[1].window.mul_(2)
    yield "setting", lambda m: setattr(m[1], "factor", 3.0)
    yield "tensor", lambda m: m[1].offset.add_(1)
    yield "list", lambda m: m[1].order.reverse()
    yield "code", lambda m: setattr(m[1], "__class__", type("Scale", (Scale,), {"forward": lambda _, x: x.flatten(1)}))


@pytest.mark.parametrize("change", [pytest.param(change, id=name) for name, change in changes_of_a_module()])
def test_a_changed_module_has_another_key(change: Callable[[Any], Any]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(20, 20), Scale())
    extractor = FrozenFeatureExtractor(TorchEncoder(module, device="cpu"))
    before = extractor.feature_spec()
    assert extractor.feature_spec() == before
    assert FrozenFeatureExtractor(pickle.loads(pickle.dumps(extractor)).model).feature_spec() == before  # noqa: S301
    with torch.no_grad():
        change(module)
    assert extractor.feature_spec() != before


def test_functions_of_a_module_need_a_spec(module: nn.Module) -> None:
    with pytest.raises(EncoderError, match=r"features depend on preprocess.*give spec a name"):
        TorchEncoder(module, preprocess=np.log)
    specs = [FrozenFeatureExtractor(TorchEncoder(module, preprocess=np.abs, spec=spec)) for spec in ("v1", "v2")]
    assert specs[0].feature_spec() != specs[1].feature_spec()
    with pytest.raises(TypeError, match=r"expected a torch\.nn\.Module. Got str"):
        TorchEncoder("resnet")  # type: ignore[arg-type]


def test_clones_share_the_encoder_and_pickles_hold_it(module: nn.Module) -> None:
    for encoder in (Counting(), FunctionEncoder(moments, "v1"), TorchEncoder(module, device="cpu")):
        extractor = FrozenFeatureExtractor(encoder, store=None).set_output(transform="pandas")
        cloned = clone(extractor)
        assert cloned.model is encoder
        assert cloned.transform(SIGNALS).shape == (13, 5 if isinstance(encoder, TorchEncoder) else 6)
        again = pickle.loads(pickle.dumps(extractor))  # noqa: S301
        np.testing.assert_array_equal(again.transform(SIGNALS), extractor.transform(SIGNALS))
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(FrozenFeatureExtractor(FunctionEncoder(lambda x: x, "v1")))
    assert "FunctionEncoder(moments, spec='v1')" in repr(FrozenFeatureExtractor(FunctionEncoder(moments, "v1")))


class Tunable(BaseEstimator):
    """An encoder with parameters."""

    def __init__(self, power: float = 1.0):
        self.power = power

    @property
    def spec(self) -> dict[str, Any]:
        return {"name": "tunable", "power": self.power}

    def __call__(self, batch: Array) -> Array:
        return moments(np.abs(batch) ** self.power)


def test_an_encoder_with_parameters_is_searched_over(tmp_path: Path) -> None:
    pipeline = make_pipeline(FrozenFeatureExtractor(Tunable(), store=tmp_path), RidgeProbeClassifier())
    grid = {"frozenfeatureextractor__model__power": [1.0, 2.0]}
    for search in (GridSearchCV(pipeline, grid, cv=2), BatchedSearchCV(pipeline, grid, cv=2)):
        search.fit(SIGNALS, LABELS)
        assert pipeline[0].model.power == 1.0
        best = search.best_estimator_[0]
        np.testing.assert_allclose(
            best.transform(SIGNALS[:2]), moments(np.abs(SIGNALS[:2]) ** best.model.power), rtol=1e-6
        )


@pytest.mark.parametrize("kind", [GridSearchCV, BatchedSearchCV])
def test_searches_compute_features_once(kind: Any, tmp_path: Path) -> None:
    encoder = Counting(features=lambda batch: moments(batch))  # not to be pickled, nor hashed by joblib
    store = tmp_path if kind is GridSearchCV else None
    pipeline = make_pipeline(FrozenFeatureExtractor(encoder, store=store), StandardScaler(), RidgeProbeClassifier())
    grid = {"ridgeprobeclassifier__alphas": [[0.1], [1.0], [10.0]]}
    search = kind(pipeline, grid, cv=2, refit=False).fit(SIGNALS, LABELS)
    assert encoder.n_items == len(SIGNALS)
    plain = make_pipeline(StandardScaler(), RidgeProbeClassifier())
    expected = GridSearchCV(plain, grid, cv=2, refit=False).fit(moments(SIGNALS), LABELS)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])


def test_a_search_with_a_checkpoint_goes_on(module: nn.Module, tmp_path: Path) -> None:
    grid = {"ridgeprobeclassifier__alphas": [[0.1], [1.0]]}
    pipeline = make_pipeline(FrozenFeatureExtractor(TorchEncoder(module, device="cpu")), RidgeProbeClassifier())
    search = BatchedSearchCV(pipeline, grid, cv=2, checkpoint=tmp_path / "search.jsonl", refit=False)
    search.fit(SIGNALS, LABELS)
    n_lines = len((tmp_path / "search.jsonl").read_text().splitlines())
    pickle.loads(pickle.dumps(search)).fit(SIGNALS, LABELS)  # noqa: S301 (as another process would)
    assert len((tmp_path / "search.jsonl").read_text().splitlines()) == n_lines


def test_saved_with_the_spec_and_loaded_with_the_encoder(tmp_path: Path) -> None:
    model = make_pipeline(FrozenFeatureExtractor(Counting()), StandardScaler(), RidgeProbeClassifier())
    model.fit(SIGNALS, LABELS)
    file = tmp_path / "model.frofa"
    frofa.save(model, file)
    assert b"moments v1" in file.read_bytes()
    loaded = frofa.load(file, encoder=Counting(), device="cpu")
    np.testing.assert_array_equal(loaded.predict(SIGNALS), model.predict(SIGNALS))
    frofa.save(loaded, tmp_path / "again.frofa")
    with pytest.raises(SavedFileError, match=r'frofa\.load\(path, encoder=\.\.\.\)\. Its spec is "moments v1"'):
        frofa.load(file)
    with pytest.raises(SavedFileError, match=r'expected the spec "moments v1"\. Got "moments v2"'):
        frofa.load(file, encoder=Counting("moments v2"))
    frofa.save(model[1:], tmp_path / "head.frofa")
    with pytest.raises(SavedFileError, match="has no custom encoder in it: leave encoder=None"):
        frofa.load(tmp_path / "head.frofa", encoder=Counting())


def test_an_extractor_alone_is_saved(tmp_path: Path) -> None:
    frofa.save(FrozenFeatureExtractor(Counting(), store=tmp_path), tmp_path / "extractor.frofa")
    encoder = Counting()
    assert frofa.load(tmp_path / "extractor.frofa", encoder=encoder).model is encoder


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_module_on_a_gpu_gives_what_it_gives_on_a_cpu(module: nn.Module) -> None:
    on_cpu = FrozenFeatureExtractor(TorchEncoder(module, device="cpu")).transform(SIGNALS)
    for batch_size in (4, "auto"):
        extractor = FrozenFeatureExtractor(TorchEncoder(module, device="cuda"), batch_size=batch_size)
        np.testing.assert_allclose(extractor.transform(SIGNALS), on_cpu, rtol=1e-4, atol=1e-5)
