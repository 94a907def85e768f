"""FrozenFeatureExtractor with several outputs, layers and views: blocks of one pass, their names, stores and frames."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

import frofa
from frofa import FeatureBlocks, FeatureStore, FrozenFeatureExtractor, RaggedTokens, extract_many
from frofa.backbones.backbone import Backbone
from frofa.decoding.views import make_views
from frofa.estimators import BatchedSearchCV, RidgeProbeClassifier, ShrinkageProbeClassifier
from frofa.exceptions import EncoderError, SkippedImagesWarning
from frofa.store import FeatureArray

SEVERAL = ["pooled", "mean", ("mean", -2), ("cls", 0), "tokens"]
NAMES = ("pooled", "mean", "mean@0", "cls@0", "tokens")


def extractor(model: str, output: Any = SEVERAL, **parameters: Any) -> FrozenFeatureExtractor:
    return FrozenFeatureExtractor(model, output=output, device="cpu", **parameters)


def alone(model: str, output: Any, paths: list[str], **parameters: Any) -> Any:
    return extractor(model, output, **parameters).transform(paths)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """For each forward pass, images and outputs."""
    found: list[tuple[int, int]] = []
    original = Backbone.extract

    def counted(self: Backbone, images: Any, requests: Any, *options: Any) -> Any:
        found.append((len(images), len(requests)))
        return original(self, images, requests, *options)

    monkeypatch.setattr(Backbone, "extract", counted)
    return found


@pytest.mark.parametrize("stored", [False, True])
def test_several_outputs_are_those_of_each_alone(
    stored: bool, small_vit: str, image_paths: list[str], tmp_path: Path, passes: list[Any]
) -> None:
    store = tmp_path / "store" if stored else None
    blocks = extractor(small_vit, store=store).fit_transform(image_paths)
    assert passes == [(8, 5), (4, 5)]
    assert isinstance(blocks, FeatureBlocks)
    assert (blocks.names, blocks.tokens, blocks.n_views) == (NAMES, ("tokens",), 1)
    for name in NAMES:
        output, _, layer = name.partition("@")
        expected = alone(small_vit, output, image_paths, layer=int(layer) if layer else None)
        [found] = blocks.views(name)
        assert isinstance(found, FeatureArray) == stored
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_stored_outputs_are_those_of_the_same_extractors_alone(
    small_vit: str, image_paths: list[str], tmp_path: Path, passes: list[Any]
) -> None:
    store = FeatureStore(tmp_path / "store")
    alone(small_vit, "mean", image_paths[:6], store=store)
    passes.clear()
    extraction = extractor(small_vit, ["mean", "cls"], store=store).extract(image_paths, range(12))
    counts = (extraction.n_computed, extraction.n_from_store, extraction.n_not_kept)
    assert counts == (12, 0, 0)
    passes.clear()
    again = extractor(small_vit, ["cls", "mean"], store=store).extract([*image_paths, image_paths[3]])
    assert (again.n_computed, again.n_from_store, again.n_duplicates) == (0, 12, 1)
    assert passes == []
    assert extractor(small_vit, "cls", store=store).extract(image_paths).n_computed == 0


def test_a_layer_is_that_of_all_outputs_without_their_own(small_vit: str, image_paths: list[str]) -> None:
    blocks = extractor(small_vit, ["mean", ("mean", 1)], layer=0).transform(image_paths)
    assert blocks.names == ("mean", "mean@1")
    np.testing.assert_array_equal(blocks.block("mean")[:, 0], alone(small_vit, "mean", image_paths, layer=0))
    np.testing.assert_array_equal(blocks.block("mean@1")[:, 0], alone(small_vit, "mean", image_paths))


def test_specs_are_those_of_each_output_and_view(small_vit: str) -> None:
    specs = extractor(small_vit, ["mean", ("cls", -2)], n_views=3).feature_spec()
    assert {name: len(views) for name, views in specs.items()} == {"mean": 3, "cls@0": 3}
    assert specs["mean"][0] == extractor(small_vit, "mean").feature_spec()
    assert specs["cls@0"][0] == extractor(small_vit, "cls", layer=0).feature_spec()
    assert len({spec.digest for views in specs.values() for spec in views}) == 6
    assert specs["mean"][:2] == extractor(small_vit, "mean", n_views=2).feature_spec()["mean"]


def test_labels_and_bad_images(small_vit: str, image_paths: list[str]) -> None:
    Path(image_paths[4]).write_text("no image")
    chosen = extractor(small_vit, ["mean", "cls"], n_views=2, on_error="skip")
    with pytest.warns(SkippedImagesWarning, match="skipped 1 of 12"):
        extraction = chosen.extract(image_paths, range(12))
    assert extraction.y is not None
    assert extraction.y.tolist() == extraction.kept.tolist() == [0, 1, 2, 3, *range(5, 12)]
    assert len(extraction.features) == 11
    frame = chosen.set_output(transform="pandas")
    with pytest.warns(SkippedImagesWarning):
        rows = frame.transform(pd.Series(image_paths, index=range(100, 112)))
    assert rows.index.tolist() == [100, 101, 102, 103, *range(105, 112)]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_have_the_blocks_side_by_side(library: str, small_vit: str, image_paths: list[str]) -> None:
    pytest.importorskip(library)
    chosen = extractor(small_vit, ["pooled", ("mean", 0)], n_views=2)
    blocks = chosen.transform(image_paths)
    frame = clone(chosen).set_output(transform=library).transform(image_paths)
    assert list(frame.columns) == blocks.feature_names() == chosen.get_feature_names_out().tolist()
    assert (frame.columns[0], frame.columns[-1]) == ("pooled_0", "mean@0_15")
    assert chosen._n_features_out == blocks.shape[1] == 32
    np.testing.assert_array_equal(frame.to_numpy(), np.asarray(blocks))
    with pytest.raises(ValueError, match="three dimensions"):
        extractor(small_vit).set_output(transform=library).transform(image_paths)
    with pytest.raises(ValueError, match="no feature names"):
        extractor(small_vit, ["tokens"]).get_feature_names_out()


def test_copies_and_files_have_all_parameters(small_vit: str, image_paths: list[str], tmp_path: Path) -> None:
    chosen = extractor(small_vit, ["pooled", ("mean", 0)], n_views=2, view_area=(0.25, 0.5), mirror=False)
    pipeline = make_pipeline(chosen, LogisticRegression()).fit(image_paths, ["a", "b"] * 6)
    expected = pipeline.predict_proba(image_paths)
    frofa.save(pipeline, tmp_path / "pipeline.frofa")
    pickled = pickle.loads(pickle.dumps(pipeline))  # noqa: S301 (written here)
    for other in (pickled, frofa.load(tmp_path / "pipeline.frofa")):
        assert other[0].get_params() == chosen.get_params()
        np.testing.assert_allclose(other.predict_proba(image_paths), expected, rtol=1e-6)
    assert clone(chosen).get_params() == chosen.get_params()
    changed = clone(chosen).set_params(output="mean", n_views=1)
    np.testing.assert_array_equal(changed.transform(image_paths), alone(small_vit, "mean", image_paths))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"output": []}, r"one output or more\. Got \[\]"),
        ({"output": ["mean", "cls", "mean"]}, "different outputs. Got 'mean' twice"),
        ({"output": ["mean", ("mean", 1)]}, r"different outputs\. Got \('mean', 1\), which 'mean' is already"),
        ({"output": [("mean", -1), ("mean", 1)]}, r"Got \('mean', 1\), which 'mean@1' is already"),
        ({"output": ("mean", 1)}, r"expected a list of outputs, such as \[\('mean', 1\)\]"),
        ({"output": ["mean", "colour"]}, r"\('mean', 9\)\. Got 'colour'"),
        ({"output": ["mean", "auto"]}, "Got 'auto'"),
        ({"output": [("mean", 1.0)]}, r"Got \('mean', 1\.0\)"),
        ({"output": [("mean", None)]}, r"Got \('mean', None\)"),
        ({"output": [["mean", 1, 2]]}, r"Got \['mean', 1, 2\]"),
        ({"output": [("mean", 7)]}, "has layers -2 to 1. Got layer=7"),
        ({"output": ["mean", ("pooled", 0)]}, "'pooled' is the model's own pooling, which needs the last layer"),
        ({"output": "auto", "layer": 0}, r"output='auto' chooses among outputs of the last layer.* layer=0, norm=True"),
        ({"output": "auto", "norm": False}, "layer=None, norm=False: name the outputs"),
        ({"output": "colour"}, "'output' parameter"),
        ({"output": {"mean"}}, "'output' parameter"),
        ({"n_views": 0}, "'n_views' parameter"),
        ({"view_area": (0, 1)}, "above 0 and up to 1"),
        ({"view_area": (0.5,)}, "range of areas"),
        ({"view_area": 0.5}, "'view_area' parameter"),
        ({"mirror": "yes"}, "'mirror' parameter"),
    ],
)
def test_wrong_outputs_and_views_are_refused(parameters: dict[str, Any], message: str, small_vit: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrozenFeatureExtractor(small_vit, device="cpu", **parameters).fit()


def test_outputs_that_a_model_lacks_are_refused(save_backbone: Any) -> None:
    model = save_backbone("resnet10t", stem_width=8)
    with pytest.raises(ValueError, match="has no class token"):
        extractor(model, ["pooled", "cls"]).fit()
    with pytest.raises(ValueError, match="need a vision transformer"):
        extractor(model, ["pooled", ("mean", 0)]).fit()


@pytest.mark.parametrize("parameters", [{"output": ["mean"]}, {"output": "auto"}, {"n_views": 2}, {"mirror": False}])
def test_custom_encoders_have_one_output_and_view(parameters: dict[str, Any]) -> None:
    class Means:
        spec = "means"

        def __call__(self, batch: Any) -> Any:
            return batch.mean((1, 2))

    with pytest.raises(EncoderError, match="leave output, layer, norm, n_views"):
        FrozenFeatureExtractor(Means(), **parameters).transform(np.zeros((2, 4, 4, 3), np.float32))


def test_views_come_from_the_same_images(small_vit: str, image_paths: list[str]) -> None:
    # One view a forward pass: rounding may follow the size of a batch.
    one = {"batch_size": 1}
    blocks = extractor(small_vit, "mean", n_views=4, **one).transform(image_paths)
    assert blocks.block("mean").shape == (12, len(make_views(4)), 16)
    views = blocks.views("mean")
    np.testing.assert_array_equal(views[0], alone(small_vit, "mean", image_paths, **one))
    assert all(not np.allclose(views[0], view) for view in views[1:])
    fewer = extractor(small_vit, ["cls", "mean"], n_views=2, **one).transform(image_paths)
    np.testing.assert_array_equal(fewer.block("mean"), blocks.block("mean")[:, :2])


def test_more_views_add_to_the_store(small_vit: str, image_paths: list[str], tmp_path: Path, passes: list[Any]) -> None:
    first = extractor(small_vit, "mean", n_views=2, store=tmp_path / "store").extract(image_paths)
    images = sum(n for n, _ in passes)
    assert images == 24
    passes.clear()
    blocks = extractor(small_vit, "mean", n_views=3, store=tmp_path / "store").transform(image_paths)
    assert sum(n for n, _ in passes) == 12
    np.testing.assert_array_equal(blocks.block("mean")[:, :2], first.features.block("mean"))
    assert all(isinstance(view, FeatureArray) for view in blocks.views("mean"))


def test_tokens_of_images_of_their_own_size_are_a_ragged_block(save_backbone: Any, image_paths: list[str]) -> None:
    model = save_backbone("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2)
    blocks = extractor(model, ["tokens", "mean"], max_tokens=12).transform(image_paths)
    [tokens], [mean] = blocks.views("tokens"), blocks.views("mean")
    assert isinstance(tokens, RaggedTokens)
    np.testing.assert_allclose(
        mean[0], np.asarray(tokens[0]).mean((0, 1)) if tokens[0].ndim == 3 else tokens[0].mean(0), atol=1e-5
    )


def test_extract_many_takes_extractors_of_several_outputs(
    small_vit: str, image_paths: list[str], passes: list[Any]
) -> None:
    found = extract_many(
        {
            "one": extractor(small_vit, "tokens", dtype="float16"),
            "several": extractor(small_vit, ["mean", "cls"]),
            "auto": extractor(small_vit, "auto"),
        },
        image_paths,
    )
    assert passes == [(8, 4), (4, 4)]  # the mean is two extractors', and computed once
    assert found["one"].features.shape == (12, 16, 16)
    assert found["several"].features.names == ("mean", "cls")
    assert found["auto"].features.names == ("pooled", "mean")
    for name in ("mean", "cls"):
        np.testing.assert_array_equal(found["several"].features.block(name)[:, 0], alone(small_vit, name, image_paths))


@pytest.mark.parametrize("stored", [False, True])
def test_searches_over_images(stored: bool, small_vit: str, image_paths: list[str], tmp_path: Path) -> None:
    labels = np.array([Path(path).parent.name for path in image_paths])
    chosen = extractor(small_vit, "auto", n_views=3, store=tmp_path / "store" if stored else None)
    array = np.asarray(chosen.transform(image_paths))
    grid, cv = {"ridgeprobeclassifier__alphas": [(0.1,), (10.0,)]}, StratifiedKFold(4)
    model = make_pipeline(chosen, RidgeProbeClassifier())
    found = BatchedSearchCV(model, grid, cv=cv).fit(image_paths, labels)
    expected = GridSearchCV(model.set_params(frozenfeatureextractor="passthrough"), grid, cv=cv).fit(array, labels)
    np.testing.assert_array_equal(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    alone = cross_val_predict(make_pipeline(chosen, ShrinkageProbeClassifier()), image_paths, labels, cv=cv)
    assert alone.shape == labels.shape


def test_columns_of_images_beside_others(small_vit: str, image_paths: list[str]) -> None:
    frame = pd.DataFrame({"image": image_paths, "weight": np.arange(12.0)})
    chosen = extractor(small_vit, ["pooled", "mean"], n_views=2)
    columns = ColumnTransformer([("image", chosen, "image")], remainder="passthrough", verbose_feature_names_out=False)
    found = columns.fit_transform(frame)
    np.testing.assert_array_equal(found[:, :32], np.asarray(chosen.transform(image_paths)))
    assert columns.get_feature_names_out()[[0, 16, 32]].tolist() == ["pooled_0", "mean_0", "weight"]
