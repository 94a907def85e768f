"""AttentionDisplay: pictures as the backbone saw them, and the head's own weights over them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline

from frofa import AttentionDisplay, FeatureBlocks, FrozenFeatureExtractor, FunctionEncoder, ImageClassifier
from frofa.decoding.patches import patchify
from frofa.displays.attention import layer, looking, overlay, said
from frofa.displays.attention.pictures import seen_by
from frofa.estimators import ConformalClassifier, FewShotClassifier, MAPClassifier, SoftMoEClassifier
from frofa.estimators.blending import joining
from frofa.estimators.blending.weights import Blend
from frofa.exceptions import ImageReadError
from frofa.images.image_set import image_set

RNG = np.random.default_rng(0)
SIZES = [(90, 60), (64, 64), (50, 120), (33, 64)] * 3
IMAGES = [Image.fromarray(RNG.integers(0, 256, (h, w, 3), np.uint8)) for w, h in SIZES]
Y = np.array(["ant", "bee"] * 6)
SETTINGS: dict[str, Any] = {"augment": None, "n_steps": 3, "random_state": 0, "device": "cpu", "novelty": None}


def extractor(**params: Any) -> FrozenFeatureExtractor:
    return FrozenFeatureExtractor(**{"output": "tokens", "device": "cpu", "n_jobs": 1, **params})


def pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image)


def texts(display: AttentionDisplay) -> list[str]:
    return [text.get_text() for text in display.ax_.texts]


@pytest.mark.parametrize("image_size", [None, (32, 96)])
def test_pictures_are_what_goes_into_the_model(image_size: Any) -> None:
    made = extractor(image_size=image_size)
    pictures, backbone = seen_by(made, IMAGES), made._backbone()
    assert len(pictures) == len(IMAGES)
    for image, picture in zip(IMAGES, pictures, strict=True):
        normalised = backbone.preprocessing.normalise(backbone_pixels(picture))[0]
        np.testing.assert_array_equal(normalised, backbone.preprocess(image))


def backbone_pixels(picture: Image.Image) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(pixels(picture).copy())[None]


def test_pictures_of_an_unknown_preprocessing_are_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    made = extractor()
    known = [pixels(picture) for picture in seen_by(made, IMAGES[:4])]
    backbone = made._backbone()
    whole = type(backbone.preprocessing)(backbone.preprocessing.whole)
    monkeypatch.setattr(backbone, "preprocessing", whole)
    for expected, picture in zip(known, seen_by(made, IMAGES[:4]), strict=True):
        np.testing.assert_array_equal(pixels(picture), expected)


def test_pictures_of_images_of_their_own_size_are_their_patches() -> None:
    made = extractor(max_tokens=30)
    tokens, pictures = made.transform(IMAGES), seen_by(made, IMAGES)
    geometry: Any = made._backbone().preprocessing.geometry
    for image, picture, grid in zip(IMAGES, pictures, tokens.grids, strict=True):
        assert picture.size == (grid[1] * 8, grid[0] * 8)
        np.testing.assert_array_equal(patchify(pixels(picture), (8, 8)), geometry(image)[1 : 1 + grid.prod()])


@pytest.mark.parametrize("max_tokens", [None, 40])
def test_a_change_of_the_picture_is_where_the_tokens_have_it(max_tokens: int | None) -> None:
    """Tokens of the first block change most where a corner of a wide image was painted."""
    made = extractor(max_tokens=max_tokens, layer=0)
    image = Image.new("RGB", (192, 96), "grey")
    painted = image.copy()
    painted.paste("red", (120, 66, 132, 78))
    first, other = (pixels(picture).astype(int) for picture in seen_by(made, [image, painted]))
    head = MAPClassifier(n_tokens=None, **SETTINGS)
    tokens = made.transform([image, painted])
    grid = (8, 8) if max_tokens is None else tuple(tokens.grids[0].tolist())
    change = np.abs(np.asarray(tokens[1]) - np.asarray(tokens[0])).reshape(*grid, -1).sum(2)
    # The same layout as attention has, by a map of which each token's weight is its change.
    [laid] = looking.on_grids([change.reshape(1, -1)], head, tokens[:1], grid)
    rows, columns = first.shape[0] // grid[0], first.shape[1] // grid[1]
    moved = np.abs(other - first).sum(2).reshape(grid[0], rows, grid[1], columns).sum((1, 3))
    assert np.unravel_index(laid[0].argmax(), grid) == np.unravel_index(moved.argmax(), grid)


@pytest.mark.parametrize("max_tokens", [None, 30])
@pytest.mark.parametrize("head", [MAPClassifier(**SETTINGS), SoftMoEClassifier(**SETTINGS)], ids=["map", "moe"])
def test_weights_are_those_of_the_head(head: Any, max_tokens: int | None) -> None:
    model = make_pipeline(extractor(max_tokens=max_tokens), head).fit(IMAGES, Y)
    display = AttentionDisplay.from_estimator(model, IMAGES, Y, n_images=3)
    tokens = model[0].transform(IMAGES)
    for i, expected in enumerate(model[-1].attention(tokens)):
        np.testing.assert_allclose(display.attention[i].reshape(len(expected), -1), expected, atol=1e-6)
    assert display.maps == ("slot" if isinstance(head, SoftMoEClassifier) else "attention head")
    grid = (8, 8) if max_tokens is None else tuple(tokens.grids[0])
    assert display.attention[0].shape[1:] == grid
    proba = model.predict_proba(IMAGES)
    label = model.classes_[proba[0].argmax()]
    assert texts(display)[0].split("\n")[0] == f"{proba[0].max():.2f} {label}"
    assert ("is ant" in texts(display)[0]) == (label != "ant")
    assert len(display.ax_.images) == 6


def test_each_map_and_the_most_focused_images() -> None:
    weights = np.full((4, 2, 6), 1 / 6)
    weights[2, 1] = [0, 0, 0, 0, 0.9, 0.1]
    weights[3, 0] = [0.3, 0.1, 0.1, 0.2, 0.2, 0.1]
    display = AttentionDisplay.from_predictions(
        IMAGES[:4], weights, grid=(2, 3), head="each", order="focused", n_images=2
    )
    assert display.shown_.tolist() == [2, 3]
    np.testing.assert_allclose(display.focus_, [1, 1, 5.4, 1.8], rtol=1e-6)
    assert texts(display) == [
        *("image 3", "mean\n0.5 to 3.2 times even", "attention head 0\nnearly even"),
        *("attention head 1\n0.0 to 5.4 times even", "image 4", "mean\n0.8 to 1.4 times even"),
        *("attention head 0\n0.6 to 1.8 times even", "attention head 1\nnearly even"),
    ]
    one = display.plot(display.figure_.add_subplot(), head=1, n_images=1)
    assert texts(one)[1] == "attention head 1\nnearly even"
    with pytest.raises(ValueError, match="expected one of 2 maps"):
        display.plot(head=2)
    with pytest.raises(ValueError, match="expected order"):
        display.plot(order="random")  # type: ignore[arg-type]


def test_class_tokens_are_no_patches() -> None:
    tokens = RNG.normal(size=(12, 6, 16)).astype(np.float32)
    head = MAPClassifier(n_prefix=2, grid=(1, 4), **SETTINGS).fit(tokens, Y)
    display = AttentionDisplay.from_estimator(head, tokens, images=IMAGES)
    np.testing.assert_array_equal(np.concatenate(display.attention)[:, 0], head.attention(tokens)[:, 0, 2:])
    with pytest.raises(ValueError, match="images= has to give"):
        AttentionDisplay.from_estimator(head, tokens)
    with pytest.raises(ValueError, match="Got 4 tokens, and a grid of 3 x 2"):
        AttentionDisplay.from_estimator(head, tokens, images=IMAGES, grid=(3, 2))


def test_a_blend_shows_the_member_that_counts_most(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.array([0.4, 0, 0.1, 0.2, 0.3])
    monkeypatch.setattr(
        joining, "choose_weights", lambda *_: Blend(weights, 1.0, np.zeros(len(weights)), np.zeros(len(weights)))
    )
    tokens = RNG.normal(size=(12, 9, 16)).astype(np.float32)
    blocks = FeatureBlocks({"mean": [tokens.mean(1)] * 2, "tokens": [tokens, tokens[:, ::-1]]})
    blend = FewShotClassifier(effort="high", n_steps=4, n_folds=2, random_state=0, device="cpu", novelty=None)
    blend.fit(blocks, Y)
    display = AttentionDisplay.from_estimator(blend, blocks, images=IMAGES)
    assert (display.name, display.maps) == ("soft_moe brightness 0.3", "slot")
    other = AttentionDisplay.from_estimator(blend, blocks, images=IMAGES, member="map brightness 0.3")
    expected = blend.members_["map brightness 0.3"].estimator.attention(tokens)
    np.testing.assert_array_equal(np.stack(other.attention).reshape(expected.shape), expected)
    with pytest.raises(ValueError, match=r"expected one of the token heads that count, map bright.*Got 'map'"):
        AttentionDisplay.from_estimator(blend, blocks, images=IMAGES, member="map")


def test_an_image_classifier_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.array([0.4, 0.6, 0, 0, 0])
    monkeypatch.setattr(
        joining, "choose_weights", lambda *_: Blend(weights, 1.0, np.zeros(len(weights)), np.zeros(len(weights)))
    )
    few = FewShotClassifier(effort="high", n_steps=4, n_folds=2, device="cpu", random_state=0, novelty=None)
    monkeypatch.setattr(ImageClassifier, "_few_shot", lambda _: few)
    model = ImageClassifier(effort="high", n_views=2, n_jobs=1, device="cpu").fit(IMAGES, Y)
    display = AttentionDisplay.from_estimator(model, image_set(IMAGES, Y))
    tokens = extractor().transform(IMAGES)
    expected = model.head_.members_["map"].estimator.attention(tokens)
    np.testing.assert_allclose(np.stack(display.attention).reshape(expected.shape), expected, atol=1e-5)
    assert display.name == "map"
    proba = model.predict_proba(IMAGES[:1])[0]
    assert texts(display)[0].startswith(f"{proba.max():.2f} {model.classes_[proba.argmax()]}")
    sets: Any = ConformalClassifier(model)
    sets.head_ = model
    assert looking.inside(sets) is model


def test_each_image_is_looked_at_by_the_fold_that_did_not_see_it() -> None:
    model = make_pipeline(extractor(), MAPClassifier(**SETTINGS))
    found = cross_validate(model, IMAGES, Y, cv=2, return_estimator=True, return_indices=True)
    display = AttentionDisplay.from_cv_results(found, IMAGES, Y)
    tokens = model[0].transform(IMAGES)
    for fitted, rows in zip(found["estimator"], found["indices"]["test"], strict=True):
        expected = fitted[-1].attention(tokens[rows])
        for position, weights in zip(rows, expected, strict=True):
            np.testing.assert_allclose(display.attention[position].reshape(weights.shape), weights, atol=1e-6)
            np.testing.assert_array_equal(
                pixels(display.pictures[position]), pixels(seen_by(model[0], IMAGES)[position])
            )
    with pytest.raises(ValueError, match="Got no estimator and no indices"):
        AttentionDisplay.from_cv_results({}, IMAGES)


def test_a_custom_encoder_is_shown_whole_on_a_square_or_the_given_grid() -> None:
    def encode(batch: Any) -> Any:
        """Give tokens of 2 x 6 parts of each image."""
        return np.asarray(batch, np.float32).reshape(len(batch), 2, 8, 6, 8, 3).mean((2, 4)).reshape(len(batch), 12, 3)

    images = RNG.integers(0, 256, (12, 16, 48, 3), np.uint8)
    made = FrozenFeatureExtractor(FunctionEncoder(encode, spec="parts"))
    model = make_pipeline(made, MAPClassifier(num_heads=1, **SETTINGS)).fit(images, Y)
    display = AttentionDisplay.from_estimator(model, images, Y, grid=(2, 6), images=list(images))
    assert display.attention[0].shape == (1, 2, 6)
    np.testing.assert_array_equal(pixels(display.pictures[3]), images[3])
    with pytest.raises(ValueError, match=r"Got 12 tokens, which is no square: say grid="):
        AttentionDisplay.from_estimator(model, images)


def test_notebooks_show_the_picture_with_a_text() -> None:
    first, other = (
        AttentionDisplay.from_predictions(IMAGES[:2], np.eye(4)[None].repeat(2, 0), name="<map>") for _ in range(2)
    )
    assert first.describe() == (
        "Attention of <map> over 2 images: the most that a patch gets in one of the maps is 4.0 to 4.0 times an even "
        "share."
    )
    shown = str(first._repr_html_())
    assert 'alt="Attention of &lt;map&gt; over 2 images' in shown
    assert shown == other._repr_html_()


def test_what_cannot_be_shown_is_refused(tmp_path: Any) -> None:
    fast = ImageClassifier(n_views=1, n_jobs=1, device="cpu").fit(IMAGES, Y)
    with pytest.raises(ValueError, match=r"no token head counts in this blend.*effort is fast"):
        AttentionDisplay.from_estimator(fast, IMAGES)
    probe = fast.head_.members_["probe"].estimator
    with pytest.raises(TypeError, match="Got ShrinkageProbeClassifier"):
        AttentionDisplay.from_estimator(probe, IMAGES)
    with pytest.raises(ValueError, match="none of them negative"):
        AttentionDisplay(IMAGES[:1], [np.full((1, 2, 2), -0.1)])
    with pytest.raises(ValueError, match="as many pictures"):
        AttentionDisplay(IMAGES[:2], [np.full((1, 2, 2), 0.1)])
    with pytest.raises(ValueError, match="Got 5 tokens, which is no square"):
        AttentionDisplay.from_predictions(IMAGES[:1], np.full((1, 2, 5), 0.2))
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageReadError, match=r"bad\.png"):
        AttentionDisplay.from_predictions([tmp_path / "bad.png"], np.full((1, 2, 4), 0.25))


def test_overlays_are_light_where_the_weight_is() -> None:
    weights = np.zeros((2, 3))
    weights[1, 2] = 1
    picture = overlay(Image.new("RGB", (96, 64), "grey"), weights)
    assert (picture.mode, picture.size) == ("RGB", (192, 128))
    grey = np.asarray(picture.convert("L"), float).reshape(2, 64, 3, 64).mean((1, 3))
    assert np.unravel_index(grey.argmax(), grey.shape) == (1, 2)
    assert grey[0, 0] < 90 < 150 < grey[1, 2]
    drawn = np.asarray(layer(weights), float)
    assert (drawn.shape, drawn[1, 2].tolist(), drawn[0, 0].tolist()) == (
        (2, 3, 4),
        [252, 255, 164, 191],
        [0, 0, 4, 115],
    )
    # What is nearly even looks so.
    even = np.asarray(overlay(Image.new("RGB", (96, 64), "grey"), 1 + 0.01 * weights).convert("L"), float)
    assert np.ptp(even) < 30
    assert [said(one) for one in (np.zeros((1, 2)), [[1, 1.05]], [[1, 1.2]], [[0, 1]])] == [
        *("no weight", "nearly even", "0.91 to 1.09 times even", "0.0 to 2.0 times even")
    ]
