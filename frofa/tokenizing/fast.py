"""Tokenizers that the `tokenizers` library runs: CLIP's, Gemma's, SigLIP 2's, and any ``tokenizer.json``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from frofa.tokenizing import backends
from frofa.tokenizing.interface import Ids, Mask, check_context, check_texts, digest_of
from frofa.tokenizing.settings import Settings
from frofa.utils.optional import require

_SIDES = ("left", "right")


class FastTokenizer:
    """A backend of the `tokenizers` library with a context and a padding.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
        Is the tokenizer's own from here on.
    context : int
        Tokens of a text, the special ones among them.
    pad_token : str
        A token of its vocabulary.
    padding_side, truncation_side : {"left", "right"}
        Where short texts are padded, and where long ones are cut.
    clean : callable, optional
        What is done to a text before the backend sees it; `clean_name` says what that is, for the digest.
    """

    def __init__(
        self,
        backend: Any,
        context: int,
        pad_token: str,
        *,
        padding_side: str = "right",
        truncation_side: str = "right",
        clean: Callable[[str], str] | None = None,
        clean_name: str = "",
    ) -> None:
        pad_id = backend.token_to_id(pad_token)
        if pad_id is None:
            raise ValueError(f"the vocabulary has no token {pad_token!r}, which texts are padded with")
        self.context = check_context(context, backend.num_special_tokens_to_add(False) + 1)
        self.pad_id: int = pad_id
        backend.enable_truncation(context, direction=truncation_side)
        backend.enable_padding(direction=padding_side, pad_id=pad_id, pad_token=pad_token, length=context)
        self._backend, self._clean = backend, clean
        # Minor versions have changed ids: theirs are kept apart.
        version = require("tokenizers", "text").__version__.rpartition(".")[0]
        self.digest = digest_of("fast", version, backend.to_str().encode(), clean_name)

    def __call__(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        """Return ids int64 (n, context), and where they are no padding, bool (n, context)."""
        found = check_texts(texts)
        if self._clean is not None:
            found = [self._clean(text) for text in found]
        encoded = self._backend.encode_batch_fast(found)
        shape = len(found), self.context
        ids = np.array([one.ids for one in encoded], np.int64).reshape(shape)
        return ids, np.array([one.attention_mask for one in encoded], bool).reshape(shape)


def fast_tokenizer(folder: Path, kind: str | None, settings: Settings, context: int, **options: Any) -> FastTokenizer:
    """Build the tokenizer of a folder: of a class of `transformers`, or as its ``tokenizer.json`` has it."""
    backend = backends.build(folder, kind, settings)
    known = backends.DEFAULTS.get(kind or "", {})
    if not known:
        backends.add_tokens(backend, kind, settings)
    padding, truncation = (backend.padding or {}), (backend.truncation or {})
    pad_token = settings.name("pad_token", known.get("pad_token") or padding.get("pad_token") or "")
    if not pad_token:
        raise ValueError(f"no file of {folder} names the pad_token, with which short texts are filled up")
    if kind == backends.GEMMA and settings.config.get("do_lower_case") is True:
        backends.lower(backend)
    class_side = "left" if kind in (backends.GEMMA, backends.SIGLIP2) else "right"
    return FastTokenizer(
        backend,
        context,
        pad_token,
        padding_side=_side(settings.config, "padding_side", padding.get("direction") or class_side),
        truncation_side=_side(settings.config, "truncation_side", truncation.get("direction") or "right"),
        **options,
    )


def _side(config: Mapping[str, Any], name: str, default: str) -> str:
    value = config.get(name) or default
    if value not in _SIDES:
        raise ValueError(f"{name} must be 'left' or 'right'. Got {value!r}")
    return str(value)
