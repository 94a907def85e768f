"""SigLIP's tokenizer: canonical texts, cut by a SentencePiece model."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frofa.tokenizing.cleaning import canonicalise
from frofa.tokenizing.interface import Ids, Mask, check_context, check_texts, digest_of, padded
from frofa.tokenizing.pieces import checked
from frofa.tokenizing.settings import NAMED, Settings, Special
from frofa.utils.optional import require
from frofa.utils.text import one_line

SIGLIP = "SiglipTokenizer"
_MARK = "▁"
"""The character that SentencePiece writes for a space."""
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"
"""``normalizer_spec { add_dummy_prefix: false }`` as a message: what follows a message in the same bytes is merged."""
_ROLES = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}


def load_processor(file: Path, *, without_prefix: bool = False) -> tuple[Any, bytes]:
    """Load a SentencePiece model; return it and its bytes. A ValueError names a file that is none."""
    data = file.read_bytes() + (_NO_DUMMY_PREFIX if without_prefix else b"")
    processor = require("sentencepiece", "text").SentencePieceProcessor()
    try:
        checked(data)  # the library takes what was cut off, too
        processor.LoadFromSerializedProto(data)
    except Exception as error:  # the library's own, of C++
        raise ValueError(f"{file} is no SentencePiece model: {one_line(error)}") from error
    return processor, data


class SiglipTokenizer:
    """Texts without punctuation, in lower case, cut by a Unigram model, with an end token.

    The ids are those of `transformers.SiglipTokenizer` with ``padding="max_length", truncation=True``: special tokens
    in a text are kept, and what stands between them is canonicalised and cut by itself.

    Parameters
    ----------
    file : Path
        The SentencePiece model, ``spiece.model``.
    settings : Settings
        Of the folder, for its special tokens.
    context : int
        Tokens of a text, the end token among them.
    """

    def __init__(self, file: Path, settings: Settings, context: int) -> None:
        config = settings.config
        self._processor, data = load_processor(file, without_prefix=config.get("legacy") is False)
        self.context = check_context(context, 2)
        self._specials = _numbered(self._processor, settings)
        self._special_ids = {index for index, token in self._specials.values() if token.flags.get("special")}
        self._eos, self.pad_id = (
            self._specials[settings.name(role, _ROLES[role])][0] for role in ("eos_token", "pad_token")
        )
        self._space = [self._processor.piece_to_id(_MARK)]
        self._unknown_text = settings.name("unk_token", _ROLES["unk_token"])
        self._n_unknown = len(self._processor.encode(self._unknown_text))
        self._lower_case = config.get("do_lower_case", True) is not False
        self._left = config.get("padding_side") == "left"
        contents = sorted(self._specials, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, contents)))
        shown = [(index, token.content, sorted(token.flags.items())) for index, token in self._specials.values()]
        version = require("sentencepiece", "text").__version__.rpartition(".")[0]
        state = (context, self._eos, self.pad_id, self._unknown_text, self._lower_case, self._left, sorted(shown))
        # Python's tables of Unicode say what lower case is.
        self.digest = digest_of("siglip", version, unicodedata.unidata_version, data, state)

    def __call__(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        """Return ids int64 (n, context), and where they are no padding, bool (n, context)."""
        cut = [self._cut(text) for text in check_texts(texts)]
        # All pieces of all texts go to the model at once.
        pieces = [piece for parts in cut for piece in parts if isinstance(piece, str)]
        found = iter(self._encode(pieces))
        rows = [self._row([part if isinstance(part, int) else next(found) for part in parts]) for parts in cut]
        return padded(rows, self.context, self.pad_id, left=self._left)

    def _cut(self, text: str) -> list[str | int]:
        """Split a text into special tokens, as ids, and what stands between them."""
        text = _MARK + text.replace(_MARK, " ")
        parts: list[str] = []
        end = 0
        for match in self._pattern.finditer(text):
            parts += [text[end : match.start()], match.group()]
            end = match.end()
        parts.append(text[end:])
        self._strip(parts)
        ids = self._specials
        # Special tokens stand at odd places.
        return [ids[part][0] if i % 2 else part for i, part in enumerate(parts) if part]

    def _strip(self, parts: list[str]) -> None:
        """Let special tokens take the spaces beside them, where they say so."""
        for i in range(1, len(parts), 2):
            flags = self._specials[parts[i]][1].flags
            left, right = parts[i - 1], parts[i + 1]
            if flags.get("rstrip"):
                parts[i + 1] = right.lstrip()
            if flags.get("lstrip"):
                parts[i - 1] = left.rstrip()

    def _encode(self, pieces: list[str]) -> list[list[int]]:
        # The model drops spaces where a text begins. Behind another token, they are kept.
        texts = [self._unknown_text + canonicalise(piece, lower_case=self._lower_case) for piece in pieces]
        encoded: list[list[int]] = self._processor.encode(texts)
        return [ids[self._n_unknown :] if len(ids) >= self._n_unknown else ids for ids in encoded]

    def _row(self, parts: list[int | list[int]]) -> list[int]:
        """Join the ids of the parts of a text, cut them, and end them."""
        # A text that begins with a special token has nothing before it.
        if len(parts) > 1 and isinstance(parts[1], int) and parts[1] in self._special_ids and parts[0] == self._space:
            parts = parts[1:]
        ids = [token for part in parts for token in (part if isinstance(part, list) else [part])]
        ids = ids[: self.context - 1]
        return ids if ids and ids[-1] == self._eos else [*ids, self._eos]


def _numbered(processor: Any, settings: Settings) -> dict[str, tuple[int, Special]]:
    """Special tokens by content, with their ids: those of files, then those with a role, which may have no id yet."""
    found = {token.content: (index, token) for index, token in settings.added.items()}
    if whole_words := [token.content for _, token in found.values() if token.flags.get("single_word")]:
        raise ValueError(f"special tokens that are whole words alone are not supported. Got {whole_words[0]!r}")
    roles = [settings.name(role, _ROLES.get(role, "")) for role in NAMED]
    size = processor.get_piece_size()
    # What the model has no piece for is numbered on behind its pieces.
    after = size + sum(index >= size for index, _ in found.values())
    for content in [*roles, *(token.content for token in settings.extra)]:
        if not content or content in found:
            continue
        index = processor.piece_to_id(content)
        if processor.id_to_piece(index) != content:
            index, after = after, after + 1
        found[content] = index, Special(content, {"special": True})
    return found
