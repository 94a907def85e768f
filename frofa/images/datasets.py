"""Data sets of Hugging Face and PyTorch; neither library is imported here, they come with their objects."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from frofa.images.columns import LABELS, ColumnsAsked, find_column, listed
from frofa.images.image_set import ImageSet, as_image_list, image_set
from frofa.images.items import ImageItem, LazyImage
from frofa.images.labels import unwrapped
from frofa.utils.progress import progress_bar


@dataclass(frozen=True, slots=True, eq=False)
class DatasetRow(LazyImage):
    """An image of a data set, which a pickle carries along: send rows to other processes together, not one by one.

    Its row is ``dataset[index]``; its name begins with `title`. `column` is that of the images, not decoded, in data
    sets of Hugging Face; None where rows are ``(image, label)``.
    """

    dataset: Any
    index: int
    title: str
    column: str | None = None

    def describe(self) -> str:
        """Name the image by data set and row, such as ``beans/train#12``."""
        return f"{self.title}#{self.index}"

    def read(self) -> Any:
        """Read the row, and return encoded bytes, a path, a PIL image or an array."""
        row = self.dataset[self.index]
        if self.column is None:
            return _image_of(row)
        found = row[self.column]
        if not isinstance(found, dict):
            return found
        return found["bytes"] if found["bytes"] is not None else found["path"]


def is_hugging_face(source: object) -> bool:
    """Tell whether a source is an object of Hugging Face's ``datasets``."""
    return type(source).__module__.partition(".")[0] == "datasets"


def load_hugging_face(dataset: Any, asked: ColumnsAsked) -> ImageSet:
    """Find the images of a ``datasets.Dataset``, in its order; class labels become their names."""
    kind = type(dataset).__name__
    if kind != "Dataset":
        raise TypeError(f"expected a datasets.Dataset, such as one split of a DatasetDict: data['train']. Got {kind}.")
    features = dataset.features
    column = asked.path or _only_images(features)
    if column not in features:
        raise ValueError(f"the data set has no column {column!r}. Got columns {listed(list(features))}.")
    label = _find_label(features, asked.label) if asked.labelled else None
    labels = None if label is None else _labels_of(dataset, label)
    # Images stay encoded here: they are decoded as those of files are, by the same rules.
    images = dataset.with_format(None).select_columns([column])
    if type(features[column]).__name__ == "Image":
        images = images.cast_column(column, type(features[column])(decode=False))
    elif getattr(features[column], "dtype", None) != "string":
        raise ValueError(f"expected a column of images or paths. Got {column!r} of {features[column]}.")
    known = [str(part) for part in (dataset.info.dataset_name, dataset.split) if part is not None]
    title = "/".join(known) or "dataset"
    return image_set([DatasetRow(images, index, title, column) for index in range(len(dataset))], labels)


def _of_kind(features: Any, kind: str) -> list[str]:
    return [str(name) for name, feature in features.items() if type(feature).__name__ == kind]


def _only_images(features: Any) -> str:
    found = _of_kind(features, "Image")
    if len(found) != 1:
        raise ValueError(
            f"expected one column of Image. Got {len(found)} among {listed(list(features))}: choose one by path_column."
        )
    return found[0]


def _find_label(features: Any, label_column: str | None) -> Any:
    """Find the column of class labels, or one that is called as labels are; None if there is none."""
    classes = _of_kind(features, "ClassLabel")
    if label_column is None and len(classes) == 1:
        return classes[0]
    found = find_column("the data set", list(features), label_column, LABELS, "label_column")
    if found is None and classes:
        raise ValueError(
            f"the data set has several columns of class labels, {listed(classes)}: choose one by label_column."
        )
    return found


def _labels_of(dataset: Any, column: str) -> list[object]:
    values = dataset.with_format(None).select_columns([column])[column]
    names = getattr(dataset.features[column], "names", None)
    if names is None:
        return list(values)
    # Hugging Face has -1 for a row without a class.
    return [None if value is None or value < 0 else names[value] for value in values]


def is_torch(source: object) -> bool:
    """Tell whether a source is a PyTorch data set."""
    return any(base.__module__ == "torch.utils.data.dataset" for base in type(source).__mro__)


def load_torch(dataset: Any, *, labelled: bool = True) -> ImageSet:
    """Find the images of a map-style PyTorch data set, in its order.

    An image folder of torchvision without transforms gives the paths of its files. Whole numbers become the names in
    ``classes``, where the data set has it.
    """
    kind = type(dataset).__name__
    if not hasattr(dataset, "__len__"):
        raise TypeError(f"expected a data set with a length and numbered rows. Got {kind}.")
    if not len(dataset):
        raise ValueError(f"expected at least one image. Got {kind} of length 0.")
    _check_first(dataset, kind)
    items: Sequence[ImageItem] = _paths_of(dataset) or [DatasetRow(dataset, i, kind) for i in range(len(dataset))]
    if not labelled:
        return image_set(items)
    targets = _targets_of(dataset)
    if targets is None and isinstance(dataset[0], (tuple, list)) and len(dataset[0]) > 1:
        rows = progress_bar(range(len(dataset)), shown=None, desc="labels", unit="img", delay=2)
        # Without a list of labels, each row is read for its own, which decodes its image as well.
        targets = [dataset[i][1] for i in rows]
    return image_set(items, None if targets is None else _names_of(targets, _classes_of(dataset)))


def _image_of(row: Any) -> Any:
    return row[0] if isinstance(row, (tuple, list)) else row


def _check_first(dataset: Any, kind: str) -> None:
    first = _image_of(dataset[0])
    if not isinstance(first, (str, os.PathLike, Image.Image, np.ndarray)):
        raise TypeError(
            f"expected a data set of PIL images, uint8 arrays or paths. {kind} gives {type(first).__name__}: leave out "
            "the transform that makes tensors, as the backbone has its own preprocessing."
        )
    as_image_list([first])


def _paths_of(dataset: Any) -> list[ImageItem] | None:
    # A folder of torchvision has a loader; without transforms, its rows are what its files are.
    samples = getattr(dataset, "samples", None)
    plain = getattr(dataset, "transforms", 0) is None and getattr(dataset, "loader", None) is not None
    return [path for path, _ in samples] if plain and samples else None


def _targets_of(dataset: Any) -> list[Any] | None:
    """Find the labels, where they can be had without reading images."""
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # torch.utils.data.Subset
        whole = _targets_of(dataset.dataset)
        return None if whole is None else [whole[index] for index in dataset.indices]
    targets = getattr(dataset, "targets", None)
    if targets is None or len(targets) != len(dataset) or getattr(dataset, "target_transform", None) is not None:
        return None
    return list(targets)


def _classes_of(dataset: Any) -> Sequence[Any] | None:
    while hasattr(dataset, "dataset") and not hasattr(dataset, "classes"):
        dataset = dataset.dataset
    return getattr(dataset, "classes", None)


def _names_of(targets: list[Any], classes: Sequence[Any] | None) -> list[Any]:
    plain = [unwrapped(target) for target in targets]
    if classes is None or not all(isinstance(target, int) and 0 <= target < len(classes) for target in plain):
        return plain
    names = [name if isinstance(name, str) else ", ".join(map(str, name)) for name in classes]
    return [names[target] for target in plain]
