"""Errors that frofa raises at its boundary; each is also the built-in error that fits best."""

import os
from collections.abc import Sequence
from typing import Protocol


class FrofaError(Exception):
    """Base of all errors that are frofa's own."""


class ImageReadError(FrofaError, ValueError):
    """An image could not be read or decoded.

    Attributes
    ----------
    position : int
        Position of the image in the input, from 0.
    name : str
        Path of the image, or a description of it where it has none.
    reason : str
        What went wrong.
    """

    def __init__(self, position: int, name: str, reason: str):
        # A pickle, as errors of other processes come, builds the error again from the arguments that the base keeps.
        super().__init__(position, name, reason)
        self.position, self.name, self.reason = position, name, reason

    def __str__(self) -> str:
        return f"could not read the image at position {self.position} ({self.name}): {self.reason}"


class ItemError(ImageReadError):
    """An item could not be read, preprocessed or encoded by a custom encoder; attributes as in `ImageReadError`."""

    def __str__(self) -> str:
        return f"could not encode the item at position {self.position} ({self.name}): {self.reason}"


class EncoderError(FrofaError, ValueError):
    """A custom encoder, or how it is used, breaks the contract of `frofa.Encoder`."""


class EncoderCallError(FrofaError, ValueError):
    """A custom encoder raised an error; the message names it and the batch."""


class DecodingProcessError(FrofaError, RuntimeError):
    """A process that decodes images was killed or crashed; the message names the image that it was reading."""


class ModelNotFoundError(FrofaError, OSError):
    """A backbone's weights are neither on this machine nor to be had; the message says which would work."""


class WeightsChangedError(FrofaError, ValueError):
    """A fitted extractor met other weights under its model's name."""


class StoreError(FrofaError, OSError):
    """A directory is no feature store, or the store was written by another version or has a damaged file."""


class DamagedStoreError(StoreError):
    """A file of a feature store is not what was written.

    Attributes
    ----------
    path : path
        The damaged file.
    why : str
        What is wrong with it.
    """

    def __init__(self, path: "str | os.PathLike[str]", why: str):
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        advice = "'frofa store repair' saves what is whole; the rest is extracted again"
        return f"{self.path} is damaged ({self.why}): {advice}."


class SavedFileError(FrofaError, ValueError):
    """A saved estimator cannot be written, or its file is damaged, tampered with or not ours."""


class _Finding(Protocol):
    """The part of a `frofa.doctor.Finding` that an error reads: errors stand below the doctor and do not import it."""

    @property
    def check(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def message(self) -> str: ...


class ExtractorCheckError(FrofaError, AssertionError):
    """An extractor does not do what it should; the message names the checks that failed.

    Attributes
    ----------
    findings : list of Finding
        One for each check, also for those that passed.
    """

    def __init__(self, findings: Sequence[_Finding]):
        super().__init__(findings)
        self.findings = list(findings)

    def __str__(self) -> str:
        return "; ".join(f"{found.check}: {found.message}" for found in self.findings if found.status == "failed")


class RequestError(FrofaError, ValueError):
    """A request to a labelling session cannot be understood, or names what is not there."""


class StoreNotWrittenWarning(UserWarning):
    """A feature store cannot be written, being read-only or full; the message says what was not kept."""


class TooFewSamplesWarning(UserWarning):
    """Too few samples for what was asked for, which they cannot tell: the message has both numbers."""


class SkippedImagesWarning(UserWarning):
    """Images were left out because of ``on_error="skip"``."""


class UnlabelledWarning(UserWarning):
    """Samples of label -1 were taken to have no label; the message says how to say so, or to make -1 a class."""


class UnusedWordsWarning(UserWarning):
    """Words for classes, or what reads them, were given to a classifier without ``prior="text"``, and do nothing."""


class BatchFallbackWarning(UserWarning):
    """Fits of a search could not be trained together and were done in the ordinary way."""


class CheckpointError(ValueError):
    """A checkpoint is of another search, is damaged, or cannot tell one search from another."""
