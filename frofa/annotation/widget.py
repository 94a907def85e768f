"""The labelling page in a notebook: the same page, with messages to the kernel in the place of a server."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from frofa.annotation.background import BackgroundFeatures
from frofa.annotation.features import ArrayFeatures, Features
from frofa.annotation.records.file import LabelFile
from frofa.annotation.respond import respond
from frofa.annotation.server.folder import list_folder
from frofa.annotation.session import LabellingSession
from frofa.exceptions import ImageReadError, RequestError
from frofa.images.image_set import as_image_list
from frofa.images.items import ImageItem
from frofa.utils.optional import require
from frofa.utils.text import one_line
from frofa.web.thumbnails import thumbnail

if TYPE_CHECKING:
    from frofa.extraction.extractor import FrozenFeatureExtractor

MODULES = (
    "label_dom.js",
    "label_transport.js",
    "label_outbox.js",
    "label_pictures.js",
    "label_batches.js",
    "label_model.js",
    "label_keys.js",
    "label_grid.js",
    "label_naming.js",
    "label_choices.js",
    "label_panel.js",
    "label_dialogs.js",
    "label_app.js",
    "label_widget.js",
)
"""The page's modules, each behind those that it imports."""
STYLES = ("label.css", "label_tiles.css", "label_side.css", "label_narrow.css")
SMALL, LARGE = 256, 1600
"""Most pixels of the longer side of an image in a batch, and of one that is looked at alone."""
_IMPORT = re.compile(r"^import .*?;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default)", re.MULTILINE)
_ROOT = re.compile(r":root((?:\[[^\]]*\]|:not\([^)]*\))*)")
_PAGE = re.compile(r"^(?:html|body)(?= \{)", re.MULTILINE)


