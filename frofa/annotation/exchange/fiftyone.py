"""FiftyOne's formats: the samples of a dataset, and its simple format of classified images.

They are those of ``fiftyone.types.FiftyOneDataset`` (``samples.json``) and ``FiftyOneImageClassificationDataset``
(``labels.json``, with ``data.json`` or a folder ``data``), https://docs.voxel51.com/user_guide/export_datasets.html. An
image that somebody is not sure about, or that is of none of the classes, is a sample with a tag that says so.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from frofa.annotation.exchange.places import Places
from frofa.annotation.exchange.samples import NONE, UNSURE, Found, Sample, label_of
from frofa.images.listing import count
from frofa.utils.json import check_fields, read_json
from frofa.utils.text import shorten

TOOL = "fiftyone"
LABEL, GUESS = "ground_truth", "predictions"
"""Names that FiftyOne's own datasets have for what is right and for what a model says."""
TAGS = {UNSURE: "unsure", NONE: "none of these"}
KIND = "Classification"


def files(samples: Sequence[Sample], base: Path, folder: Path, name: str) -> dict[str, Any]:
    """Make the files of a dataset, JSON by name, that is to lie in `folder`; paths of samples are from `base`.

    Images stay where they are: samples have their paths from the folder, and the manifest absolute ones.
    """
    top = os.path.abspath(folder)  # noqa: PTH100 (links stay what they are)
    places = [os.path.abspath(base / sample.path) for sample in samples]  # noqa: PTH100
    classes = sorted({sample.label for sample in samples if sample.label})
    # Names without a dot, as FiftyOne takes what is behind it for an ending.
    keys = [f"{number:06d}" for number in range(1, len(samples) + 1)]
    return {
        "samples.json": {
            "samples": [
                _sample(sample, os.path.relpath(place, top)) for sample, place in zip(samples, places, strict=True)
            ]
        },
        # Without a version, which is FiftyOne's own: it finds out itself what fields samples have.
        "metadata.json": {"name": name, "media_type": "image", "info": {"classes": classes}},
        "labels.json": {
            "classes": classes,
            "labels": {
                key: classes.index(sample.label) if sample.label else None
                for key, sample in zip(keys, samples, strict=True)
            },
        },
        "data.json": dict(zip(keys, places, strict=True)),
    }


def _sample(sample: Sample, path: str) -> dict[str, Any]:
    found: dict[str, Any] = {"filepath": path, "tags": [TAGS[sample.how]] if sample.how in TAGS else []}
    found[LABEL] = {"_cls": KIND, "tags": [], "label": sample.label} if sample.label else None
    if sample.guess is not None:
        label, probability = sample.guess
        found[GUESS] = {"_cls": KIND, "tags": [], "label": label, "confidence": float(probability)}
    return found


def is_dataset(content: Any) -> bool:
    """Tell whether JSON looks like one of the two formats."""
    return isinstance(content, Mapping) and (
        isinstance(content.get("samples"), list) or isinstance(content.get("labels"), dict)
    )


def samples_of(content: Mapping[str, Any], folder: Path, places: Places, field: str | None = None) -> Found:
    """Read a dataset that lies in `folder`; `field` names the labels, where samples have several kinds.

    A ValueError says what is wrong.
    """
    if isinstance(content.get("samples"), list):
        return _from_samples(content["samples"], folder, places, field)
    return _from_labels(content, folder, places)


def _from_samples(samples: Sequence[Any], folder: Path, places: Places, field: str | None) -> Found:
    for number, sample in enumerate(samples, start=1):
        check_fields(sample, {"filepath": str}, lambda why, at=number: ValueError(f"sample {at}: {why}."))  # type: ignore[misc]
    field = _field_of(samples, field)
    found, n_bare = list[Sample](), 0
    hows = {tag: how for how, tag in TAGS.items()}
    for sample in samples:
        value = sample.get(field) if field else None
        text = value.get("label") if isinstance(value, dict) else None
        tags = sample.get("tags")
        how = next((hows[tag] for tag in (tags if isinstance(tags, list) else ()) if tag in hows), "")
        if text is None and not how:
            n_bare += 1
        elif (path := places.find(os.path.join(folder, sample["filepath"]))) is not None:  # noqa: PTH118 (any text)
            found.append(Sample(path, "", how) if text is None else Sample(path, label_of(text)))
    return Found(found, [*places.notes(), *_bare(n_bare)])


def _field_of(samples: Sequence[Mapping[str, Any]], field: str | None) -> str | None:
    """Name the field that has the labels; a ValueError says that it is not clear which."""
    names = dict.fromkeys(
        name
        for sample in samples
        for name, value in sample.items()
        if isinstance(value, dict) and value.get("_cls") == KIND
    )
    if field is not None:
        if names and field not in names:
            raise ValueError(f"expected one of the fields {shorten(names)} as --field. Got {field!r}.")
        return field
    if LABEL in names:
        return LABEL
    own = [name for name in names if name != GUESS]
    if len(own) > 1:
        raise ValueError(f"expected one field of classifications. Got {shorten(own)}: name one by --field.")
    if not own and names:
        raise ValueError(f"expected labels of people. Got {GUESS!r} alone: take these by --field {GUESS}.")
    return own[0] if own else None


def _from_labels(content: Mapping[str, Any], folder: Path, places: Places) -> Found:
    classes, find = content.get("classes"), _finder(folder, places)
    if classes is not None and not isinstance(classes, list):
        raise ValueError(f"expected a list as 'classes'. Got {type(classes).__name__}.")
    found, n_bare = list[Sample](), 0
    for key, value in content["labels"].items():
        target = value.get("label") if isinstance(value, dict) else value
        if target is None:
            n_bare += 1
        elif (path := find(key)) is not None:
            found.append(Sample(path, _class_of(target, classes)))
    return Found(found, [*places.notes(), *_bare(n_bare)])


def _class_of(target: Any, classes: Sequence[Any] | None) -> str:
    """Name the class of a target, a name or a number among the classes."""
    if isinstance(target, int) and not isinstance(target, bool):
        if classes is None:
            return label_of(str(target))
        if not 0 <= target < len(classes):
            raise ValueError(f"expected the number of one of {count(len(classes), 'class')}. Got {target}.")
        target = classes[target]
    return label_of(target)


def _finder(folder: Path, places: Places) -> Callable[[str], str | None]:
    """Find files by the keys of labels: by a manifest, or in the folder ``data``, with any ending."""
    manifest = folder / "data.json"
    if manifest.is_file():
        listed = read_json(manifest, lambda why: ValueError(f"{manifest}: {why}."))
        paths = check_fields(listed, {}, lambda why: ValueError(f"{manifest}: {why}."))

        def by_manifest(key: str) -> str | None:
            path = paths.get(key)
            return places.find(os.path.join(folder, path if isinstance(path, str) else key))  # noqa: PTH118

        return by_manifest
    data = folder / "data"
    with_ending = {
        Path(os.path.splitext(os.path.relpath(os.path.join(at, name), data))[0]).as_posix(): os.path.join(at, name)  # noqa: PTH118, PTH122
        for at, _, names in os.walk(data)
        for name in names
    }
    return lambda key: places.find(with_ending.get(key, os.path.join(data, key)))  # noqa: PTH118


def _bare(n: int) -> list[str]:
    return [f"left out: {count(n, 'image')} without a label"] if n else []
