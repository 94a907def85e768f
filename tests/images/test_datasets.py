"""frofa.images.datasets: data sets of Hugging Face, PyTorch and torchvision."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset

from frofa import load_images
from frofa.images.folders import load_image_folder
from frofa.images.reading import content


class Pairs(Dataset[Any]):
    """``(image, label)`` from a list; counts how often it is read."""

    def __init__(self, rows: list[Any], **attributes: Any):
        self.rows, self.n_read = rows, 0
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        self.n_read += 1
        return self.rows[index]


IMAGES = [Image.new("RGB", (5, 4), (shade, 2, 3)) for shade in range(6)]


def test_pil_images_arrays_and_paths_of_a_torch_data_set(image_paths: list[str]) -> None:
    kinds: list[Any] = [IMAGES[0], np.asarray(IMAGES[1]), image_paths[0]]
    images = load_images(Pairs([(kind, 3 - index) for index, kind in enumerate(kinds)]))
    assert images.names == ["Pairs#0", "Pairs#1", "Pairs#2"]
    assert images.labels is not None
    assert images.labels.tolist() == [3, 2, 1]
    assert [content(item)[1] for item in images.items] == [content(kind)[1] for kind in kinds]
    assert [content(pickle.loads(pickle.dumps(item)))[1] for item in images.items] == [  # noqa: S301 (our own)
        content(kind)[1] for kind in kinds
    ]


def test_targets_are_taken_without_reading_images() -> None:
    dataset = Pairs([(image, -1) for image in IMAGES], targets=torch.tensor([0, 1, 1, 0, 0, 1]), classes=["a", "b"])
    images = load_images(dataset)
    assert images.labels is not None
    assert images.labels.tolist() == ["a", "b", "b", "a", "a", "b"]
    assert dataset.n_read == 1
    part = load_images(Subset(dataset, [5, 0])).labels
    assert part is not None
    assert part.tolist() == ["b", "a"]


def test_rows_without_labels_are_images_alone() -> None:
    images = load_images(Pairs(IMAGES))
    assert images.labels is None
    assert [content(item)[0] for item in images.items] == IMAGES


def test_a_torchvision_folder_gives_its_files(image_folder: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    paths, labels = load_image_folder(image_folder)
    plain = load_images(torchvision.datasets.ImageFolder(str(image_folder)))
    assert plain.items == paths
    assert plain.labels is not None
    assert plain.labels.tolist() == labels.tolist()
    resize = torchvision.transforms.Resize((8, 8))
    small = load_images(torchvision.datasets.ImageFolder(str(image_folder), resize))
    assert [content(item)[0].size for item in small.items] == [(8, 8)] * 12  # type: ignore[union-attr]
    assert small.labels is not None
    assert small.labels.tolist() == labels.tolist()
    shifted = torchvision.datasets.ImageFolder(str(image_folder), resize, target_transform=lambda target: target + 7)
    assert set(load_images(shifted).labels.tolist()) == {7, 8, 9}  # type: ignore[union-attr]


def test_what_a_torch_data_set_must_give(image_folder: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    tensors = torchvision.datasets.ImageFolder(str(image_folder), torchvision.transforms.ToTensor())
    with pytest.raises(TypeError, match="ImageFolder gives Tensor: leave out the transform"):
        load_images(tensors)
    with pytest.raises(ValueError, match="expected uint8 images"):
        load_images(Pairs([(np.zeros((4, 4)), 1)]))
    with pytest.raises(ValueError, match="Pairs of length 0"):
        load_images(Pairs([]))

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(IMAGES)

    with pytest.raises(TypeError, match=r"with a length and numbered rows. Got Stream"):
        load_images(Stream())


# The data sets' own: their fingerprints are made by pickling, of which some combinations of versions warn.
hugging_face = pytest.mark.filterwarnings("ignore:Cannot (locate reference|pickle)")


@pytest.fixture
def pets(image_paths: list[str]) -> Any:
    """A data set of Hugging Face: three encoded images, of which one has no class."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "class": datasets.ClassLabel(names=["cat", "dog"]),
            "file": datasets.Value("string"),
        }
    )
    rows = {"image": image_paths[:3], "class": [1, 0, None], "file": image_paths[3:6]}
    return datasets.Dataset.from_dict(rows, features=features)


