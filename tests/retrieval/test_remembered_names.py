"""An index of a store has the names and labels that the store remembers."""

from pathlib import Path

import numpy as np
import pytest
from retrieval_helpers import POOLED, rows, stored
from store_helpers import keys

from frofa import FeatureIndex, FeatureStore
from frofa.store.names import Named

N = 30
LABELS = ["acorn", "bee", ""]


def remembered(path: Path) -> FeatureStore:
    """A store of images that lay in folders of three kinds, of which it does not know the first."""
    store = stored(path, rows(N, 8))
    store.image_names().remember(keys(range(1, N)), [Named(f"/{i}.png", LABELS[i % 3]) for i in range(1, N)])
    return store


def check(index: FeatureIndex) -> None:
    assert index.names is not None
    assert index.names.tolist() == [None, *(f"/{i}.png" for i in range(1, N))]
    assert index.labels is not None
    assert index.labels.tolist() == [None, *(LABELS[i % 3] or None for i in range(1, N))]
    found = index.kneighbors(np.ones((1, 8)), 9, return_distance=False, where="acorn")
    assert sorted(found[0].tolist()) == list(range(3, N, 3))


def test_they_are_there_however_the_store_is_given(tmp_path: Path) -> None:
    store = remembered(tmp_path)
    for source in (store, str(tmp_path), store.features(POOLED), store.features(POOLED, keys(range(N)))):
        check(FeatureIndex(source))
    part = FeatureIndex(store.features(POOLED)[4:8])
    assert part.names is not None
    assert part.names.tolist() == ["/4.png", "/5.png", "/6.png", "/7.png"]
    assert sorted(part.kneighbors(np.ones((1, 8)), 3, where=["bee", "acorn"])[1][0].tolist()) == [0, 2, 3]


def test_they_are_read_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = remembered(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("frofa.store.names._open", lambda *_: pytest.fail("read"))
        index = FeatureIndex(store)
        index.kneighbors(np.ones((1, 8)), 2)
        index.save()
    check(index)
    store.image_names().remember(keys([0]), [Named("/0.png", "bee")])
    again = FeatureIndex.load(store)
    assert again.names is not None
    assert again.names.tolist()[0] == "/0.png"


def test_those_of_added_images_come_with_them(tmp_path: Path) -> None:
    store = remembered(tmp_path)
    index = FeatureIndex(store)
    check(index)
    store.put(POOLED, keys([N]), rows(1, 8))
    store.image_names().remember(keys([N]), [Named("/new.png", "cup")])
    assert index.update() == 1
    assert index.names is not None
    assert index.names.tolist()[-2:] == [f"/{N - 1}.png", "/new.png"]
    assert index.kneighbors(np.ones((1, 8)), 1, where="cup")[1].tolist() == [[N]]
    # Given ones come behind those that were remembered.
    store.put(POOLED, keys([N + 1]), rows(1, 8))
    index.update(labels=["dog"])
    assert index.labels is not None
    assert index.labels.tolist()[-3:] == ["bee" if (N - 1) % 3 == 1 else None, "cup", "dog"]


def test_given_ones_come_first(tmp_path: Path) -> None:
    store = remembered(tmp_path)
    FeatureIndex(store, labels=[0] * N, names=[str(i) for i in range(N)]).save()
    index = FeatureIndex.load(store)
    assert index.labels is not None
    assert set(index.labels.tolist()) == {0}
    assert index.names is not None
    assert index.names[3] == "3"
    with pytest.raises(ValueError, match="Got 'acorn', which no row has"):
        index.kneighbors(np.ones((1, 8)), 1, where="acorn")


def test_an_image_at_two_places_has_both_labels(tmp_path: Path) -> None:
    store = remembered(tmp_path)
    store.image_names().remember(keys([3]), [Named("/copy.png", "bee")])
    index = FeatureIndex(store)
    assert index.names is not None
    assert index.names[3] == "/copy.png"
    for label in ("acorn", "bee"):
        n = {"acorn": 9, "bee": 11}[label]
        assert 3 in index.kneighbors(np.ones((1, 8)), n, return_distance=False, where=label)[0]


def test_a_store_that_remembers_nothing(tmp_path: Path) -> None:
    index = FeatureIndex(stored(tmp_path, rows(N, 8)))
    assert index.names is None
    assert index.labels is None
    with pytest.raises(ValueError, match="needs an index with labels"):
        index.kneighbors(np.ones((1, 8)), 1, where="acorn")


def test_a_label_that_no_image_has(tmp_path: Path) -> None:
    index = FeatureIndex(remembered(tmp_path))
    for label, error in (
        ("ant", "acorn, bee. Got 'ant'"),
        ([0, 1], "Got 0: rows are chosen by a mask"),
        ({}, "Got {}"),
    ):
        with pytest.raises(ValueError, match=error):
            index.kneighbors(np.ones((1, 8)), 1, where=label)
