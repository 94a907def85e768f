"""The contract of tokenizers: shapes, padding, cutting, digests, and errors that say what is wrong."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from token_helpers import write_clip_tokenizer, write_json, write_siglip2_tokenizer, write_siglip_tokenizer

from frofa.tokenizing.cleaning import cleaning, tidy
from frofa.tokenizing.interface import Tokenizer
from frofa.tokenizing.loading import Kind, load_tokenizer
from frofa.tokenizing.pieces import read_pieces
from frofa.tokenizing.utf8 import ByteTokenizer

WRITERS: dict[Kind, Callable[..., int]] = {
    "siglip": write_siglip_tokenizer,
    "siglip2": write_siglip2_tokenizer,
    "clip": write_clip_tokenizer,
}
KINDS = [*WRITERS, "bytes"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tokenizers")
    for kind, write in WRITERS.items():
        write(root / kind)
    return root


def make(folders: Path, kind: Any, context: int = 16) -> Tokenizer:
    return ByteTokenizer(context) if kind == "bytes" else load_tokenizer(folders / kind, kind, context)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_padded_and_cut(folders: Path, kind: str) -> None:
    tokenizer = make(folders, kind)
    assert isinstance(tokenizer, Tokenizer)
    ids, mask = tokenizer(["a cat", "", "x" * 999])
    assert ids.shape == mask.shape == (3, 16)
    assert (ids.dtype.name, mask.dtype.name) == ("int64", "bool")
    assert (ids[~mask] == tokenizer.pad_id).all()
    # A text's tokens stand at the beginning, and fill it if they are many.
    assert mask.sum(1).tolist() == np.sort(mask.sum(1))[[1, 0, 2]].tolist()
    assert (np.diff(mask.astype(int), axis=1) <= 0).all()
    assert mask[2].all()
    # Beside others or alone, a text has the same ids.
    np.testing.assert_array_equal(tokenizer(("a cat",))[0][0], ids[0])
    assert tokenizer([])[0].shape == (0, 16)
    assert tokenizer([np.str_("a cat")])[0].tolist() == ids[:1].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_text_is_refused(folders: Path, kind: str) -> None:
    tokenizer = make(folders, kind)
    with pytest.raises(TypeError, match=r"a sequence of strings\. Got one str: write \[text\]"):
        tokenizer("a cat")
    with pytest.raises(TypeError, match=r"texts must be strings\. Got float at position 1"):
        tokenizer(["a", float("nan")])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"position 1 holds half a surrogate pair \(U\+D83D at character 2\)"):
        tokenizer(["a", "ab\ud83d"])


@pytest.mark.parametrize("kind", KINDS)
def test_digests_tell_tokenizers_apart(folders: Path, kind: Any, tmp_path: Path) -> None:
    tokenizer = make(folders, kind)
    assert tokenizer.digest == make(folders, kind).digest
    assert tokenizer.digest != make(folders, kind, 17).digest
    if kind == "bytes":
        assert tokenizer.digest != ByteTokenizer(16, 0).digest
        return
    # A smaller vocabulary, another padding: other ids.
    WRITERS[kind](tmp_path, size=800)
    assert tokenizer.digest != load_tokenizer(tmp_path, kind, 16).digest
    WRITERS[kind](tmp_path)
    assert tokenizer.digest == load_tokenizer(tmp_path, kind, 16).digest
    config = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    write_json(tmp_path / "tokenizer_config.json", {**config, "padding_side": "left"})
    other = load_tokenizer(tmp_path, kind, 16)
    assert tokenizer.digest != other.digest
    np.testing.assert_array_equal(other(["a"])[1][0], tokenizer(["a"])[1][0][::-1])


def test_bytes() -> None:
    ids, mask = ByteTokenizer(5)(["né", "\u732b\u732b"])
    assert ids.tolist() == [[110, 195, 169, 256, 256], [231, 140, 171, 231, 140]]
    assert mask.sum(1).tolist() == [3, 5]


@pytest.mark.parametrize(("kind", "least"), [("siglip", 2), ("siglip2", 2), ("clip", 3), ("bytes", 1)])
def test_there_is_room_for_a_token(folders: Path, kind: str, least: int) -> None:
    make(folders, kind, least)
    for context in (least - 1, True, 7.0):
        with pytest.raises(ValueError, match=f"context must be an int of at least {least} tokens"):
            make(folders, kind, context)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "module"), [("siglip", "sentencepiece"), ("siglip2", "tokenizers"), ("clip", "tokenizers")]
)
def test_a_missing_extra_is_named(folders: Path, kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module} is not installed: pip install 'frofa\[text\]'"):
        make(folders, kind)


@pytest.mark.parametrize(
    ("kind", "file", "message"),
    [
        ("siglip", "spiece.model", r"spiece\.model is no SentencePiece model"),
        ("siglip2", "tokenizer.json", r"tokenizer\.json is no JSON object"),
        ("clip", "vocab.json", r"vocab\.json or .*merges\.txt is damaged"),
        ("clip", "tokenizer_config.json", r"tokenizer_config\.json is no JSON object"),
    ],
)
def test_damaged_files_are_named(kind: Kind, file: str, message: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:100])
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path, kind, 16)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("siglip", r"has no spiece\.model and no tokenizer\.json"),
        ("siglip2", r"has no tokenizer\.json and no tokenizer\.model"),
        ("clip", r"has no tokenizer\.json and no vocab\.json and no merges\.txt"),
        ("open_clip", r"open_clip_config\.json"),
    ],
)
def test_missing_files_are_named(kind: Kind, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        load_tokenizer(tmp_path, kind, 16)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("clip", {"padding_side": "middle"}, "padding_side must be 'left' or 'right'. Got 'middle'"),
        ("clip", {"eos_token": 3}, "expected a JSON object of added tokens. Got 3"),
        ("siglip2", {"added_tokens_decoder": []}, r"expected a JSON object of added tokens. Got \[\]"),
        ("siglip", {"eos_token": {"content": 1}}, "a special token must be a string, or an object with its content"),
    ],
)
def test_settings_that_cannot_be_are_named(kind: Kind, values: dict[str, Any], message: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    write_json(tmp_path / "tokenizer_config.json", {**config, **values})
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path, kind, 16)


def test_kinds_are_listed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kind must be one of 'siglip', 'siglip2', 'clip', 'open_clip'\. Got 'bert'"):
        load_tokenizer(tmp_path, "bert", 16)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"tokenizer_kwargs": {"reduction_mask": "random"}}, "only 'clean' is supported"),
        ({"tokenizer_kwargs": {"clean": "all"}}, "can be cleaned by 'lower', 'canonicalize', 'whitespace'. Got 'all'"),
        (None, "must have a model_cfg with a text_cfg"),
    ],
)
def test_what_open_clip_has_beside(text: Any, message: str, tmp_path: Path) -> None:
    write_clip_tokenizer(tmp_path)
    write_json(tmp_path / "open_clip_config.json", {"model_cfg": {"text_cfg": text}})
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path, "open_clip", 16)


@pytest.mark.parametrize("data", [b"", b"\x0a", b"\x0a\x7fabc", b"\x0b\x01\x02", b"\x12\x03abc", b"\xff" * 9])
def test_what_is_no_model_of_pieces(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ValueError, match=r"tokenizer\.model is no SentencePiece model"):
        read_pieces(tmp_path / "tokenizer.model")


def test_cleaning() -> None:
    assert cleaning("lower")("  It&amp;#39;s\tA \u201cCAT\u201d ") == 'it\'s a "cat"'
    assert cleaning("canonicalize")("a_red-hot CAT!") == "a redhot cat"
    assert cleaning("whitespace")("A\u3000\uff23AT\r\n") == "A CAT"
    assert tidy("<b>&amp;</b>\n&amp;\x1b[31m\ufeff\x85") == "<b>&amp;</b>\n&\u2026"
