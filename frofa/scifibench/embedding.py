"""Questions with the embeddings of their figures and captions, each computed once."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from frofa.scifibench.questions import Figure, Task
from frofa.scifibench.reading import Split

Array = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]


class Extractor(Protocol):
    """An object that gives a row of numbers for each figure, or each caption."""

    def transform(self, items: Any, /) -> Any:
        """Return features (n, D)."""


class EmbeddedQuestion(NamedTuple):
    """A question without its content: figures and captions are rows of those that are embedded."""

    split: str
    task: Task
    subset: str
    id: int
    category: str
    figures: tuple[int, ...]
    captions: tuple[int, ...]
    answer: int


@dataclass(frozen=True, eq=False)
class EmbeddedQuestions:
    """Questions, and the embeddings (F, D) of all figures and (C, E) of all captions, each once, of any length."""

    questions: tuple[EmbeddedQuestion, ...]
    figures: Array
    captions: Array

    @cached_property
    def figure_at(self) -> Places:
        """Row of the figure of each choice, (n, m); -1 where a question has fewer choices."""
        return self._places("figures")

    @cached_property
    def caption_at(self) -> Places:
        """Row of the caption of each choice, (n, m); -1 where a question has fewer choices."""
        return self._places("captions")

    @cached_property
    def answer(self) -> Places:
        """Position of each right choice, (n,)."""
        return np.array([question.answer for question in self.questions], np.intp)

    @cached_property
    def categories(self) -> npt.NDArray[Any]:
        """Category of each question, (n,)."""
        return np.array([question.category for question in self.questions])

    @cached_property
    def pairs(self) -> Places:
        """Rows of the figure and the caption that belong together, (n, 2)."""
        rows = np.arange(len(self.questions))
        return np.stack([self.figure_at[rows, self.answer], self.caption_at[rows, self.answer]], 1)

    def _places(self, side: str) -> Places:
        sizes = [max(len(question.figures), len(question.captions)) for question in self.questions]
        table = np.full((len(sizes), max(sizes)), -1, np.intp)
        for row, size, question in zip(table, sizes, self.questions, strict=True):
            row[:size] = getattr(question, side)  # the one that is asked about stands beside every choice
        return table


def embed_splits(splits: Sequence[Split], images: Extractor, text: Extractor) -> EmbeddedQuestions:
    """Read splits one after another, so that one is in memory at a time, and embed their figures and captions.

    A ValueError says that there are no questions, or that embeddings are not of shape (n, D) or not finite.
    """
    figure_rows, caption_rows = dict[bytes, int](), dict[str, int]()
    questions, parts = list[EmbeddedQuestion](), list[Any]()
    for split in splits:
        new = list[Figure]()
        for one in split.read():
            figures = tuple(_row(figure_rows, _digest(figure), new, figure) for figure in one.figures)
            captions = tuple(caption_rows.setdefault(caption, len(caption_rows)) for caption in one.captions)
            questions.append(
                EmbeddedQuestion(one.split, one.task, split.subset, one.id, one.category, figures, captions, one.answer)
            )
        if new:
            parts.append(_checked(images.transform(new), len(new), "figures"))
    if not questions:
        raise ValueError(f"expected questions. Got none in {', '.join(split.name for split in splits) or 'no split'}.")
    captions_table = _checked(text.transform([*caption_rows]), len(caption_rows), "captions")
    return EmbeddedQuestions(tuple(questions), np.concatenate(parts), captions_table)


def cosine_scores(embedded: EmbeddedQuestions) -> Array:
    """Cosines (n, m) of the choices, NaN where a question has fewer."""
    return pair_scores(units(embedded.figures), units(embedded.captions), embedded.figure_at, embedded.caption_at)


def pair_scores(figures: Array, captions: Array, figure_at: Places, caption_at: Places) -> Array:
    """Products (n, m) of rows that belong to choices, NaN where there is none."""
    found = np.einsum("nmd,nmd->nm", figures[figure_at], captions[caption_at])
    return np.where(figure_at < 0, np.nan, found)


def units(rows: Array) -> Array:
    """Rows of length one in float64; zeros stay zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Array = rows / np.where(lengths > 0, lengths, 1)
    return found


def _row(rows: dict[bytes, int], key: bytes, new: list[Figure], figure: Figure) -> int:
    if key not in rows:
        rows[key] = len(rows)
        new.append(figure)
    return rows[key]


def _digest(figure: Figure) -> bytes:
    return hashlib.blake2b(figure.data, digest_size=20).digest()


def _checked(features: Any, n: int, what: str) -> Array:
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or len(rows) != n or not np.isfinite(rows).all():
        raise ValueError(f"expected embeddings of {n} {what} of shape ({n}, D), all finite. Got shape {rows.shape}.")
    return rows