class LabelWidget:
    """Images in a notebook, labelled by keys, and a model that learns meanwhile; the page of ``frofa label``.

    Show it as the last value of a cell. It needs the extra ``widget``.

    Parameters
    ----------
    images : path, or images
        A directory, whose images are labelled as ``frofa label`` does; or what `FrozenFeatureExtractor.transform` takes
        as images, n of them.
    out : path, default=None
        The file of labels, appended to; see `docs/labelling.md`. None is ``labels.csv`` in the directory, or, of images
        that are given themselves, in the working directory.
    features : array-like of shape (n, n_features) or FeatureBlocks, default=None
        Features of the images in their order, if they are there. None computes them in the background.
    extractor : FrozenFeatureExtractor, default=None
        What computes features, whose outputs are chosen as `ImageClassifier` does; its store keeps them. None is one of
        the embedded backbone.
    random_state : int, default=0
        Seed of the first images that are shown.

    Attributes
    ----------
    session : LabellingSession
    widget : anywidget.AnyWidget
        What the notebook shows.

    Raises
    ------
    ImportError
        If the extra is not installed.
    ValueError
        If there are no images, or features of another number of images.

    See Also
    --------
    frofa.suggest : Images to label next, from features.

    Examples
    --------
    >>> from frofa import LabelWidget
    >>> widget = LabelWidget("photos")  # doctest: +SKIP
    >>> widget  # doctest: +SKIP
    >>> X, y = widget.labelled()  # doctest: +SKIP
    """

    def __init__(
        self,
        images: Any,
        out: str | os.PathLike[str] | None = None,
        *,
        features: Any = None,
        extractor: "FrozenFeatureExtractor | None" = None,
        random_state: int = 0,
    ):
        require("anywidget", "widget")
        is_folder = isinstance(images, (str, os.PathLike))
        file = Path(images if is_folder else "", "labels.csv") if out is None else Path(out)
        if file.suffix != ".csv":
            raise ValueError(f"expected a file of labels that ends in .csv. Got {file}.")
        root, names, self.images = _folder(images) if is_folder else _given(images, file.absolute().parent)
        if not names:
            raise ValueError("expected images. Got none.")
        self.features = _features(self.images, features, extractor, random_state)
        self.session = LabellingSession(root, names, LabelFile(file), self.features, random_state=random_state)
        self.widget = _make_widget(self._receive)
        if isinstance(self.features, BackgroundFeatures):
            self.features.start()
        self.session.start()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.widget._repr_mimebundle_(**options)

    def labels(self) -> npt.NDArray[Any]:
        """Give the labels so far.

        Returns
        -------
        ndarray of shape (n,), dtype object
            A text, or None where an image has no label.
        """
        with self.session.lock:
            found = [self.session.decision(position).label or None for position in range(len(self.images))]
        return np.array([*found, None], object)[:-1]

    def labelled(self) -> tuple[list[ImageItem], list[str]]:
        """Give the images that have a label, and these labels, as `ImageClassifier.fit` takes them."""
        labels = self.labels()
        rows = [position for position, label in enumerate(labels) if label is not None]
        return [self.images[row] for row in rows], [str(labels[row]) for row in rows]

    def close(self) -> None:
        """End what runs in the background; all labels are in the file."""
        self.session.close()
        if isinstance(self.features, BackgroundFeatures):
            self.features.close()
        self.widget.close()

    def _receive(self, _: object, message: Mapping[str, Any], __: object) -> None:
        """Answer a message of the page, in which only its own numbers and a session's requests count."""
        answer, buffers = self._answer(message)
        self.widget.send({"id": message.get("id"), **answer}, buffers)

    def _answer(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        try:
            if "picture" in message:
                return {}, [self._picture(message["picture"], large=bool(message.get("large")))]
            return {"answer": respond(self.session, message.get("request"))}, []
        except (RequestError, ImageReadError) as error:
            return {"refused": one_line(error)}, []
        except OSError as error:
            return {"failed": f"the labels cannot be written: {error.strerror or one_line(error)}"}, []

    def _picture(self, index: Any, *, large: bool) -> bytes:
        if not isinstance(index, int) or not 0 <= index < len(self.images):
            raise RequestError(f"expected an index from 0 to {len(self.images) - 1}. Got {index!r:.100}.")
        return thumbnail(self.images[index], LARGE if large else SMALL, 80, position=index)


def _folder(directory: Any) -> tuple[str, list[str], Sequence[ImageItem]]:
    folder = list_folder(Path(directory))
    paths = [os.path.join(folder.root, name) for name in folder.names]  # noqa: PTH118 (a store knows strings)
    return str(folder.root), folder.names, paths


def _given(images: Any, beside: Path) -> tuple[str, list[str], Sequence[ImageItem]]:
    """Name images as their record does: files relative to its directory, others by their numbers."""
    items = as_image_list(images)
    names = [
        Path(os.path.relpath(item, beside)).as_posix() if isinstance(item, (str, os.PathLike)) else f"image {number}"
        for number, item in enumerate(items)
    ]
    return str(beside), names, items


def _features(
    images: Sequence[ImageItem], features: Any, extractor: "FrozenFeatureExtractor | None", random_state: int
) -> Features:
    if features is None:
        source = partial(_source, images, extractor)
        return BackgroundFeatures(len(images), source, random_state=random_state)
    if len(features) != len(images):
        raise ValueError(f"expected features of {len(images)} images. Got {len(features)}.")
    return ArrayFeatures(features)


def _source(images: Sequence[ImageItem], extractor: "FrozenFeatureExtractor | None") -> Any:
    from frofa.annotation.extracting import ExtractorSource
    from frofa.extraction.extractor import FrozenFeatureExtractor

    parameters = (extractor or FrozenFeatureExtractor()).get_params(deep=False)
    parameters.pop("output")  # vectors as an ImageClassifier takes them
    return ExtractorSource(images, parameters)


def _make_widget(receive: Any) -> Any:
    """Make the widget; its class is made here, as the extra may be missing."""
    anywidget, traitlets = require("anywidget", "widget"), require("traitlets", "widget")
    styles = traitlets.Unicode(shadow_styles()).tag(sync=True)
    made = type("LabelView", (anywidget.AnyWidget,), {"_esm": bundle(), "styles": styles})()
    made.on_msg(receive)
    return made


def bundle() -> str:
    """Put the page's modules together into one, as notebooks take it: each behind those that it imports."""
    parts = [_read("frofa.annotation", name) for name in MODULES]
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)


def shadow_styles() -> str:
    """Give the page's styles for the root of a widget, whose host stands for the document."""

    def host(match: re.Match[str]) -> str:
        return f":host({match[1]})" if match[1] else ":host"

    styles = "\n".join([_read("frofa.web", "theme.css"), *(_read("frofa.annotation", name) for name in STYLES)])
    return _PAGE.sub(":host", _ROOT.sub(host, styles)) + "\n:host { display: block; }\n"


def _read(package: str, name: str) -> str:
    return files(package).joinpath("assets", name).read_text("utf-8")
