"""RaggedTokens: tokens of images whose grids differ."""

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

import frofa
from frofa.estimators import RaggedTokens

GRIDS = np.array([[2, 3], [1, 1], [4, 2], [1, 5], [3, 1]])


def images() -> list[npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(h, w, 4)).astype(np.float32) for h, w in GRIDS]


def ragged() -> RaggedTokens:
    return RaggedTokens(np.concatenate([image.reshape(-1, 4) for image in images()]), GRIDS)


def test_is_exported() -> None:
    assert frofa.RaggedTokens is RaggedTokens


def test_knows_its_shape() -> None:
    tokens = ragged()
    assert len(tokens) == _num_samples(tokens) == 5
    assert (tokens.shape, tokens.ndim, tokens.dtype) == ((5, 8, 4), 3, np.float32)
    assert tokens.offsets.tolist() == [0, 6, 7, 15, 20, 23]
    assert tokens.nbytes == tokens.values.nbytes


def test_an_integer_gives_the_tokens_of_one_image() -> None:
    tokens = ragged()
    for i, image in enumerate(images()):
        assert np.array_equal(tokens[i], image)
        assert np.array_equal(tokens[i - 5], image)
    assert [one.shape for one in tokens] == [image.shape for image in images()]
    with pytest.raises(IndexError):
        tokens[5]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (slice(1, 4), [1, 2, 3]),
        (slice(None, None, -2), [4, 2, 0]),
        (slice(3, 1), []),
        ([2, 0, 2], [2, 0, 2]),
        (np.array([-1, 1]), [4, 1]),
        (np.array([True, False, False, True, False]), [0, 3]),
        ([], []),
    ],
)
def test_images_are_chosen_as_from_an_array(item: object, expected: list[int]) -> None:
    for chosen in (ragged()[item], _safe_indexing(ragged(), item), ragged()[item, ...]):
        assert chosen.grids.tolist() == GRIDS[expected].tolist()
        assert all(np.array_equal(one, images()[i]) for one, i in zip(chosen, expected, strict=True))


def test_a_slice_is_a_view() -> None:
    tokens = ragged()
    assert np.shares_memory(tokens[1:3].values, tokens.values)


@pytest.mark.parametrize("item", [np.ones(4, bool), [0.5], "name", [[0, 1]], [7]])
def test_what_chooses_no_images_is_refused(item: object) -> None:
    with pytest.raises(IndexError):
        ragged()[item]


def test_tokens_cannot_be_chosen_by_further_axes() -> None:
    with pytest.raises(IndexError, match="by images alone"):
        ragged()[:, 0]


def test_padding_is_of_zeros() -> None:
    tokens, grids = ragged().padded(9)
    assert tokens.shape == (5, 9, 4)
    for padded, (h, w), image in zip(tokens, grids, images(), strict=True):
        assert np.array_equal(padded[: h * w], image.reshape(-1, 4))
        assert not padded[h * w :].any()
    with pytest.raises(ValueError, match=r"length must be 8 or more.*Got 7"):
        ragged().padded(7)


def test_parts_are_joined_and_compared() -> None:
    tokens = ragged()
    assert RaggedTokens.concatenate([tokens[:2], tokens[2:]]).equals(tokens)
    assert not tokens.equals(tokens[:4])
    assert not tokens.equals(RaggedTokens(tokens.values.astype(np.float16), GRIDS))
    assert not tokens.equals(RaggedTokens(tokens.values, GRIDS[:, ::-1]))
    with pytest.raises(ValueError, match=r"one number of channels. Got \[2, 4\]"):
        RaggedTokens.concatenate([tokens, RaggedTokens(tokens.values[:, :2], GRIDS)])


def test_pickles() -> None:
    assert pickle.loads(pickle.dumps(ragged())).equals(ragged())  # noqa: S301 (written here)


def test_takes_a_memory_map(tmp_path: Path) -> None:
    np.save(tmp_path / "values.npy", ragged().values)
    tokens = RaggedTokens(np.load(tmp_path / "values.npy", mmap_mode="r"), GRIDS)
    assert isinstance(tokens[1:4].values, np.memmap)
    assert tokens[[3, 0]].equals(ragged()[[3, 0]])


def test_is_not_turned_into_an_array_by_accident() -> None:
    with pytest.raises(TypeError, match="padded"):
        np.asarray(ragged())


@pytest.mark.parametrize(
    ("values", "grids", "message"),
    [
        (np.zeros((6, 2), np.float32), [[2, 2]], "4 of these 1 grids. Got 6 rows"),
        (np.zeros((4, 2), np.int64), [[2, 2]], "values must be an array of float16.*Got int64"),
        (np.zeros((1, 4, 2), np.float32), [[2, 2]], r"Got float32, shape \(1, 4, 2\)"),
        ([[0.0, 1.0]], [[1, 1]], "Got list"),
        (np.zeros((4, 0), np.float32), [[2, 2]], "one channel or more"),
        (np.zeros((4, 2), np.float32), [[2.0, 2.0]], "grids must be whole numbers.*Got float64"),
        (np.zeros((4, 2), np.float32), [2, 2], r"shape \(2,\)"),
        (np.zeros((4, 2), np.float32), [[4, 1], [0, 3]], r"Got \[0, 3\] of image 1"),
    ],
)
def test_says_what_does_not_fit(values: object, grids: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RaggedTokens(values, grids)  # type: ignore[arg-type]
