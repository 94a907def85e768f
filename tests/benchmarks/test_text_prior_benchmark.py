import json
from pathlib import Path

import numpy as np
import pytest
from text_prior import (
    ALONE,
    BOTH,
    PUBLISHED,
    SAMPLES,
    WORDS,
    Cell,
    add,
    apart,
    drawing,
    measure,
    over_best,
    row,
    tables,
)

from frofa import FeatureBlocks
from frofa.estimators.text.embeddings import class_texts

RNG = np.random.default_rng(0)
CODES, IN_TRAIN = np.tile(np.arange(3), 20), np.arange(60) < 30
CENTRES = RNG.normal(size=(3, 8))
VIEWS = [CENTRES[CODES] + 0.5 * RNG.normal(size=(60, 8)) for _ in range(2)]


def cell(*, of_words: bool = True) -> Cell:
    words = class_texts(["ant", "bee", "cat"], None, CENTRES)
    blocks = {"pooled": VIEWS, **({} if of_words else {"text": VIEWS})}
    return Cell("clouds", "model", FeatureBlocks(blocks), CODES, IN_TRAIN, words, of_words)


def test_samples_are_of_the_train_split_where_it_has_enough() -> None:
    support, test = drawing(cell(), 5)(2, 0)
    assert np.bincount(CODES[support]).tolist() == [2, 2, 2]
    assert IN_TRAIN[support].all()
    assert test.tolist() == list(range(30, 60))


def test_few_images_are_one_pool_of_which_no_image_is_on_both_sides() -> None:
    draw = drawing(cell(), 10)
    support, test = draw(10, 0)
    assert sorted([*support, *test]) == list(range(60))
    assert not IN_TRAIN[support].all()
    assert draw(10, 1)[0].tolist() != support.tolist()


def test_near_copies_are_left_out() -> None:
    rows = RNG.normal(size=(40, 30))
    rows[7] = rows[3] + 1e-3
    lost = set(range(40)) - set(apart(FeatureBlocks({"pooled": [rows, rows]})).tolist())
    assert lost == {3, 7}


@pytest.mark.parametrize("of_words", [True, False])
def test_all_heads_are_measured_and_ours_anew(of_words: bool, tmp_path: Path) -> None:
    data = cell(of_words=of_words)
    draw = drawing(data, 5)
    found = [measure(data, *draw(2, seed)) for seed in range(2)]
    names = {*PUBLISHED} if of_words else {WORDS}
    assert {name for name in found[0] if not name.endswith(SAMPLES)} == {*names, ALONE, BOTH}
    # Words are the centres of the classes here.
    assert found[0][WORDS].accuracy > 90
    first = row(data, 2, found)
    add(tmp_path / "r.json", [first])
    ours = row(data, 2, [measure(data, *draw(2, seed), published=False) for seed in range(2)])
    assert ours["heads"] == {name: first["heads"][name] for name in (WORDS, ALONE, BOTH)}
    ours["heads"][BOTH] = {"accuracies": [100.0, 100.0]}
    add(tmp_path / "r.json", [ours])
    [kept] = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert kept["heads"].keys() == first["heads"].keys()
    best = np.mean(kept["heads"][WORDS]["accuracies"])
    assert over_best(kept["heads"], [WORDS, ALONE]) <= 100 - best + 1e-9
    assert '| ShrinkageProbe(prior="text") | 100.0 ± 0.0 |' in tables([kept])
