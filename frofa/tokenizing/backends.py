"""Tokenizers of the `tokenizers` library, built as the classes of `transformers` build them.

These take vocabulary and merges from a folder, and bring normalisation and splitting of their own, so that a
``tokenizer.json`` of an older version gives the ids of today's reference (`CLIPTokenizer`, `GemmaTokenizer` and
`Siglip2Tokenizer` of transformers 5).
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from frofa.tokenizing.pieces import read_pieces
from frofa.tokenizing.settings import NAMED, WHOLE, Settings, Special, read_fields
from frofa.utils.optional import require
from frofa.utils.text import one_line

PIECES = "tokenizer.model"
CLIP, GEMMA, SIGLIP2, T5 = "CLIPTokenizer", "GemmaTokenizer", "Siglip2Tokenizer", "T5Tokenizer"
DEFAULTS: Mapping[str, Mapping[str, str]] = {
    CLIP: {
        "unk_token": "<|endoftext|>",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    },
    GEMMA: {
        "unk_token": "<unk>",
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
}
DEFAULTS = {
    **DEFAULTS,
    SIGLIP2: DEFAULTS[GEMMA],
    T5: {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"},
}
"""Special tokens by class, where no file names them."""
CLIP_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""Words of CLIP: runs of letters, single digits, runs of the rest (Radford et al. 2021, simple_tokenizer.py)."""


def build(folder: Path, kind: str | None, settings: Settings) -> Any:
    """Build the backend of a folder; of a class that is not known here, as ``tokenizer.json`` has it."""
    library = require("tokenizers", "text")
    if kind is None or kind not in DEFAULTS:
        return _whole(library, folder)
    if kind == T5:
        return _t5_backend(library, folder, settings)
    vocabulary, merges, whole, settings = read_source(library, folder, kind, settings)
    make = clip_backend if kind == CLIP else gemma_backend
    try:
        backend = make(vocabulary, merges, settings.name("unk_token", DEFAULTS[kind]["unk_token"]))
    except Exception as error:  # the library's own, of Rust
        raise ValueError(f"the vocabulary in {folder} cannot be used: {one_line(error)}") from error
    if kind == SIGLIP2:
        lower(backend)
    add_tokens(backend, kind, settings)
    if whole is not None:
        _copy_settings(library, whole, backend)
    if kind == CLIP:
        end, start = (_pair(backend, settings.name(role, DEFAULTS[kind][role])) for role in ("eos_token", "bos_token"))
        backend.post_processor = library.processors.RobertaProcessing(end, start, False, False)
    elif whole is None:
        backend.post_processor = _template(library, backend, kind, settings)
    return backend


def clip_backend(vocabulary: Mapping[str, int], merges: Any, unknown: str) -> Any:
    """CLIP's: lower case, words, bytes, merges with the end of a word marked."""
    library = require("tokenizers", "text")
    backend = library.Tokenizer(
        library.models.BPE(
            vocab=dict(vocabulary),
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token=unknown,
        )
    )
    form, cases = library.normalizers, library.pre_tokenizers
    backend.normalizer = form.Sequence([form.NFC(), form.Replace(library.Regex(r"\s+"), " "), form.Lowercase()])
    split = cases.Split(library.Regex(CLIP_PATTERN), behavior="removed", invert=True)
    backend.pre_tokenizer = cases.Sequence([split, cases.ByteLevel(add_prefix_space=False)])
    return backend


def gemma_backend(vocabulary: Mapping[str, int], merges: Any, unknown: str) -> Any:
    """Gemma's: merges over whole texts with spaces as a character, and bytes for what the vocabulary lacks."""
    library = require("tokenizers", "text")
    backend = library.Tokenizer(
        library.models.BPE(vocab=dict(vocabulary), merges=merges, fuse_unk=True, unk_token=unknown, byte_fallback=True)
    )
    backend.pre_tokenizer = library.pre_tokenizers.Split(pattern=" ", behavior="merged_with_previous", invert=False)
    backend.normalizer = library.normalizers.Replace(" ", "▁")
    return backend


def _t5_backend(library: Any, folder: Path, settings: Settings) -> Any:
    """T5's, which folders of open_clip have for SigLIP: the likeliest pieces of each word, and an end token."""
    if not (file := folder / WHOLE).is_file():
        raise FileNotFoundError(f"{folder} has no {WHOLE}, which holds its tokenizer")
    whole = read_fields(file)
    given, cases = whole.get("normalizer") or {}, library.pre_tokenizers
    try:
        pieces = [(str(piece), float(score)) for piece, score in whole["model"]["vocab"]]
        backend = library.Tokenizer(library.models.Unigram(pieces, unk_id=2, byte_fallback=False))
        steps = given["normalizers"] if given.get("type") == "Sequence" else [given]
        for step in steps:
            if step.get("type") == "Precompiled":
                backend.normalizer = library.normalizers.Precompiled(b64decode(step["precompiled_charsmap"]))
        words = cases.Metaspace(replacement="▁", prepend_scheme="always", split=True)
        backend.pre_tokenizer = cases.Sequence([cases.WhitespaceSplit(), words])
        add_tokens(backend, T5, settings)
        end = _pair(backend, settings.name("eos_token", DEFAULTS[T5]["eos_token"]))
    except Exception as error:  # the library's own, of Rust, too
        raise ValueError(f"{file} holds no vocabulary of pieces with scores: {one_line(error)}") from error
    backend.post_processor = library.processors.TemplateProcessing(single=["$A", end[0]], special_tokens=[end])
    return backend


