"""Words for classes, templates, and the embeddings that they make."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from frofa import FrozenFeatureExtractor
from frofa.blocks import FeatureBlocks
from frofa.estimators.text.block import text_block_of
from frofa.estimators.text.embeddings import ClassTexts, class_texts
from frofa.estimators.text.names import labels_named, names_of
from frofa.estimators.text.templates import TEMPLATES, templates_of


class Letters:
    """Counts letters, and notes what it was asked."""

    def __init__(self, templates: tuple[str, ...] | None = None, logit_scale: float | None = None):
        self.templates, self.logit_scale = templates, logit_scale
        self.asked: list[str] = []

    def transform(self, texts: list[str]) -> Any:
        self.asked += texts
        return np.array([[text.count(letter) for letter in "abcdefgt"] for text in texts], np.float32) + 0.5


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_names_come_from_labels_mappings_and_sequences() -> None:
    assert names_of(np.array(["sea_slug", "ox"]), None) == [["sea slug"], ["ox"]]
    assert names_of([3, 7], {7: ("ox", "bull"), 3: "cat", 9: "more"}) == [["cat"], ["ox", "bull"]]
    assert names_of([True, False], ["no", ["yes", "aye"]]) == [["no"], ["yes", "aye"]]
    assert names_of(np.array([0, 1]), np.array(["a", "b"])) == [["a"], ["b"]]
    assert names_of([0, 1], pd.Series(["a", "b"], index=[7, 3])) == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("classes", "names", "error", "says"),
    [
        ([0, 1], None, ValueError, "class_names is needed.*label 0"),
        (["cat", "dog"], {"cat": "a", "dgo": "b"}, ValueError, "none for 'dog'; named are 'cat', 'dgo'"),
        (["cat", "dog"], ["a"], ValueError, "each of the 2 classes.*'cat', 'dog'. Got 1: 'a'"),
        (["cat", "dog"], "cat", TypeError, "mapping of labels to words.*Got 'cat'"),
        (["cat", "dog"], {"cat", "dog"}, TypeError, "mapping of labels"),
        (["cat", "dog"], {np.str_("cat")}, TypeError, "Got set of 'cat'"),
        (["cat", "dog"], {"cat": "a", "dog": []}, TypeError, "for 'dog'. Got \\[\\]"),
        (["cat", "dog"], {"cat": "a", "dog": [1]}, TypeError, "strings for 'dog'. Got 1"),
        (["cat", "dog"], {"cat": "a", "dog": None}, TypeError, "for 'dog'. Got None"),
        (["cat", "dog"], {"cat": "a", "dog": "  "}, ValueError, "not blank for 'dog'"),
        (["cat", "_"], None, ValueError, "not blank for '_'"),
    ],
)
def test_errors_name_the_label(classes: Any, names: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        names_of(classes, names)


def test_labels_are_those_that_have_names() -> None:
    assert labels_named({"dog": "x", "cat": ["y", "z"]}) == {"cat": ["y", "z"], "dog": ["x"]}
    assert list(labels_named({5: "x", 2: "y"})) == [2, 5]
    assert labels_named(["dog", ["cat", "tom"]]) == {"cat": ["cat", "tom"], "dog": ["dog"]}
    with pytest.raises(ValueError, match=r"at least 2 classes. Got 1"):
        labels_named({"dog": "x"})
    with pytest.raises(ValueError, match=r"'dog' twice"):
        labels_named(["dog", "cat", "dog"])
    with pytest.raises(ValueError, match=r"one kind"):
        labels_named({"dog": "x", 1: "y"})


def test_a_sequence_of_the_labels_themselves_needs_no_order() -> None:
    assert names_of(["cat", "dog"], ["dog", ["cat", "tom"]]) == [["cat", "tom"], ["dog"]]
    assert names_of(["cat", "dog"], [["tom", "cat"], ["pup", "dog"]]) == [["tom", "cat"], ["pup", "dog"]]


@pytest.mark.parametrize(
    ("labels", "words", "expected"),
    [
        (["American_alligator", "wooden_spoon"], ["Wooden-Spoon", "american alligator"], [1, 0]),
        (["Cat", "cat"], ["cat", "Cat"], [1, 0]),  # the case tells them apart
        (["cat", "dog"], ["yak", "DOG", "Cat"], [2, 1]),  # one that has no label
        (["cafe\u0301", "tea"], ["Tea", "caf\u00e9"], [1, 0]),
        (["cat", "dog"], ["cat", "hound"], [0, 1]),  # sorted, and one word is a better one
        (["cat", "dog"], ["tom", "hound"], [0, 1]),
        ([0, 1], ["b", "a"], [0, 1]),
    ],
)
def test_words_like_labels_are_theirs_in_any_order(labels: Any, words: list[str], expected: list[int]) -> None:
    assert names_of(labels, words) == [[words[i]] for i in expected]
    if len(words) == len(labels):
        rows = np.eye(len(words))
        np.testing.assert_array_equal(class_texts(labels, words, rows).embeddings, rows[expected])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["hound", "cat", "emu"], r"labels without a word: 'dog'; no labels: 'hound'\. A dict"),
        (["Cat", "cat", "emu"], r"labels without a word: 'dog'; of one label: 'Cat', 'cat'\. A dict"),
    ],
)
def test_words_of_which_some_are_labels_out_of_place_are_refused(words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        names_of(["cat", "dog", "emu"], words)


@pytest.mark.parametrize(
    ("labels", "names", "got"),
    [
        ([0, 1], {"0": "cat", "1": "dog"}, r"numbers, such as 0\. Got strings: '0', '1'"),
        (["0", "1"], {0: "cat", 1: "dog"}, r"strings, such as '0'\. Got numbers: 0, 1"),
    ],
)
def test_labels_of_another_kind_are_told(labels: Any, names: Any, got: str) -> None:
    with pytest.raises(ValueError, match="class_names by label must have labels of the same kind.*" + got):
        names_of(labels, names)
    vectors = dict(zip(names, np.eye(2), strict=True))
    with pytest.raises(ValueError, match="text by label must.*" + got):
        class_texts(labels, None, vectors)
    with pytest.raises(ValueError, match="class_names by label must.*" + got):
        class_texts(labels, names, np.eye(2))


def test_rows_are_in_the_order_in_which_names_are_given() -> None:
    rows, labels = np.eye(3), ["a", "b", "c"]
    for names in ({"c": "x", "a": "y", "b": "z"}, ["C", "a", "b"]):
        np.testing.assert_array_equal(class_texts(labels, names, rows).embeddings, rows[[1, 2, 0]])
        with pytest.raises(ValueError, match=r"the 3 of class_names in their order\. Got 2 rows"):
            class_texts(labels, names, rows[:2])
    np.testing.assert_array_equal(
        class_texts(["a", "c"], {"c": "x", "a": "y", "b": "z"}, rows).embeddings, rows[[1, 0]]
    )
    np.testing.assert_array_equal(class_texts(labels, ["x", "y", "z"], rows).embeddings, rows)
    with pytest.raises(ValueError, match=r"each of the 3 classes.*Got 2: 'x', 'y'"):
        class_texts(labels, ["x", "y"], rows)


def test_templates_are_the_towers_own_or_the_general_ones() -> None:
    assert templates_of("auto", Letters()) == TEMPLATES == templates_of("auto", object())
    assert templates_of("auto", Letters(("a {}",))) == ("a {}",)
    assert templates_of("one {} {more}", Letters(("a {}",))) == ("one {} {more}",)
    assert templates_of(["{}", "the {}"], None) == ("{}", "the {}")
    assert all(template.count("{}") == 1 for template in TEMPLATES)


@pytest.mark.parametrize(
    ("templates", "error"),
    [("photo", ValueError), (["{} {}"], ValueError), ([], ValueError), (7, TypeError), ([1], TypeError)],
)
def test_templates_have_one_slot(templates: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"templates must"):
        templates_of(templates, None)


def test_embeddings_are_means_of_unit_vectors_of_all_captions() -> None:
    text = Letters(logit_scale=12.5)
    found = class_texts([0, 1], {0: ["cat", "tab"], 1: "dad"}, text, ["{}", "bbb {} {x}"])
    assert text.asked == ["cat", "bbb cat {x}", "tab", "bbb tab {x}", "dad", "bbb dad {x}"]
    rows = unit(np.asarray(Letters().transform(text.asked), np.float64))
    np.testing.assert_allclose(found.embeddings, unit(np.stack([rows[:4].mean(0), rows[4:].mean(0)])), rtol=1e-12)
    assert (found.scale, found.bias) == (12.5, 0.0)
    assert class_texts(["cat", "dog"], None, Letters()).scale == 100


def test_ready_embeddings_are_taken_in_any_form() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4))
    labels = ["a", "b", "c"]
    for text in (rows, rows.tolist(), torch.from_numpy(rows), dict(zip(labels, rows, strict=True)), rows[:, None]):
        np.testing.assert_allclose(class_texts(labels, None, text).embeddings, unit(rows), rtol=1e-12)
    several = class_texts(labels, None, {"a": rows, "b": rows[1], "c": rows[2]})
    np.testing.assert_allclose(several.embeddings[0], unit(unit(rows).mean(0)), rtol=1e-12)
    with_scale = class_texts(labels, None, ClassTexts(rows, 7.0, -3.0))
    assert (with_scale.scale, with_scale.bias) == (7.0, -3.0)
    np.testing.assert_allclose(with_scale.scores(unit(rows))[0, 0], 7 - 3)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        (None, TypeError, "FrozenTextExtractor"),
        ("openai/clip", TypeError, "Got 'openai/clip'"),
        (FrozenFeatureExtractor(), TypeError, "FrozenTextExtractor(model). Got FrozenFeatureExtractor, which is for"),
        (np.ones((3, 4)), ValueError, "with 2 classes. Got 3 rows, of shape (3, 4)"),
        ({"a": [1.0]}, ValueError, "none for 'b'"),
        ({"a": [1.0], "b": [1.0, 2.0]}, ValueError, "one width"),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), ValueError, "above zero for 'b'"),
        (np.array([[1.0, 0.0], [np.nan, 0.0]]), ValueError, "finite embeddings"),
        (np.array([[[1.0], [-1.0]], [[1.0], [1.0]]]), ValueError, "not zero"),
        ([["x"], ["y"]], TypeError, "expected numbers for text"),
        (ClassTexts(np.eye(2), 0.0), ValueError, "positive, finite logit scale"),
    ],
)
def test_bad_embeddings_are_refused(text: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=re.escape(says)):
        class_texts(["a", "b"], None, text)


def test_an_object_that_gives_too_few_vectors_is_refused() -> None:
    class Short:
        def transform(self, texts: list[str]) -> Any:
            return np.ones((len(texts) - 1, 3))

    with pytest.raises(ValueError, match=r"Short.transform to give one vector for each of 2 texts"):
        class_texts(["a", "b"], None, Short(), "{}")


def test_the_block_of_words_is_found() -> None:
    view = {width: [np.ones((2, width))] for width in (3, 4, 5)}
    assert text_block_of(FeatureBlocks({"mean": view[3], "pooled": view[4]})) == "pooled"
    assert text_block_of(FeatureBlocks({"pooled": view[3], "projected": view[4]}), width=4) == "projected"
    assert text_block_of(FeatureBlocks({"pooled": view[3], "projected": view[4], "text": view[5]})) == "text"
    assert text_block_of(FeatureBlocks({"mean": view[3]})) == "mean"
    assert text_block_of(FeatureBlocks({"mean": view[3], "pooled": view[4]}), "mean", 3) == "mean"
    assert text_block_of(np.ones((2, 6)), width=6) == "features"
    with pytest.raises(ValueError, match=r"which block is in the space of words"):
        text_block_of(FeatureBlocks({"mean": view[3], "last": view[4]}))
    with pytest.raises(ValueError, match=r"one of the blocks mean \(3 channels\). Got 'pooled'"):
        text_block_of(FeatureBlocks({"mean": view[3]}), "pooled")
    with pytest.raises(ValueError, match=r"texts have 9 channels. Got features of 6\.$"):
        text_block_of(np.ones((2, 6)), width=9)
