"""WordsDisplay: where words are found, by themselves and for classifiers that know words."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from text_helpers import clip_folder

from frofa import FrozenFeatureExtractor, FrozenTextExtractor, ImageClassifier, WordsDisplay, ZeroShotClassifier
from frofa.backbones.text.loading import load_text_tower
from frofa.exceptions import ModelNotFoundError

RNG = np.random.default_rng(0)
IMAGES = [Image.fromarray(RNG.integers(0, 256, (40, 32, 3), np.uint8)) for _ in range(4)]
Y = ["cat", "dog", "cat", "dog"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return clip_folder(tmp_path_factory.mktemp("clip"))


def texts(display: WordsDisplay) -> list[str]:
    return [text.get_text() for text in display.ax_.texts]


@pytest.mark.parametrize("method", ["score", "patches"])
def test_texts_are_looked_for_in_images(clip: str, method: str) -> None:
    display = WordsDisplay.from_texts(clip, IMAGES, ["a cat", "a dog on grass"], method=method, n_images=3)  # type: ignore[arg-type]
    assert [one.shape for one in display.heat] == [(2, 4, 4)] * 3
    sums = np.concatenate([one.sum((1, 2)) for one in display.heat])
    # Where no patch speaks for a text, there is no heat: never where patches are compared with each other.
    np.testing.assert_allclose(sums[sums > 0], 1, atol=1e-5)
    assert (sums > 0).sum() >= (6 if method == "patches" else 3)
    assert [picture.size for picture in display.pictures] == [(32, 32)] * 3  # as the model sees them
    assert len(display.ax_.images) == 3 * 3
    assert texts(display)[1].startswith("a cat\nup to ")
    assert "“a cat”, “a dog on grass” over the first 3 of 4 images" in display.describe()
    assert "<img" in (display._repr_html_() or "")


def test_one_text_stands_below_its_images(clip: str) -> None:
    display = WordsDisplay.from_texts(clip, IMAGES, "a cat", templates=["{}", "a photo of {}"])
    left = [image.get_extent()[0] for image in display.ax_.images]
    assert left[:4] == left[4:]
    assert [text.split("\n")[0] for text in texts(display)] == [f"image {i}" for i in range(1, 5)] + ["a cat"] * 4


def test_images_are_called_by_their_files(clip: str, tmp_path: Path) -> None:
    IMAGES[0].save(tmp_path / "cat.png")
    display = WordsDisplay.from_texts(clip, [tmp_path / "cat.png"], ["a cat"])
    assert texts(display)[0] == "cat.png"
    assert f"over 1 image: the most that a patch has is {display.focus_[0][0]:.1f} times" in display.describe()


def test_heat_does_not_depend_on_the_batch(clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = WordsDisplay.from_texts(clip, IMAGES, ["a cat"])
    monkeypatch.setattr("frofa.displays.looking_at_words.BATCH", 3)
    parts = WordsDisplay.from_texts(clip, IMAGES, ["a cat"])
    # Batches of another size are summed in another order, in float32: that moves shares of heat by 1e-6.
    np.testing.assert_allclose(np.stack(parts.heat), np.stack(whole.heat), atol=1e-5)


def test_a_classifier_shows_the_classes_that_it_predicts(clip: str) -> None:
    images = FrozenFeatureExtractor(clip, output="projected")
    zero_shot = ZeroShotClassifier(["cat", "dog", "ice_cream"], text=FrozenTextExtractor(clip)).fit()
    model = make_pipeline(images, zero_shot)
    predicted = model.predict(IMAGES).tolist()
    truth = [predicted[0], *("dog" if one != "dog" else "cat" for one in predicted[1:])]
    display = WordsDisplay.from_estimator(model, IMAGES, truth)
    assert display.texts[0] == [predicted[0].replace("_", " ")]
    assert display.texts[1] == [predicted[1].replace("_", " "), truth[1]]
    assert [len(one) for one in display.heat] == [1, 2, 2, 2]
    assert f"is {truth[1]}" in "\n".join(texts(display))
    # The same heat as that of the words by themselves.
    vectors = zero_shot.text_features_[[["cat", "dog"].index(truth[1])]]
    alone = WordsDisplay.from_texts(clip, IMAGES, [truth[1]], text=vectors)
    np.testing.assert_allclose(display.heat[1][1], alone.heat[1][0], atol=1e-5)


def test_a_classifier_of_images_with_words(clip: str, small_vit: str) -> None:
    names = {"cat": "a grey cat", "dog": "a dog"}
    for model, other in ((clip, None), (small_vit, clip)):
        classifier = ImageClassifier(model, prior="text", class_names=names, text_model=other, n_views=1, device="cpu")
        display = WordsDisplay.from_estimator(classifier.fit(IMAGES, Y), IMAGES[:2])
        assert [one.shape for one in display.heat] == [(1, 4, 4)] * 2
        assert {text for one in display.texts for text in one} <= {"cat", "dog"}


def test_what_cannot_be_shown_is_an_error(clip: str, small_vit: str, tmp_path: Path) -> None:
    even = [np.ones((1, 2, 2))]
    with pytest.raises(ValueError, match=r"expected heat of shape \(2, rows, columns\)"):
        WordsDisplay(IMAGES[:1], even, ["a", "b"])
    with pytest.raises(ValueError, match="nowhere negative"):
        WordsDisplay(IMAGES[:1], [-even[0]], ["a"])
    with pytest.raises(ValueError, match="as many pictures"):
        WordsDisplay(IMAGES[:2], even, ["a"])
    with pytest.raises(ValueError, match="was not trained together with a text tower"):
        WordsDisplay.from_texts(small_vit, IMAGES, ["a cat"])
    with pytest.raises(ValueError, match="expected method 'score' or 'patches'"):
        WordsDisplay.from_texts(clip, IMAGES, ["a cat"], method="attention")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected texts in 24 dimensions"):
        WordsDisplay.from_texts(clip, IMAGES, ["a cat"], text=np.ones((1, 7)))
    with pytest.raises(TypeError, match="expected a classifier that knows words"):
        WordsDisplay.from_estimator(ImageClassifier(small_vit, n_views=1, device="cpu").fit(IMAGES, Y), IMAGES)
    with pytest.raises(ModelNotFoundError):
        load_text_tower(small_vit, "cpu")
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(Exception, match=r"bad\.png"):
        WordsDisplay.from_texts(clip, [tmp_path / "bad.png"], ["a cat"])


def test_a_text_that_nothing_speaks_for_has_no_heat() -> None:
    nothing: npt.NDArray[np.float64] = np.zeros((1, 2, 2))
    display = WordsDisplay(IMAGES[:1], [nothing], ["a cat"]).plot()
    assert texts(display)[1] == "a cat\nnowhere"
    assert display.focus_[0].tolist() == [0.0]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_classifier_that_is_not_fitted(wrapped: bool) -> None:
    model = ImageClassifier("local-dir:none", prior="text")
    with pytest.raises(NotFittedError):
        WordsDisplay.from_estimator(make_pipeline(ZeroShotClassifier(["cat"])) if wrapped else model, IMAGES)
