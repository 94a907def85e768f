from frofa.evaluation import Interval
from frofa.reporting.page.markup import (
    Html,
    counted,
    interval_bar,
    join,
    name,
    path,
    percent,
    points,
    table,
    tag,
    visible,
    with_interval,
)


def test_text_is_escaped_and_html_is_not() -> None:
    inner = tag("b", "<i>")
    assert tag("p", "1 < 2 & ", inner, None) == "<p>1 &lt; 2 &amp; <b>&lt;i&gt;</b></p>"
    assert join(["<", [Html("<br>"), ["&"]]]) == "&lt;<br>&amp;"


def test_attributes_are_escaped_and_zero_is_a_value() -> None:
    written = tag("td", data_true=0, class_=None, hidden=False, checked=True, title="\"'<")
    assert written == '<td data-true="0" checked title="&quot;&#x27;&lt;"></td>'
    assert tag("img", src="data:,", alt="") == '<img src="data:," alt="">'


def test_what_cannot_be_seen_is_spelt_out() -> None:
    assert visible("a\u202egpj.exe") == "a\\u202egpj.exe"
    assert visible("a\nb\x00\x1b") == "a\\nb\\x00\\x1b"
    assert visible("caf\udce9") == "caf\\xe9"
    assert visible("\ud83d") == "\\ud83d"
    assert visible("שלום 👩‍👧 é") == "שלום 👩‍👧 é"


def test_long_names_lose_their_middle() -> None:
    assert visible("start" + "x" * 500 + "end.png").startswith("startxxx")
    assert visible("start" + "x" * 500 + "end.png").endswith("xxxend.png")
    assert len(visible("x" * 5000)) == 160
    assert name("<" * 500).count("&lt;") == 159


def test_numbers_are_written_for_people() -> None:
    assert percent(0.834).replace("\xa0", " ") == "83.4 %"
    assert with_interval(Interval(0.5, 0.25, 0.75)).replace("\xa0", " ") == "50.0 % (25.0 to 75.0)"
    assert points(Interval(-0.0001, -0.01, 0.01)).startswith("+0.0 ")
    assert points(Interval(0.012, -0.003, 0.027)) == "+1.2 (\N{MINUS SIGN}0.3 to +2.7)"
    assert [counted(n, "class", "classes") for n in (1, 1200)] == ["1 class", "1,200 classes"]


def test_tables_have_headings_a_caption_and_a_name() -> None:
    written = table(["A", "B"], [("x", 1), (name("<y>"), 2)], "Numbers")
    assert written.count('scope="col"') == 2
    assert written.count('scope="row"') == 2
    assert "<caption>Numbers</caption>" in written
    assert 'role="region" aria-label="Numbers"' in written
    assert "<bdi>&lt;y&gt;</bdi>" in written


def test_bars_stay_in_their_box() -> None:
    for share in (Interval(0, 0, 0.2), Interval(1, 0.9, 1)):
        assert 'width="120"' in interval_bar(share)
        assert 'cx="-' not in interval_bar(share)
        assert 'cx="4' in interval_bar(share) or 'cx="116' in interval_bar(share)


def test_paths_show_their_end() -> None:
    assert path("/a/b/cats/<1>.jpg") == '<bdi title="/a/b/cats/&lt;1&gt;.jpg">…/cats/&lt;1&gt;.jpg</bdi>'
    assert path("C:\\photos\\cats\\1.jpg").endswith("…/cats/1.jpg</bdi>")
    assert path("cats/1.jpg") == "<bdi>cats/1.jpg</bdi>"
    assert path("image 12") == "<bdi>image 12</bdi>"
