"""Bytes as tokens: the tokenizer that needs no vocabulary."""

from collections.abc import Sequence

from frofa.tokenizing.interface import Ids, Mask, check_context, check_texts, digest_of, padded


class ByteTokenizer:
    """The UTF-8 bytes of a text, cut to `context` and padded.

    Parameters
    ----------
    context : int
        Bytes of a text. A character that does not fit whole is cut through, as it was in training.
    pad_id : int, default 256
        The first number that is no byte.

    Examples
    --------
    >>> from frofa.tokenizing.utf8 import ByteTokenizer
    >>> ids, mask = ByteTokenizer(4)(["cat"])
    >>> ids.tolist(), mask.tolist()
    ([[99, 97, 116, 256]], [[True, True, True, False]])
    """

    def __init__(self, context: int, pad_id: int = 256) -> None:
        self.context, self.pad_id = check_context(context, 1), pad_id
        self.digest = digest_of("bytes", context, pad_id)

    def __call__(self, texts: Sequence[str]) -> tuple[Ids, Mask]:
        """Return ids int64 (n, context), and where they are no padding, bool (n, context)."""
        return padded([text.encode()[: self.context] for text in check_texts(texts)], self.context, self.pad_id)
