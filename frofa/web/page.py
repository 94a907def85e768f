"""Pages of one file: text that is never interpreted, data as JSON, and a policy that lets nothing else run."""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

THEME = "frofa.web"
_SCRIPT_SAFE = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}
_SURROGATE = re.compile("[\ud800-\udfff]")
_CLOSES = re.compile(r"</(script|style)|<!--", re.IGNORECASE)


def asset(package: str, name: str) -> str:
    """Read a text file of the folder `assets` of a package, such as ``asset("frofa.web", "theme.css")``."""
    return (files(package) / "assets" / name).read_text("utf-8")


def escape(text: object) -> str:
    r"""Escape text for HTML, in elements and in quoted attributes.

    Names of files that are not UTF-8 have lone surrogates in Python, which no page can hold: they become U+FFFD.

    Examples
    --------
    >>> from frofa.web.page import escape
    >>> escape("<b title='a'>"), escape("caf\udce9") == "caf\ufffd"
    ('&lt;b title=&#x27;a&#x27;&gt;', True)
    """
    return html.escape(_SURROGATE.sub("\ufffd", str(text)), quote=True)


def name(text: object) -> str:
    """Escape a name from outside for HTML, apart from the direction of the text around it.

    Examples
    --------
    >>> from frofa.web.page import name
    >>> name("a & b")
    '<bdi>a &amp; b</bdi>'
    """
    return f"<bdi>{escape(text)}</bdi>"


def to_json(data: Any) -> str:
    r"""Write data as ASCII JSON that may stand in a script element; NumPy's arrays and numbers are taken, NaN is null.

    Examples
    --------
    >>> from frofa.web.page import to_json
    >>> to_json({"label": "</script>", "p": float("nan")})
    '{"label":"\\u003c/script\\u003e","p":null}'
    """
    try:
        written = json.dumps(data, allow_nan=False, separators=(",", ":"), default=_plain)
    except ValueError:
        written = json.dumps(_without_nan(data), allow_nan=False, separators=(",", ":"))
    return written.translate(_SCRIPT_SAFE)


def json_block(id: str, data: Any) -> str:  # noqa: A002 (HTML's name)
    """Write data as an element that holds JSON: ``JSON.parse(document.getElementById(id).textContent)`` reads it."""
    return f'<script type="application/json" id="{escape(id)}">{to_json(data)}</script>'


def policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """Write the content security policy of a page of one file as its element.

    Nothing is loaded from anywhere; images are data URIs or drawn by the page; of scripts and styles, only these run,
    by their digests. Attributes ``style=...`` and ``onclick=...`` do not work under it; what scripts set does.
    """
    rules = [
        "default-src 'none'",
        "img-src data: blob:",
        f"script-src {_digests(scripts)}",
        f"style-src {_digests(styles)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(rules)}">'


def document(
    title: str,
    body: str,
    *,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    data: Sequence[str] = (),
    lang: str = "en",
) -> str:
    """Put a page together: the theme, its switch, the policy, the body, data, and scripts at the end.

    Parameters
    ----------
    title : str
        Text; it is escaped here.
    body : str
        HTML. What of it comes from outside must have gone through `escape` or `name`.
    styles : sequence of str
        Style sheets, after the theme's.
    scripts : sequence of str
        ES modules, each an element of its own, which run in their order when the page is there.
    data : sequence of str
        What `json_block` returned.
    lang : str, default="en"
        Language of the text.

    Returns
    -------
    str
        HTML, without lone surrogates, so that it can be written as UTF-8.

    Raises
    ------
    ValueError
        If a script or style has text that would end its element.

    Examples
    --------
    >>> from frofa.web.page import document
    >>> page = document("A < B", "<main><h1>Hello</h1></main>", scripts=["console.log(1);"])
    >>> "<title>A &lt; B</title>" in page, "default-src 'none'" in page
    (True, True)
    """
    all_styles, theme = [asset(THEME, "theme.css"), *styles], asset(THEME, "theme.js")
    for text in (*all_styles, theme, *scripts):
        if found := _CLOSES.search(text):
            raise ValueError(f"expected scripts and styles that do not end their element. Got {found.group()!r}.")
    parts = [
        f'<!DOCTYPE html>\n<html lang="{escape(lang)}">\n<head>\n<meta charset="utf-8">',
        policy([theme, *scripts], all_styles),
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">\n<meta name="referrer" content="no-referrer">',
        # An icon of its own keeps browsers from asking for one.
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>',
        *(f"<style>{text}</style>" for text in all_styles),
        f"<script>{theme}</script>\n</head>\n<body>",
        body,
        *data,
        *(f'<script type="module">{text}</script>' for text in scripts),
        "</body>\n</html>\n",
    ]
    return _SURROGATE.sub("\ufffd", "\n".join(parts))


def themed_image(light: str, dark: str, alt: str, *, width: int | None = None, height: int | None = None) -> str:
    """Show one of two images (data URIs), as the page is light or dark; `alt` is text, and is escaped here."""
    size = "".join(f' {key}="{value}"' for key, value in (("width", width), ("height", height)) if value is not None)
    return "".join(
        f'<img class="{when}-only" src="{escape(uri)}" alt="{escape(alt)}"{size}>'
        for when, uri in (("light", light), ("dark", dark))
    )


def theme_switch() -> str:
    """Write the button that goes from the system's choice of light or dark to light, to dark and back."""
    return '<button type="button" class="quiet" data-theme-switch>Theme: automatic</button>'


def _digests(parts: Sequence[str]) -> str:
    hashed = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts)
    return " ".join(f"'sha256-{one}'" for one in hashed) or "'none'"


def _plain(value: Any) -> Any:
    """Turn NumPy's arrays and numbers into Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"expected text, numbers, lists and mappings. Got {type(value).__name__}.")


def _without_nan(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_without_nan(value) for value in data]
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    return data if data is None or isinstance(data, (str, int)) else _without_nan(_plain(data))
