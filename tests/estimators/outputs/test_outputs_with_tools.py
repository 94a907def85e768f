"""Numbers and several labels in pipelines from images, in searches, and beside MAPIE."""

from pathlib import Path

import numpy as np
import pytest
from mapie.regression import CrossConformalRegressor
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.pipeline import make_pipeline

import frofa
from frofa import FrozenFeatureExtractor, load_image_folder
from frofa.estimators import BatchedSearchCV, BatchFallbackWarning, MultiLabelProbeClassifier, ShrinkageRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 10))
Y = X @ RNG.normal(size=10) + RNG.normal(size=60)


def test_images_to_numbers_and_labels(image_folder: Path, tmp_path: Path) -> None:
    paths, labels = load_image_folder(image_folder)
    numbers = np.arange(len(paths), dtype=float)
    extractor = FrozenFeatureExtractor(output="auto", n_views=2, store=tmp_path / "store", device="cpu")
    model = make_pipeline(extractor, ShrinkageRegressor())
    scores = cross_val_score(model, paths, numbers, cv=2, scoring="neg_mean_absolute_error")
    assert np.isfinite(scores).all()
    stored = sorted((tmp_path / "store").rglob("features.npy"))
    model.fit(paths, numbers)
    assert stored == sorted((tmp_path / "store").rglob("features.npy"))  # each image once, whatever the folds
    # Lazy features of the store, and the same in memory.
    features = model[0].transform(paths)
    np.testing.assert_allclose(ShrinkageRegressor().fit(features, numbers).predict(features), model.predict(paths))
    indicator = (np.asarray(labels)[:, None] == np.unique(labels)).astype(int)
    several = make_pipeline(extractor, MultiLabelProbeClassifier()).fit(paths, indicator)
    for name, fitted in (("numbers", model), ("labels", several)):
        frofa.save(fitted, tmp_path / f"{name}.frofa")
        loaded = frofa.load(tmp_path / f"{name}.frofa")
        np.testing.assert_allclose(loaded.predict(paths), fitted.predict(paths))


def test_batched_searches_fit_them_one_after_another() -> None:
    search = BatchedSearchCV(ShrinkageRegressor(), {"block_sizes": [None, [5, 5]]}, cv=3)
    with pytest.warns(BatchFallbackWarning, match="none of frofa's heads|no batched training"):
        search.fit(X, Y)
    assert search.best_score_ > 0.5


def test_intervals_are_those_of_mapie() -> None:
    regressor = ShrinkageRegressor().fit(X[:30], Y[:30])
    knife = CrossConformalRegressor(ShrinkageRegressor(), confidence_level=0.8, cv=LeaveOneOut(), random_state=0)
    _, expected = knife.fit_conformalize(X[:30], Y[:30]).predict_interval(X[30:])
    _, found = regressor.predict_interval(X[30:], 0.8)
    assert found.shape == expected.shape
    # MAPIE fits everything again, normalisations and weights of members, too.
    assert np.abs(found - expected).mean() < 0.02 * (expected[:, 1] - expected[:, 0]).mean()
