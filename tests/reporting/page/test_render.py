"""The page as text: what it has, what it leaves out, how large it is."""

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from made_up import HOSTILE, crowd, hostile, made_up

from frofa.displays.attention import said
from frofa.reporting.facts.contents import SECTIONS, Facts
from frofa.reporting.page.pictures import least_certain, worst_mistakes
from frofa.reporting.page.render import render
from frofa.reporting.page.sections.confusion import most_confused, pairs_of
from frofa.reporting.page.sections.galleries import set_of
from frofa.reporting.page.sections.summary import findings

VOID = ("meta", "link", "br", "img", "input")


class Elements(HTMLParser):
    """Elements of a page, which must be nested as they should."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    loaded: dict[str, Any] = json.loads(found.group(1))
    return loaded


@pytest.fixture(scope="module")
def page() -> str:
    return render(made_up())


def test_all_sections_stand_in_their_order(page: str) -> None:
    elements = Elements(page).found
    assert [found["id"] for tag, found in elements if tag == "section"] == list(SECTIONS)
    links = [found["href"] for tag, found in elements if tag == "a" and found["href"] != "#main"]
    assert [link for link in links if link in {f"#{key}" for key in SECTIONS}][: len(SECTIONS)] == [
        f"#{key}" for key in SECTIONS
    ]
    ids = [found["id"] for _, found in elements if "id" in found]
    assert len(ids) == len(set(ids))


def test_the_same_facts_make_the_same_page(page: str) -> None:
    assert render(made_up()) == page


def test_nothing_is_asked_of_anybody(page: str) -> None:
    for tag, found in Elements(page).found:
        for key in ("src", "href"):
            assert (found.get(key) or "#").startswith(("#", "data:")), (tag, found[key])
        assert "style" not in found
        assert not [key for key in found if key.startswith("on")]


def test_the_data_are_those_of_the_images(page: str) -> None:
    facts, data = made_up(), data_of(page)
    assert data["names"] == facts.names
    assert data["truth"] == facts.truth.tolist()
    assert data["predicted"] == facts.predicted.tolist()
    top = np.reshape(data["top"], (600, 5))
    np.testing.assert_array_equal(top[:, 0], facts.predicted)
    np.testing.assert_allclose(np.reshape(data["shares"], (600, 5))[:, 0] / 1e4, facts.probabilities.max(1), atol=6e-5)
    assert facts.sets is not None
    assert [sorted(one[1:]) for one in data["sets"]] == [np.flatnonzero(row).tolist() for row in facts.sets]


def test_each_image_is_in_the_page_once(page: str) -> None:
    shown = {int(one) for one in re.findall(r'class="picture" data-image="(\d+)"', page)}
    packed = {i for i, one in enumerate(data_of(page)["pictures"]) if one}
    assert shown | packed == set(range(600))
    assert not shown & packed


def test_the_map_keeps_proportions() -> None:
    coordinates = np.array([[0, 0], [4, 1], [2, 0.5]], np.float32)
    facts = made_up()
    whole = replace(facts, coordinates=np.resize(coordinates, (600, 2)))
    xs, ys = data_of(render(whole))["map"]
    assert xs[:3] == [0, 10000, 5000]
    assert ys[:3] == [10000, 7500, 8750]


@pytest.mark.parametrize("max_bytes", [500_000, 1_000_000])
def test_pages_stay_within_their_bound(max_bytes: int) -> None:
    assert len(render(made_up(), max_bytes).encode()) <= max_bytes


def test_too_small_a_bound_is_refused() -> None:
    with pytest.raises(ValueError, match=r"600 images takes [\d,]+ bytes .* Got max_bytes=1,000"):
        render(made_up(), 1_000)


def test_many_images_of_a_thousand_classes_stay_within_the_bound() -> None:
    # As many bytes an image as 10,000 have in 20 MB. Pictures of noise are the worst to encode, and few pixels quick.
    page = render(crowd(2_000, 1000, pixels=32), 4_000_000)
    assert len(page.encode()) <= 4_000_000
    assert sum(one is not None for one in data_of(page)["pictures"]) > 1_900
    # The part of the table that is shown, and a form that opens the rest.
    assert len(re.findall(r'<td class="(?:hit|miss)', page)) <= 20 * 20
    assert 'id="find-true"' in page


def test_names_are_never_markup() -> None:
    page = render(hostile())
    elements = Elements(page).found
    assert {tag for tag, _ in elements} == {tag for tag, _ in Elements(render(made_up())).found}
    assert sum(tag == "script" for tag, _ in elements) == 3
    for tag, found in elements:
        assert not [key for key in found if key.startswith("on")], tag
    body = page.partition("<body>")[2]
    assert HOSTILE[0] not in body
    assert "alert(1)</script>" not in body
    assert "\u202e" not in page
    assert "\u2028" not in page
    page.encode()


def test_absent_sections_say_why() -> None:
    absent: dict[str, Any] = {"needed": None, "attention": [], "coordinates": None, "members": []}
    page = render(replace(made_up(), notes={"learning": "no training"}, **absent))
    assert "Not shown: <bdi>no training</bdi>" in page
    shown = [found["id"] for tag, found in Elements(page).found if tag == "section"]
    assert "learning" in shown
    assert not {"attention", "map", "members"} & set(shown)


def test_features_without_pictures_make_a_page() -> None:
    facts = made_up()
    bare = replace(
        facts,
        pictures=None,
        names=[f"image {i + 1}" for i in range(600)],
        wrong=[replace(one, picture=None) for one in facts.wrong],
        leaks=[],
        attention=[],
        sets=None,
        novelty=None,
        rejection=None,
    )
    page = render(bare)
    assert "no picture" in page
    assert data_of(page)["sets"] is None
    assert not any(data_of(page)["pictures"])


def test_pictures_that_cannot_be_read_are_left_out(tmp_path: Any) -> None:
    facts = made_up(60)
    assert facts.pictures is not None
    broken = [tmp_path / "absent.png", *list(facts.pictures)[1:]]
    assert data_of(render(replace(facts, pictures=broken, wrong=[], leaks=[])))["pictures"][0] is None


def test_without_matplotlib_the_numbers_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    page = render(made_up(60))
    assert page.count("pip install &#x27;frofa[plot]&#x27;") == 3
    assert "image/svg" not in page
    assert "Reliability: how often predictions" in page


def test_galleries_show_the_worst_first() -> None:
    facts = made_up()
    mistakes = worst_mistakes(facts)
    given = facts.probabilities[mistakes, facts.truth[mistakes]]
    assert len(mistakes) == int((facts.truth != facts.predicted).sum())
    assert (np.diff(given) >= 0).all()
    assert (np.diff(facts.probabilities.max(1)[least_certain(facts)]) >= 0).all()


def test_sets_are_listed_by_probability() -> None:
    facts = replace(
        made_up(60),
        sets=np.ones((60, 10), bool),
        probabilities=np.tile(np.linspace(0.19, 0.01, 10), (60, 1)),
    )
    assert set_of(facts, 0) == (
        "<bdi>ankle_boot</bdi>, <bdi>bag</bdi>, <bdi>coat</bdi>, <bdi>dress</bdi>, <bdi>pullover</bdi>, and 5 more"
    )


def test_the_part_of_a_large_table_has_the_most_common_confusions() -> None:
    table = np.diag(np.full(40, 9))
    table[30, 7], table[3, 39], table[0, 1] = 5, 4, 1
    assert pairs_of(table) == [(30, 7), (3, 39), (0, 1)]
    assert most_confused(table, 4) == [30, 7, 3, 39]


def test_each_map_of_attention_is_in_the_page(page: str) -> None:
    facts = made_up()
    for one, maps in zip(facts.attention, data_of(page)["attention"], strict=True):
        assert len({drawn for drawn, _ in maps}) == 1 + len(one.weights)
        assert maps[0][0] in page.partition("report-data")[0]
        assert [words for _, words in maps] == [said(weights) for weights in (one.weights.mean(0), *one.weights)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "2 images of this report are, or look the same as, a training image"),
        ({"leaks": made_up().leaks[:1]}, "1 image of this report is among the training images too"),
        (
            {"leaks": [replace(leak, exact=False) for leak in made_up().leaks]},
            "2 images of this report look the same as a training image",
        ),
        ({"leaks": []}, "4 labels to look at"),
    ],
)
def test_what_stands_out_is_said(changes: dict[str, Any], words: str) -> None:
    assert words in " ".join(findings(replace(made_up(), **changes)))


def test_leaks_are_said_only_where_there_are_some() -> None:
    assert "training images too" not in " ".join(findings(replace(made_up(), leaks=[])))


def perfect() -> Facts:
    from frofa.image_classifier.report import evaluation_report

    labels = ["a", "b"]
    truth = np.repeat([0, 1], 20)
    probabilities = np.eye(2)[truth] * 0.98 + 0.01
    return Facts(
        title="Perfect",
        names=[str(i) for i in range(40)],
        pictures=None,
        labels=labels,
        truth=truth,
        predicted=truth,
        probabilities=probabilities,
        evaluation=evaluation_report(np.array(labels)[truth], probabilities, np.array(labels)),
    )


def test_a_classifier_without_mistakes_has_a_page() -> None:
    page = render(perfect())
    assert "No image is mistaken." in page
    assert "There are no confusions." in page
