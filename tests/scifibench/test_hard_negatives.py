"""Hard negatives: against a search by hand, without copies, and harder than others."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import frofa
from frofa.evaluation import multiple_choice
from frofa.scifibench import mining

Array = npt.NDArray[Any]


def pairs(n: int = 120) -> tuple[Array, Array]:
    """Texts in clusters, and images that are the texts with noise."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(n // 6, 24)).repeat(6, 0) + 0.4 * rng.normal(size=(n, 24))
    return texts + 0.6 * rng.normal(size=(n, 24)), texts


def units(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def by_hand(images: Array, texts: Array, n_negatives: int, min_distance: float) -> list[list[int]]:
    joint = units(np.hstack([units(images), units(texts)]))
    distances = 1 - joint @ joint.T
    found = []
    for row in range(len(joint)):
        chosen: list[int] = []
        for other in np.argsort(distances[row], kind="stable").tolist():
            apart = min(distances[one, other] for one in [row, *chosen]) >= min_distance
            if len(chosen) < n_negatives and other != row and apart:
                chosen.append(other)
        found.append(chosen)
    return found


@pytest.mark.parametrize("min_distance", [0.01, 0.1, 0.3])
def test_negatives_are_the_nearest_that_are_no_copies(min_distance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts = pairs()
    expected = by_hand(images, texts, 4, min_distance)
    assert frofa.mine_hard_negatives(images, texts * 3, min_distance=min_distance).tolist() == expected
    monkeypatch.setattr(mining, "CHUNK", 1000)
    monkeypatch.setattr(mining, "NEIGHBOURS", 2)  # too few for some
    assert frofa.mine_hard_negatives(images, texts * 3, min_distance=min_distance).tolist() == expected


def test_the_same_image_or_the_same_text_is_never_a_negative() -> None:
    images, texts = pairs()
    images[1], texts[3], texts[5] = images[0], texts[2], texts[2]
    found = frofa.mine_hard_negatives(images, texts, 6, min_distance=0)
    assert 1 not in found[0]
    assert 0 not in found[1]
    assert not {2, 3, 5} & {*found[2].tolist()}
    # Of two pairs with one text, a question has one at most.
    assert (np.isin(found, [2, 3, 5]).sum(1) <= 1).all()
    assert all(len({*row}) == 6 for row in found.tolist())


@pytest.mark.parametrize("neighbours", [2, 16])
def test_of_equal_pairs_the_first_are_taken(neighbours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "NEIGHBOURS", neighbours)
    # All pairs are equally far from each other: every order would do, and the first is asked for.
    found = frofa.mine_hard_negatives(np.eye(40), np.eye(40), 3)
    assert found[10].tolist() == [0, 1, 2]
    assert found[0].tolist() == [1, 2, 3]


def test_groups_keep_negatives_to_themselves() -> None:
    images, texts = pairs()
    groups = np.arange(len(images)) % 3
    found = frofa.mine_hard_negatives(images, texts, 3, groups=groups)
    assert (groups[found] == groups[:, None]).all()


def test_mined_negatives_are_harder_than_others() -> None:
    images, texts = pairs()
    rng = np.random.default_rng(1)
    mined = frofa.mine_hard_negatives(images, texts)
    drawn = np.array([rng.choice(np.delete(np.arange(len(texts)), row), 4, replace=False) for row in range(len(texts))])
    own = np.arange(len(texts))[:, None]
    easy, hard = (
        multiple_choice(images, texts[np.hstack([own, found])], np.zeros(len(texts), int)).accuracy
        for found in (drawn, mined)
    )
    assert hard.high < easy.low


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": np.ones((2, 3))}, "one text an image. Got 3 images and 2 texts"),
        ({"texts": np.zeros((3, 3))}, "embeddings of texts that are finite, and not zero"),
        ({"images": np.full((3, 3), np.inf)}, "embeddings of images that are finite"),
        ({"images": np.ones(3)}, "images of shape \\(n, D\\).*Got shape \\(3,\\)"),
        ({"n_negatives": 3}, "expected 3 other pairs that are no near-copies. Got 2 of pair 0"),
        ({"min_distance": 1.9}, "Got 0 of pair 0: choose a smaller"),
        ({"n_negatives": 0}, "n_negatives of at least 1"),
        ({"groups": [1, 2]}, "a group for each of 3 pairs"),
        ({"groups": ["a", "b", "a"], "n_negatives": 1}, "groups of more than 1 pairs.*Got 1 of group 'b'"),
        ({"n_negatives": 1, "min_distance": 1.9}, "Got 0 of pair 0: choose a smaller min_distance"),
    ],
)
def test_wrong_pairs_say_what_was_expected(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"images": np.eye(3), "texts": np.eye(3), "n_negatives": 2, **change}
    with pytest.raises(ValueError, match=message):
        frofa.mine_hard_negatives(**given)


def test_words_are_no_vectors() -> None:
    with pytest.raises(TypeError, match=r"texts as vectors.*Got 'a plot'"):
        frofa.mine_hard_negatives(np.eye(2), ["a plot", "a table"], 1)
    with pytest.raises(TypeError, match=r"choices as vectors.*Got 'a plot'"):
        multiple_choice(np.eye(2), [["a plot", "a table"]] * 2, [0, 0])
