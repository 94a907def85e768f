"""From image paths to a chosen head through scikit-learn's own pipelines and searches."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import frofa
import frofa.exceptions
from frofa import FrozenFeatureExtractor, load_image_folder
from frofa.augmentations import Brightness, Posterize, Sequential
from frofa.backbones.backbone import Backbone
from frofa.estimators import LogisticProbeClassifier, MAPClassifier, PrototypeClassifier, RidgeProbeClassifier

MAP = MAPClassifier(n_steps=10, random_state=0)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch sizes of all forward passes."""
    sizes: list[int] = []
    extract = Backbone.extract

    def counted(self: Backbone, images: Any, *arguments: Any) -> Any:
        sizes.append(len(images))
        return extract(self, images, *arguments)

    monkeypatch.setattr(Backbone, "extract", counted)
    return sizes


def test_a_search_extracts_each_image_once(image_folder: Path, tmp_path: Path, computed: list[int]) -> None:
    paths, labels = load_image_folder(image_folder)
    pipeline = make_pipeline(FrozenFeatureExtractor(store=tmp_path / "store"), MAP)
    grid = [
        {"mapclassifier__augment": [None, Sequential([Brightness(0.2), Posterize(0.2)])]},
        {"mapclassifier__augment": [Brightness(variant="c")], "mapclassifier__augment__level": [0.1, 0.3]},
        {"mapclassifier__lr": [0.01, 0.03]},
    ]
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(paths, labels)
    assert sum(computed) == len(paths)
    assert len(search.cv_results_["params"]) == 6
    levels = [params.get("mapclassifier__augment__level") for params in search.cv_results_["params"]]
    assert levels == [None, None, 0.1, 0.3, None, None]

    frofa.save(search.best_estimator_, tmp_path / "model.frofa")
    loaded = frofa.load(tmp_path / "model.frofa")
    np.testing.assert_allclose(loaded.predict_proba(paths), search.predict_proba(paths), atol=1e-5)
    assert set(search.predict(paths)) <= set(labels)


@pytest.mark.parametrize("head", [RidgeProbeClassifier(), LogisticProbeClassifier(), PrototypeClassifier(), MAP])
def test_every_head_from_pandas_paths(head: Any, image_folder: Path, tmp_path: Path) -> None:
    paths, labels = load_image_folder(image_folder)
    table = pd.DataFrame({"path": paths, "label": labels})
    pipeline = make_pipeline(FrozenFeatureExtractor(store=tmp_path / "store"), head)
    weight = {f"{pipeline.steps[-1][0]}__sample_weight": np.ones(len(paths))}
    pipeline.fit(table["path"], table["label"], **weight)
    assert pipeline.predict(table["path"]).shape == (len(paths),)
    assert cross_val_score(pipeline, table["path"], table["label"], cv=2, error_score="raise").shape == (2,)


def test_pandas_output_reaches_the_head(image_folder: Path) -> None:
    paths, labels = load_image_folder(image_folder)
    pipeline = Pipeline(
        [
            ("extract", FrozenFeatureExtractor(output="cls")),
            ("scale", StandardScaler()),
            ("head", RidgeProbeClassifier()),
        ]
    ).set_output(transform="pandas")
    pipeline.fit(paths, labels)
    assert list(pipeline["head"].feature_names_in_[:2]) == ["frozenfeatureextractor0", "frozenfeatureextractor1"]
    assert pipeline[:-1].transform(paths).shape == (len(paths), 192)


def test_skipped_images_never_shift_labels(image_folder: Path) -> None:
    paths, labels = load_image_folder(image_folder)
    (image_folder / "broken.jpg").write_bytes(b"")
    extractor = FrozenFeatureExtractor(output="mean", on_error="skip")
    with (
        pytest.warns(frofa.exceptions.SkippedImagesWarning),
        pytest.raises(ValueError, match="inconsistent numbers of samples"),
    ):
        make_pipeline(extractor, PrototypeClassifier()).fit([image_folder / "broken.jpg", *paths], ["red", *labels])