@hugging_face
def test_hugging_face_images_are_the_files_bytes(pets: Any, image_paths: list[str]) -> None:
    images = load_images(pets)
    assert images.labels is not None
    assert images.labels.tolist() == ["dog", "cat", ""]
    assert images.names == ["dataset#0", "dataset#1", "dataset#2"]
    expected = [content(path) for path in image_paths[:3]]
    assert [content(item) for item in images.items] == expected
    assert [content(item) for item in pickle.loads(pickle.dumps(images.items))] == expected  # noqa: S301 (our own)
    embedded = pets.map(lambda row: row, load_from_cache_file=False).with_format("torch")
    assert [content(item) for item in load_images(embedded).items] == expected


@hugging_face
def test_columns_of_a_hugging_face_data_set(pets: Any, image_paths: list[str]) -> None:
    images = load_images(pets, path_column="file", label_column="file")
    assert [content(item)[0] for item in images.items] == [content(path)[0] for path in image_paths[3:6]]
    assert images.labels is not None
    assert images.labels.tolist() == image_paths[3:6]
    with pytest.raises(ValueError, match=r"no column 'y'. Got columns 'image', 'class', 'file'"):
        load_images(pets, label_column="y")
    with pytest.raises(ValueError, match=r"expected a column of images or paths. Got 'class'"):
        load_images(pets, path_column="class")
    with pytest.raises(ValueError, match=r"expected one column of Image. Got 0 among 'class', 'file'"):
        load_images(pets.remove_columns("image"))


@hugging_face
def test_labels_of_a_hugging_face_data_set_are_never_lost(pets: Any) -> None:
    datasets = pytest.importorskip("datasets")
    pets = pets.rename_column("class", "animal")
    both = pets.add_column("kind", [1, 0, 1]).cast_column("kind", datasets.ClassLabel(names=["young", "old"]))
    with pytest.raises(
        ValueError, match="several columns of class labels, 'animal', 'kind': choose one by label_column"
    ):
        load_images(both)
    assert load_images(both, labels=False).labels is None
    assert load_images(both, label_column="kind").labels.tolist() == ["old", "young", "old"]  # type: ignore[union-attr]
    named = pets.remove_columns("animal").add_column("category", ["a", "b", None])
    assert load_images(named).labels.tolist() == ["a", "b", ""]  # type: ignore[union-attr]
    lists = pets.remove_columns("animal").add_column("label", [[1], [2], [3]])
    with pytest.raises(ValueError, match=r"Got list \[1\] at position 0 \(dataset#0\)"):
        load_images(lists)


@pytest.mark.parametrize(
    "target", [[1, 0], torch.tensor([1, 0]), {"boxes": [1]}, IMAGES[0]], ids=["list", "tensor", "boxes", "mask"]
)
def test_targets_that_are_no_labels_are_an_error(target: Any) -> None:
    pairs = Pairs([(image, target) for image in IMAGES])
    with pytest.raises(ValueError, match=r"expected one label an image.* at position 0 \(Pairs#0\)"):
        load_images(pairs)
    assert load_images(pairs, labels=False).labels is None
    assert load_images(pairs, labels="abcabc".__iter__()).labels.tolist() == list("abcabc")  # type: ignore[union-attr]


@hugging_face
def test_a_dictionary_of_splits_is_refused(pets: Any) -> None:
    datasets = pytest.importorskip("datasets")
    with pytest.raises(TypeError, match=r"data\['train'\]. Got DatasetDict"):
        load_images(datasets.DatasetDict({"train": pets}))
