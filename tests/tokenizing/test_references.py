"""Ids are those of transformers and open_clip, on 2,000 texts in 22 scripts."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from token_helpers import (
    MARKERS,
    RANGES,
    as_json,
    byte_pairs,
    texts,
    write_clip_tokenizer,
    write_json,
    write_siglip2_tokenizer,
    write_siglip_tokenizer,
)

from frofa.tokenizing.cleaning import tidy
from frofa.tokenizing.loading import Kind, load_tokenizer
from frofa.tokenizing.settings import read_fields

Write = Callable[[Path], Any]


def gemma(folder: Path) -> None:
    write_siglip2_tokenizer(folder, kind="GemmaTokenizer")


def whole_clip(folder: Path) -> None:
    write_clip_tokenizer(folder, whole=True)


def pieces(folder: Path) -> None:
    """Gemma's as a SentencePiece model alone."""
    write_siglip2_tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(byte_pairs(1400))
    change(folder, added_tokens_decoder=None)


def change(folder: Path, **values: Any) -> None:
    """Change fields of ``tokenizer_config.json``; None removes one."""
    content = {**read_fields(folder / "tokenizer_config.json"), **values}
    write_json(folder / "tokenizer_config.json", {name: value for name, value in content.items() if value is not None})


def reference(folder: Path, kind: str, context: int, some: list[str]) -> tuple[Any, Any]:
    """Ids and mask of a class of transformers."""
    import transformers

    tokenizer = getattr(transformers, kind).from_pretrained(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an end token in a text
        found = tokenizer(some, padding="max_length", truncation=True, max_length=context)
    return np.array(found["input_ids"]), np.array(found["attention_mask"], bool)


def check(folder: Path, reference_kind: str, kind: Kind, context: int, n: int = 400) -> None:
    """Compare ids and masks of the first texts, which have all scripts and markers."""
    some = texts()[:n]
    ids, mask = load_tokenizer(folder, kind, context)(some)
    expected_ids, expected_mask = reference(folder, reference_kind, context, some)
    assert_array_equal(ids, expected_ids)
    assert_array_equal(mask, expected_mask)
    assert ids.dtype == np.int64
    assert mask.dtype == bool


def test_the_texts_are_what_they_should_be() -> None:
    assert len(texts()) == 2000
    assert len(RANGES) >= 20
    joined = "".join(texts())
    assert all(marker in joined for marker in MARKERS)
    assert len(set(joined)) > 700
    assert {"", " "} < set(texts())
    assert max(map(len, texts())) == 3000


@pytest.mark.parametrize(
    ("write", "reference_kind", "kind", "context"),
    [
        (write_siglip_tokenizer, "SiglipTokenizer", "siglip", 64),
        (write_siglip_tokenizer, "SiglipTokenizer", "siglip", 9),
        (write_siglip2_tokenizer, "Siglip2Tokenizer", "siglip2", 64),
        (write_siglip2_tokenizer, "Siglip2Tokenizer", "siglip", 5),
        (gemma, "GemmaTokenizer", "siglip", 64),
        (gemma, "Siglip2Tokenizer", "siglip2", 64),
        (pieces, "Siglip2Tokenizer", "siglip2", 64),
        (write_clip_tokenizer, "CLIPTokenizer", "clip", 77),
        (whole_clip, "CLIPTokenizer", "clip", 12),
    ],
)
def test_ids_of_transformers(write: Write, reference_kind: str, kind: Kind, context: int, tmp_path: Path) -> None:
    write(tmp_path)
    check(tmp_path, reference_kind, kind, context, 2000 if context > 60 else 400)


@pytest.mark.parametrize(
    ("write", "reference_kind", "kind", "changes"),
    [
        (write_siglip_tokenizer, "SiglipTokenizer", "siglip", {"added_tokens_decoder": None}),
        (write_siglip_tokenizer, "SiglipTokenizer", "siglip", {"do_lower_case": False, "padding_side": "left"}),
        (write_siglip_tokenizer, "SiglipTokenizer", "siglip", {"legacy": False}),
        (write_siglip_tokenizer, "SiglipTokenizer", "siglip", {"pad_token": "<pad>", "extra_special_tokens": ["A"]}),
        (write_siglip2_tokenizer, "Siglip2Tokenizer", "siglip2", {"padding_side": None}),
        (write_siglip2_tokenizer, "Siglip2Tokenizer", "siglip2", {"added_tokens_decoder": None, "pad_token": "<eos>"}),
        (pieces, "Siglip2Tokenizer", "siglip2", {"add_bos_token": True}),
        (write_clip_tokenizer, "CLIPTokenizer", "clip", {"pad_token": "!", "truncation_side": "left"}),
        (write_clip_tokenizer, "CLIPTokenizer", "clip", {"unk_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
        (write_clip_tokenizer, "CLIPTokenizer", "clip", {"extra_special_tokens": ["a photo", "<mask>"]}),
    ],
)
def test_settings_of_folders_are_followed(
    write: Write, reference_kind: str, kind: Kind, changes: dict[str, Any], tmp_path: Path
) -> None:
    write(tmp_path)
    change(tmp_path, **changes)
    check(tmp_path, reference_kind, kind, 24)


def test_folders_without_settings(tmp_path: Path) -> None:
    write_clip_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    check(tmp_path, "CLIPTokenizer", "clip", 20)
    marks = {"lstrip": False, "normalized": True, "rstrip": True, "single_word": False}
    write_json(tmp_path / "special_tokens_map.json", {"eos_token": {"content": "<|endoftext|>", **marks}})
    check(tmp_path, "CLIPTokenizer", "clip", 20)


def test_gemma_in_lower_case_where_the_folder_says_so(tmp_path: Path) -> None:
    write_siglip2_tokenizer(tmp_path)
    expected, _ = load_tokenizer(tmp_path, "siglip2", 64)(texts()[:400])
    change(tmp_path, tokenizer_class="GemmaTokenizerFast", do_lower_case=True)
    assert_array_equal(load_tokenizer(tmp_path, "siglip", 64)(texts()[:400])[0], expected)


@pytest.fixture(scope="module")
def mended() -> list[str]:
    """Texts in which ftfy guesses no wrong encoding."""
    import ftfy

    found = [text for text in texts() if ftfy.fix_text(text) == tidy(text)]
    assert len(found) >= 1998
    return found


def open_clip_config(folder: Path, **text: Any) -> None:
    write_json(folder / "open_clip_config.json", {"model_cfg": {"text_cfg": {"context_length": 77, **text}}})


@pytest.mark.parametrize("own", [True, False])
def test_ids_of_open_clip(own: bool, mended: list[str], tmp_path: Path) -> None:
    import shutil

    import open_clip

    expected = open_clip.SimpleTokenizer()
    open_clip_config(tmp_path)
    if own:
        shutil.copy(Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", tmp_path)
    else:
        # Its class reads one file alone: the small vocabulary is put in by hand.
        write_clip_tokenizer(tmp_path)
        ids = json.loads((tmp_path / "vocab.json").read_text("utf-8"))
        merges = [tuple(line.split()) for line in (tmp_path / "merges.txt").read_text("utf-8").split("\n")[1:-1]]
        expected.sot_token_id, expected.eot_token_id = ids["<|startoftext|>"], ids["<|endoftext|>"]
        expected.encoder = ids | {"<start_of_text>": expected.sot_token_id, "<end_of_text>": expected.eot_token_id}
        expected.bpe_ranks = {merge: i for i, merge in enumerate(merges)}
        as_json(tmp_path)
    some = mended[: 500 if own else 100]
    ids, mask = load_tokenizer(tmp_path, "open_clip", 77)(some)
    assert_array_equal(ids, expected(some).numpy())
    assert (ids[~mask] == 0).all()
    assert (ids[np.arange(len(ids)), mask.sum(1) - 1] == expected.eot_token_id).all()


@pytest.mark.parametrize(
    ("kind", "clean"),
    [("T5Tokenizer", "canonicalize"), ("GemmaTokenizer", "canonicalize"), ("T5Tokenizer", "whitespace")],
)
def test_ids_of_open_clip_with_tokenizers_of_hugging_face(
    kind: str, clean: str, mended: list[str], tmp_path: Path
) -> None:
    import open_clip

    if kind == "T5Tokenizer":
        from transformers import T5Tokenizer

        write_siglip_tokenizer(tmp_path / "pieces")
        model = str(tmp_path / "pieces" / "spiece.model")
        T5Tokenizer.from_pretrained(
            tmp_path / "pieces", vocab_file=model, extra_ids=0, pad_token="</s>"
        ).save_pretrained(tmp_path)
    else:
        gemma(tmp_path)
    open_clip_config(tmp_path, hf_tokenizer_name="timm/ViT-B-16-SigLIP", tokenizer_kwargs={"clean": clean})
    expected = open_clip.get_tokenizer(f"local-dir:{tmp_path}", context_length=64)(mended[:400])
    assert_array_equal(load_tokenizer(tmp_path, "open_clip", 64)(mended[:400])[0], expected.numpy())
