"""Reading JSON that anybody may have changed: the caller's own error, whatever is wrong."""

from pathlib import Path
from typing import Any

import pytest

from frofa.utils.json import check_fields, parse_json, read_json


class OwnError(Exception):
    """What the caller makes of it."""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (100_000 * "[", "more than 100 lists"),
        (101 * "[" + 101 * "]", "more than 100 lists"),
        (200 * '{"a":' + "1" + 200 * "}", "more than 100 lists"),
        ("", "it is no JSON: Expecting"),
        ("{", "it is no JSON: Expecting"),
        (b"\xff\xfe\x00", "UnicodeDecodeError"),
        (b'"\xe9"', "UnicodeDecodeError"),
        (10_000 * "1", "ValueError: Exceeds the limit"),
    ],
)
def test_every_fault_is_the_callers_error(data: str | bytes, message: str) -> None:
    with pytest.raises(OwnError, match=message):
        parse_json(data, OwnError)


@pytest.mark.parametrize(
    "data", [100 * "[" + "1" + 100 * "]", '{"a": [1, 2.5, null, true, "b"]}', "3", b'\xef\xbb\xbf"BOM"']
)
def test_what_is_json_is_read(data: str | bytes) -> None:
    parse_json(data, OwnError)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError):
        read_json(file, OwnError)
    file.write_text('{"a": 1}')
    assert read_json(file, OwnError) == {"a": 1}
    for wrong in (tmp_path, file / "b.json"):
        with pytest.raises(OwnError, match="it is not a file"):
            read_json(wrong, OwnError)
    monkeypatch.setattr("frofa.utils.json.MAX_BYTES", 7)
    with pytest.raises(OwnError, match="more than 7 bytes"):
        read_json(file, OwnError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected an object. Got list"),
        (None, "expected an object. Got NoneType"),
        ({"n": 1}, "it has no 'shape'"),
        ({"n": True, "shape": []}, "expected int as 'n'. Got bool"),
        ({"n": 1.0, "shape": []}, "expected int as 'n'. Got float"),
        ({"n": 1, "shape": {}}, "expected list or NoneType as 'shape'. Got dict"),
    ],
)
def test_fields_have_their_types(content: Any, message: str) -> None:
    with pytest.raises(OwnError, match=message):
        check_fields(content, {"n": int, "shape": (list, type(None))}, OwnError)


def test_right_fields_pass_with_others() -> None:
    content = {"n": 1, "shape": None, "more": "text"}
    assert check_fields(content, {"n": int, "shape": (list, type(None))}, OwnError) is content
