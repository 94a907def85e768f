"""Pages of one file: nothing from outside is interpreted, and nothing runs that was not meant to."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from frofa.web import page

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "\" onmouseover='alert(1)' x=\"",
    "javascript:alert(1)",
    "a\u2028b\u2029c",
    "&lt;b&gt;",
    "\u202egpj.exe",
    "]]>",
    "caf\u00e9 \U0001f431",
    "undecodable \udce9",
]


class Elements(HTMLParser):
    """Names of the elements of a page, and its text."""

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        del attrs
        self.found.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_text(text: str) -> None:
    elements = Elements(page.name(text))
    assert elements.found == ["bdi"]
    assert elements.text == text.replace("\udce9", "\ufffd")


@pytest.mark.parametrize("text", HOSTILE)
def test_data_come_back_as_they_were(text: str) -> None:
    block = page.json_block("facts", {text: [text, 1.5, None, True]})
    inner = re.fullmatch(r'<script type="application/json" id="facts">(.*)</script>', block)
    assert inner is not None
    assert not re.search("[<>&\u2028\u2029\ud800-\udfff]", inner[1])
    assert json.loads(inner[1]) == {text: [text, 1.5, None, True]}


def test_arrays_are_lists_and_nan_is_null() -> None:
    data = {
        "a": np.array([[1, 2]]),
        "b": np.float32(0.5),
        "c": (float("inf"), np.array([np.nan, 1.0])),
        "d": np.int64(3),
    }
    assert json.loads(page.to_json(data)) == {"a": [[1, 2]], "b": 0.5, "c": [None, [None, 1.0]], "d": 3}
    with pytest.raises(TypeError, match="Got set"):
        page.to_json({"a": {1}})


def test_the_policy_lets_its_own_scripts_and_styles_run_alone() -> None:
    whole = page.document("t", "<main></main>", styles=["p{color:red}"], scripts=["let a = 1 < 2;"])
    rules = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', whole)
    assert rules is not None
    assert "unsafe" not in rules[1]
    assert rules[1].startswith("default-src 'none'")
    for text in (
        *re.findall(r"<style>(.*?)</style>", whole, re.DOTALL),
        *re.findall(r"<script(?: type=\"module\")?>(.*?)</script>", whole, re.DOTALL),
    ):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in rules[1]
    assert len(re.findall("sha256-", rules[1])) == 4


def test_a_document_can_be_written_and_its_title_is_text() -> None:
    whole = page.document("<b>\udce9", "<p>caf\udce9</p>", data=[page.json_block("x", "\udce9")])
    whole.encode()
    assert "<title>&lt;b&gt;\ufffd</title>" in whole
    assert 'lang="en"' in whole


@pytest.mark.parametrize("text", ["a</SCRIPT >", "a</style", "<!-- a"])
def test_scripts_that_would_end_their_element_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Got '<"):
        page.document("t", "", scripts=[text])
    with pytest.raises(ValueError, match="Got '<"):
        page.document("t", "", styles=[text])


def test_the_theme_is_the_same_wherever_dark_is_chosen() -> None:
    css = page.asset("frofa.web", "theme.css")
    by_system = re.search(r':root:not\(\[data-theme="light"\]\) \{(.*?)\}', css, re.DOTALL)
    by_switch = re.search(r'\n:root\[data-theme="dark"\] \{(.*?)\}', css, re.DOTALL)
    assert by_system is not None
    assert by_switch is not None
    assert by_system[1].split() == by_switch[1].split()


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("start", [":root {", ':root[data-theme="dark"] {'])
def test_text_can_be_read_on_every_ground(start: str) -> None:
    css = page.asset("frofa.web", "theme.css")
    block = css[css.index(f"\n{start}" if "dark" in start else start) :].split("}")[0]
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
    grounds = ("ground", "surface", "raised", "accent-soft", "good-soft", "bad-soft", "warn-soft")
    pairs = [("text", ground) for ground in grounds] + [("on-accent", "accent")]
    pairs += [(text, ground) for text in ("muted", "accent", "good", "bad", "warn") for ground in grounds[:4]]
    pairs += [(text, f"{text}-soft") for text in ("good", "bad", "warn")]
    assert {pair: round(_contrast(*(colours[one] for one in pair)), 2) for pair in pairs} == {
        pair: pytest.approx(12.75, abs=8.25)
        for pair in pairs  # from 4.5, which WCAG asks for, to 21
    }
    assert _contrast(colours["strong-line"], colours["ground"]) >= 3