def lower(backend: Any) -> None:
    """Write texts in lower case before all else, as SigLIP 2 was trained."""
    form = require("tokenizers", "text").normalizers
    backend.normalizer = form.Sequence([form.Lowercase()] + ([backend.normalizer] if backend.normalizer else []))


def add_tokens(backend: Any, kind: str | None, settings: Settings) -> None:
    """Make the special tokens known that the vocabulary has, and add those that it lacks."""
    added_token = require("tokenizers", "text").AddedToken
    defaults = {role: Special(content, {}) for role, content in DEFAULTS.get(kind or "", {}).items()}
    roles = [token for role in NAMED if (token := settings.named.get(role) or defaults.get(role))]
    contents = {token.content for token in roles}
    of_files = [token for _, token in sorted(settings.added.items())]
    known = {token.content for token in of_files}
    # Where two roles have one token, the flags of the later count: each is added in its turn.
    others = [token for token in (*roles, *settings.extra) if token.content not in known]
    for token in of_files:
        flags = dict(token.flags) | ({"special": True} if token.content in contents else {})
        backend.add_tokens([added_token(token.content, **flags)])
    for token in others:
        backend.add_tokens([added_token(token.content, **{"special": True, **token.flags})])


class Source(NamedTuple):
    """Parts that a backend is built from; `whole` is all of a ``tokenizer.json`` where there is one."""

    vocabulary: dict[str, int]
    merges: Any
    whole: dict[str, Any] | None
    settings: Settings


def read_source(library: Any, folder: Path, kind: str, settings: Settings) -> Source:
    """Read vocabulary and merges from the first of the files that are there."""
    if (file := folder / WHOLE).is_file():
        whole = read_fields(file)
        model = whole.get("model")
        if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict) or "merges" not in model:
            raise ValueError(f"{file} holds no vocabulary of byte pairs with merges")
        merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
        return Source(model["vocab"], merges, whole, settings)
    if kind != CLIP:
        if not (file := folder / PIECES).is_file():
            raise FileNotFoundError(f"{folder} has no {WHOLE} and no {PIECES}, which hold its tokenizer")
        pieces = read_pieces(file)
        return Source(pieces.vocabulary, pieces.merges, None, settings._replace(extra=settings.extra + pieces.specials))
    files = folder / "vocab.json", folder / "merges.txt"
    if missing := [file.name for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{folder} has no {WHOLE} and no {' and no '.join(missing)}, which hold its tokenizer")
    try:
        vocabulary, merges = library.models.BPE.read_file(*map(str, files))
    except Exception as error:  # the library's own, of Rust
        raise ValueError(f"{files[0]} or {files[1]} is damaged: {one_line(error)}") from error
    return Source(vocabulary, merges, None, settings)


def _template(library: Any, backend: Any, kind: str, settings: Settings) -> Any:
    """Say which special tokens begin and end a text; unless told otherwise, it is ended, as SigLIP 2's are."""
    begins, ends = settings.config.get("add_bos_token", False), settings.config.get("add_eos_token", True)
    marks = [settings.name(role, DEFAULTS[kind][role]) for role in ("bos_token", "eos_token")]
    single = [marks[0]] * bool(begins) + ["$A"] + [marks[1]] * bool(ends)
    used = [_pair(backend, mark) for mark in marks if mark in single]
    return library.processors.TemplateProcessing(single=single, special_tokens=used)


def _copy_settings(library: Any, whole: Mapping[str, Any], backend: Any) -> None:
    """Take over what a ``tokenizer.json`` adds to each text, how it pads and cuts."""
    # Read without its vocabulary, which takes a second.
    model = dict(whole["model"]) | {"vocab": {}, "merges": []}
    try:
        bare = library.Tokenizer.from_str(json.dumps(dict(whole) | {"model": model, "added_tokens": []}))
    except Exception as error:  # the library's own, of Rust
        raise ValueError(f"{WHOLE} cannot be used: {one_line(error)}") from error
    backend.post_processor = bare.post_processor
    if bare.padding is not None:
        backend.enable_padding(**bare.padding)
    if bare.truncation is not None:
        backend.enable_truncation(**bare.truncation)


def _whole(library: Any, folder: Path) -> Any:
    file = folder / WHOLE
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {WHOLE}")
    try:
        return library.Tokenizer.from_file(str(file))
    except Exception as error:  # the library's own, of Rust
        raise ValueError(f"{file} is no tokenizer that the library reads: {one_line(error)}") from error


def _pair(backend: Any, content: str) -> tuple[str, int]:
    index = backend.token_to_id(content)
    assert index is not None  # it was added
    return content, index
