"""frofa.FrozenFeatureExtractor as a scikit-learn transformer: copies, frames, bad images, wrong parameters."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from frofa import FrozenFeatureExtractor
from frofa.exceptions import ImageReadError, SkippedImagesWarning

with pytest.warns(SkipTestWarning, match="Can't test estimator FrozenFeatureExtractor which requires input"):
    # It takes images, not (n, features): scikit-learn leaves out what needs a table, and keeps the checks of the API.
    scikit_learn_contract = parametrize_with_checks([FrozenFeatureExtractor()])


@scikit_learn_contract  # type: ignore[untyped-decorator]
def test_scikit_learn_contract(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture
def extractor(small_vit: str) -> FrozenFeatureExtractor:
    return FrozenFeatureExtractor(small_vit, output="mean", device="cpu")


@pytest.fixture
def bad_file(image_folder: Path) -> Path:
    """The fifth image, position 4, truncated."""
    file = image_folder / "green" / "0.jpg"
    file.write_bytes(file.read_bytes()[:300])
    return file


def test_clone_and_pickle_carry_no_weights(extractor: FrozenFeatureExtractor, image_paths: list[str]) -> None:
    features = extractor.fit_transform(image_paths)
    pickled = pickle.dumps(extractor)
    assert len(pickled) < 2000
    again = pickle.loads(pickled)  # noqa: S301 (written one line above)
    assert again.weights_digest_ == extractor.weights_digest_
    copy = clone(extractor)
    assert copy.get_params() == extractor.get_params()
    assert not hasattr(copy, "weights_digest_")
    for other in (again, copy):
        np.testing.assert_array_equal(other.transform(image_paths), features)


def test_parameters_are_set_read_and_shown() -> None:
    extractor = FrozenFeatureExtractor(layer=3).set_params(output="cls", layer=-2)
    assert {"output": "cls", "layer": -2, "model": "frofa/vit_tiny_tin200"}.items() <= extractor.get_params().items()
    assert repr(extractor) == "FrozenFeatureExtractor(layer=-2, output='cls')"


def test_frames_have_names_and_the_index_of_the_input(
    extractor: FrozenFeatureExtractor, image_paths: list[str]
) -> None:
    column = pd.Series(image_paths, index=range(100, 112))
    features = extractor.fit_transform(column)
    frame = clone(extractor).set_output(transform="pandas").fit_transform(column)
    assert frame.columns.tolist() == [f"frozenfeatureextractor{i}" for i in range(16)]
    assert frame.columns.tolist() == extractor.get_feature_names_out().tolist()
    assert frame.index.tolist() == column.index.tolist()
    np.testing.assert_array_equal(frame.to_numpy(), features)


def test_skipped_images_leave_their_rows_out_of_frames(
    extractor: FrozenFeatureExtractor, image_paths: list[str], bad_file: Path
) -> None:
    column = pd.Series(image_paths, index=range(100, 112))
    extractor.set_params(on_error="skip").set_output(transform="pandas")
    with pytest.warns(SkippedImagesWarning, match=bad_file.name):
        frame = extractor.fit_transform(column)
    assert frame.index.tolist() == [100, 101, 102, 103, *range(105, 112)]
    assert frame.columns[0] == "frozenfeatureextractor0"


def test_tokens_do_not_fit_into_frames(small_vit: str, image_paths: list[str]) -> None:
    extractor = FrozenFeatureExtractor(small_vit, device="cpu").fit()
    with config_context(transform_output="pandas"), pytest.raises(ValueError, match=r"three dimensions.*'pandas'"):
        extractor.transform(image_paths)
    with pytest.raises(ValueError, match="no feature names: choose 'cls'"):
        extractor.get_feature_names_out()
    with pytest.raises(ValueError, match=r"three dimensions.*'pandas'"):
        extractor.set_output(transform="pandas").transform(image_paths)


def test_bad_image_is_named(extractor: FrozenFeatureExtractor, image_paths: list[str], bad_file: Path) -> None:
    with pytest.raises(ImageReadError, match=r"(?i)at position 4 \(.*truncated") as caught:
        extractor.transform(image_paths)
    assert (caught.value.position, caught.value.name) == (4, str(bad_file))
    assert isinstance(caught.value, ValueError)
    bad_file.write_text("no image at all")
    with pytest.raises(ImageReadError, match=r"position 4 .*: not an image, or of a format that Pillow cannot read$"):
        extractor.transform(image_paths)
    bad_file.unlink()
    with pytest.raises(ImageReadError, match=r"position 4 .*No such file"):
        extractor.transform(image_paths)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_bad_images_are_skipped_with_their_labels(
    batch_size: int, extractor: FrozenFeatureExtractor, image_paths: list[str], bad_file: Path
) -> None:
    good = [path for path in image_paths if path != str(bad_file)]
    expected = extractor.transform(good)
    Path(image_paths[11]).unlink()
    extractor.set_params(on_error="skip", batch_size=batch_size)
    with pytest.warns(SkippedImagesWarning, match=r"skipped 2 of 12 images: .*0\.jpg \(position 4\).*position 11"):
        extraction = extractor.extract(image_paths, [str(i) for i in range(12)])
    kept = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]
    np.testing.assert_allclose(extraction.features, expected[:10], atol=1e-5)
    assert extraction.kept.tolist() == kept
    assert extraction.y is not None
    assert extraction.y.tolist() == [str(i) for i in kept]
    assert [(error.position, error.name) for error in extraction.skipped] == [(4, str(bad_file)), (11, image_paths[11])]
    assert extraction.n_computed == 10


def test_the_warning_lists_five_images(extractor: FrozenFeatureExtractor, image_paths: list[str]) -> None:
    extractor.set_params(on_error="skip")
    with pytest.warns(SkippedImagesWarning, match=r"skipped 7 of 19 .*position 4\).*; and 2 more\. To drop") as caught:
        assert len(extractor.transform(["absent.png"] * 7 + image_paths)) == 12
    assert "position 5" not in str(caught[0].message)


def test_nothing_but_bad_images_is_an_error(extractor: FrozenFeatureExtractor, bad_file: Path) -> None:
    with pytest.raises(ImageReadError, match="position 0"):
        extractor.set_params(on_error="skip").transform([bad_file, bad_file])


def test_labels_must_match(extractor: FrozenFeatureExtractor, image_paths: list[str]) -> None:
    with pytest.raises(ValueError, match=r"Got 12 images, and labels of shape \(3,\)"):
        extractor.extract(image_paths, [0, 1, 2])
    with pytest.raises(ValueError, match=r"at least one image. Got none"):
        extractor.extract([])
    assert extractor.extract(image_paths).y is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model": 3}, "'model' parameter .* Got 3"),
        ({"output": "gap"}, "'output' parameter .* Got 'gap'"),
        ({"layer": 1.5}, "'layer' parameter .* Got 1.5"),
        ({"layer": 2}, "has layers -2 to 1. Got layer=2"),
        ({"layer": -3}, "has layers -2 to 1. Got layer=-3"),
        ({"output": "pooled", "layer": 0}, "needs the last layer and norm=True. Got layer=0, norm=True"),
        ({"output": "pooled", "norm": False}, "needs the last layer and norm=True. Got layer=None, norm=False"),
        ({"norm": "yes"}, "'norm' parameter .* Got 'yes'"),
        ({"image_size": 0}, "'image_size' parameter .* Got 0"),
        ({"image_size": "64"}, "'image_size' parameter .* Got '64'"),
        ({"image_size": (64, 64, 3)}, r"image_size must be .* Got \(64, 64, 3\)"),
        ({"image_size": (64.0, 64)}, r"image_size must be .* Got \(64.0, 64\)"),
        ({"image_size": 3}, "cannot take images of size 3x3"),
        ({"batch_size": 0}, "'batch_size' parameter .* Got 0"),
        ({"device": "abacus"}, "device must be .* Got 'abacus'"),
        ({"precision": "float8"}, "'precision' parameter .* Got 'float8'"),
        ({"dtype": "int8"}, "'dtype' parameter .* Got 'int8'"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter .* Got 1.5"),
        ({"store": 3}, "'store' parameter .* Got 3"),
        ({"on_error": "ignore"}, "'on_error' parameter .* Got 'ignore'"),
        ({"verbose": "loud"}, "'verbose' parameter .* Got 'loud'"),
    ],
)
def test_invalid_parameters_are_named(
    parameters: dict[str, Any], message: str, extractor: FrozenFeatureExtractor, image_paths: list[str]
) -> None:
    extractor.set_params(**parameters)
    for call in (extractor.fit, extractor.transform):
        with pytest.raises(ValueError, match=message):
            call(image_paths)
