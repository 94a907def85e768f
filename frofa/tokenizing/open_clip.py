"""Tokenizers of folders that open_clip has written: its own, or one of Hugging Face with cleaned texts."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frofa.tokenizing import backends
from frofa.tokenizing.cleaning import cleaning
from frofa.tokenizing.fast import FastTokenizer, fast_tokenizer
from frofa.tokenizing.settings import Settings, read_fields, read_settings
from frofa.utils.optional import require

CONFIG = "open_clip_config.json"
_MERGES = ("bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt")
_N_MERGES = 49152 - 256 - 2
_OPTIONS = {"clean"}
_START, _END = "<start_of_text>", "<end_of_text>"


def open_clip_tokenizer(folder: Path, context: int) -> FastTokenizer:
    """Load the tokenizer of a folder with ``open_clip_config.json``, as `open_clip.get_tokenizer` does.

    An OSError or ValueError says which file is missing or damaged, or what is not supported.
    """
    text = _text_config(folder)
    options = text.get("tokenizer_kwargs") or {}
    if not isinstance(options, dict) or set(options) - _OPTIONS or text.get("tokenizer_mode"):
        raise ValueError(f"{folder / CONFIG}: of tokenizer_kwargs, only 'clean' is supported. Got {options!r:.80}")
    settings = read_settings(folder)
    if text.get("hf_tokenizer_name"):
        name = str(options.get("clean", "whitespace"))
        return fast_tokenizer(folder, settings.kind, settings, context, clean=cleaning(name), clean_name=name)
    name = str(options.get("clean", "lower"))
    backend = _simple_backend(folder, settings)
    # It pads with zeros, which are a token like any other.
    return FastTokenizer(backend, context, backend.id_to_token(0), clean=cleaning(name), clean_name=name)


def _text_config(folder: Path) -> Mapping[str, Any]:
    config = read_fields(folder / CONFIG)
    model = config.get("model_cfg")
    text = model.get("text_cfg") if isinstance(model, dict) else None
    if not isinstance(text, dict):
        raise ValueError(f"{folder / CONFIG} must have a model_cfg with a text_cfg. Got {config!r:.80}")
    return text


def _simple_backend(folder: Path, settings: Settings) -> Any:
    """Build open_clip's `SimpleTokenizer`: CLIP's byte pairs, with other names for the tokens at both ends."""
    library = require("tokenizers", "text")
    file = next((folder / name for name in _MERGES if (folder / name).is_file()), None)
    if file is not None:
        vocabulary, merges = _simple_vocabulary(file)
    else:
        source = backends.read_source(library, folder, backends.CLIP, settings)
        defaults = backends.DEFAULTS[backends.CLIP]
        names = {
            settings.name("bos_token", defaults["bos_token"]): _START,
            settings.name("eos_token", defaults["eos_token"]): _END,
        }
        vocabulary, merges = {names.get(token, token): i for token, i in source.vocabulary.items()}, source.merges
    if missing := [token for token in (_START, _END) if token not in vocabulary]:
        raise ValueError(f"the vocabulary in {folder} lacks the tokens at the ends of a text: {', '.join(missing)}")
    backend = backends.clip_backend(vocabulary, merges, _END)
    ends = [library.AddedToken(token, special=True, normalized=False) for token in (_START, _END)]
    backend.add_special_tokens(ends)
    end, start = ((token, vocabulary[token]) for token in (_END, _START))
    backend.post_processor = library.processors.RobertaProcessing(end, start, False, False)
    # Texts are cleaned before, in another way than Hugging Face's tokenizer of CLIP does it.
    backend.normalizer = None
    return backend


def _simple_vocabulary(file: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of open_clip's own file, which lists the merges alone."""
    try:
        text = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error
    lines = [tuple(line.split()) for line in text.split("\n")[1 : _N_MERGES + 1] if line.strip()]
    merges = [(line[0], line[1]) for line in lines if len(line) == 2]
    if len(merges) != len(lines):
        raise ValueError(f"{file} must have two tokens in each line below the first")
    # Bytes that can be seen stand for themselves and come first; others are written as characters from 256 on.
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = [*map(chr, seen), *(chr(256 + i) for i in range(256 - len(seen)))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), _START, _END]
    return {token: i for i, token in enumerate(tokens)}, merges
