"""The tokenizer of a folder, by the class of `transformers` that would read it."""

from pathlib import Path
from typing import Literal, TypeAlias, get_args

from frofa.tokenizing.backends import CLIP, SIGLIP2
from frofa.tokenizing.fast import fast_tokenizer
from frofa.tokenizing.interface import Tokenizer
from frofa.tokenizing.open_clip import open_clip_tokenizer
from frofa.tokenizing.sentence_piece import SIGLIP, SiglipTokenizer
from frofa.tokenizing.settings import WHOLE, read_settings

Kind: TypeAlias = Literal["siglip", "siglip2", "clip", "open_clip"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_CLASSES = {"siglip": SIGLIP, "siglip2": SIGLIP2, "clip": CLIP}
_PIECES = "spiece.model"


def load_tokenizer(folder: Path, kind: Kind, context: int) -> Tokenizer:
    """Load the tokenizer of a folder.

    Parameters
    ----------
    folder : Path
        With ``tokenizer.json``, ``spiece.model``, or ``vocab.json`` and ``merges.txt``, and what
        ``tokenizer_config.json`` says of them, which may be missing.
    kind : {"siglip", "siglip2", "clip", "open_clip"}
        The `model_type` of ``config.json``. Towers of SigLIP 2 for images of one size say ``"siglip"`` there: their
        ``tokenizer_config.json`` tells them apart. ``"open_clip"`` is for folders with ``open_clip_config.json``.
    context : int
        Tokens of a text: the positions that the tower has.

    Raises
    ------
    OSError, ValueError
        If files are missing, damaged, or say what is not supported.
    ImportError
        If `tokenizers` or `sentencepiece` is not installed (the extra ``text``).
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}. Got {kind!r}.")
    if kind == "open_clip":
        return open_clip_tokenizer(folder, context)
    settings = read_settings(folder)
    # As in transformers: of SigLIP 2, folders name another class than the one that is right.
    named = settings.kind if kind != "siglip2" else None
    name = named or _CLASSES[kind]
    if name == SIGLIP and (folder / _PIECES).is_file():
        return SiglipTokenizer(folder / _PIECES, settings, context)
    if name == SIGLIP and not (folder / WHOLE).is_file():
        raise FileNotFoundError(f"{folder} has no {_PIECES} and no {WHOLE}, which hold its tokenizer")
    return fast_tokenizer(folder, name, settings, context)
