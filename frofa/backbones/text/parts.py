"""Parts of a text tower as its folder holds them, before it is put on a device."""

from typing import NamedTuple

from frofa.backbones.text.config import TextConfig
from frofa.backbones.text.transformer import TextTransformer
from frofa.tokenizing.interface import Tokenizer


class Parts(NamedTuple):
    """A tower's module, tokenizer and scale, and templates if the checkpoint has its own."""

    config: TextConfig
    module: TextTransformer
    tokenizer: Tokenizer
    logit_scale: float
    logit_bias: float
    templates: tuple[str, ...] | None = None
