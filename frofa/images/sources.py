"""All sources of images behind one function, `load_images`."""

import os
import sys
from pathlib import Path
from typing import Any

from frofa.images import datasets
from frofa.images.archives.labels import load_archive
from frofa.images.archives.members import COMPRESSED_TAR
from frofa.images.columns import ColumnsAsked
from frofa.images.folders import load_folder, read_paths
from frofa.images.frames import is_frame
from frofa.images.image_set import ImageSet, as_image_list, image_set, join
from frofa.images.pixels.formats import EXTENSIONS
from frofa.images.reading import is_image_file
from frofa.images.tables import load_frame, load_table
from frofa.images.video import VIDEOS, load_video
from frofa.utils.files import expand_home

__all__ = ["ImageSet", "join", "load_images"]

KINDS = {
    "image": EXTENSIONS,
    "table": (".csv", ".tsv"),
    "archive": (".zip", ".tar", *COMPRESSED_TAR),
    "video": VIDEOS,
}
"""Kinds of files, by their endings."""


def load_images(
    source: Any,
    *,
    labels: Any = None,
    path_column: str | None = None,
    label_column: str | None = None,
    every: int = 1,
) -> ImageSet:
    """Find the images of a source, with labels and names; the images themselves are read later.

    Parameters
    ----------
    source : path, list of images, frame or data set
        - A directory: ``DIRECTORY/CLASS/.../IMAGE``, sorted by class and path, where the class is the label; or, if no
          sub-directory has an image, a flat one, which has no labels. Hidden files are left out.
        - A ``.csv`` or ``.tsv`` file with a column of paths, relative to its directory or absolute, and perhaps one of
          labels, which may have gaps; in its order. Columns are separated by commas, semicolons or tabs; the first line
          names them, unless there are only one or two and it names an image. Of a record of labels, whose columns are
          ``path,label,when,how``, the last row of a path counts.
        - A ``.zip`` or ``.tar`` archive, which is not unpacked: laid out as a directory, perhaps in one more directory,
          and sorted as one; or in webdataset layout, with ``NAME.cls``, ``NAME.json`` or ``NAME.txt`` beside
          ``NAME.jpg``, in its own order. Of each sample, the plain image is taken: not ``NAME.mask.png``, and the first
          of ``NAME.jpg`` and ``NAME.png``. A compressed or damaged tar archive, and a zip archive without its
          directory, is an error.
        - A video, which takes ``pip install 'frofa[video]'``: the frames in order, see `every`.
        - An image file.
        - ``"-"``: a list of paths on standard input, separated by newlines or NUL characters.
        - A frame of pandas, polars or pyarrow with such columns as a CSV file, relative to the working directory.
        - A ``datasets.Dataset`` of Hugging Face, with a column of images, or of paths where `path_column` names it.
        - A map-style ``torch.utils.data.Dataset``, torchvision's among them, of ``(image, label)`` with PIL images,
          uint8 arrays or paths. The labels are those of ``targets`` where it has them; else all of it is read once.
        - A list, array or column of paths, PIL images or uint8 arrays.
    labels : path, array-like of shape (n,) or False, default=None
        A CSV file for the images of a directory or an archive: only those that it lists are taken, in its order, with
        paths relative to the directory or archive, or else to the file's own directory. False takes all images of a
        directory or archive, sorted by path, without labels; an array has one label for each of these.
    path_column, label_column : str, default=None
        Columns of a CSV file, frame or data set. By default ``path``, and ``label`` if there is one, in whatever
        capitals; else the one column with another usual name, such as ``filename``, ``image``, ``class``, ``category``
        or ``target``. Of a data set, the column of images and the one of class labels. In webdataset layout,
        `label_column` is the field of ``.json`` files.
    every : int, default=1
        Take every so many-th frame of a video, from the first on.

    Returns
    -------
    ImageSet
        The images as ``items``, with ``labels``, ``names`` and ``notes``; it unpacks to items and labels.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError
        If there is no such source, or it is not of a kind that can be read, or damaged, or a column is not there or may
        be one of several, or a label is not a single value: a string, a number, a boolean or a date.
    ImportError
        If a video is given and PyAV is not installed.

    Notes
    -----
    An image that cannot be read is an item here all the same: when the extractor reads it, an `ImageReadError` names
    it. This goes for members of archives too that are encrypted, damaged, or packed in a way that cannot be read. A
    label file that cannot be read is a note, and its image has no label.

    No file or member of more than 8 bytes for each of ``PIL.Image.MAX_IMAGE_PIXELS`` is read, by default 716 MB: that
    is an image of as many pixels with four channels of 16 bits, not compressed. The threads of a process together hold
    as much of files at most while they read and decode them: of large files, one waits for another.

    Names of classes are in Unicode's composed form (NFC), so that those of different file systems are the same.

    Examples
    --------
    >>> import zipfile
    >>> from PIL import Image
    >>> from frofa import load_images
    >>> Image.new("RGB", (32, 32)).save("black.png")
    >>> with zipfile.ZipFile("photos.zip", "w") as archive:
    ...     archive.write("black.png", "cats/1.png")
    ...     archive.write("black.png", "dogs/1.png")
    >>> images = load_images("photos.zip")
    >>> images.names, images.labels.tolist()
    (['photos.zip!/cats/1.png', 'photos.zip!/dogs/1.png'], ['cats', 'dogs'])
    """
    source = expand_home(source) if isinstance(source, (str, os.PathLike)) else source
    kind = _kind_of(source) if isinstance(source, str) else "object"
    table = Path(expand_home(labels)) if isinstance(labels, (str, os.PathLike)) else None
    if table is not None and kind not in ("directory", "archive"):
        raise ValueError(f"a CSV file of labels goes with a directory or an archive. Got {source!r:.200}.")
    if every < 1 or (every != 1 and kind != "video"):
        raise ValueError(f"every must be 1 or more, and 1 for all but videos. Got every={every} for {source!r:.200}.")
    # Labels of the source are looked for unless others are given; a CSV file of labels has a column of them.
    asked = ColumnsAsked(path_column, label_column, labelled=labels is None or table is not None)
    if kind == "object":
        found = _load_object(source, asked)
    elif kind == "video":
        found = load_video(Path(source), every)
    elif kind == "archive":
        found = load_archive(Path(source), table, asked)
    elif kind == "table" or table is not None:
        found = load_table(table or Path(source), None if table is None else Path(source), asked)
    elif kind == "directory":
        found = load_folder(Path(source), labelled=labels is None)
    else:
        found = image_set(read_paths(sys.stdin.buffer) if kind == "list" else [os.fspath(source)])
    if labels is None or table is not None:
        return found
    return image_set(found.items, None if labels is False else labels, found.notes)


def _kind_of(source: str) -> str:
    path = Path(source)
    if source == "-":
        return "list"
    if path.is_dir():
        return "directory"
    if not path.exists() and not path.is_symlink():
        raise FileNotFoundError(f"no such file or directory: {source}")
    for kind, endings in KINDS.items():
        if source.lower().endswith(endings):
            return kind
    if path.is_file() and is_image_file(path):
        return "image"
    raise ValueError(
        f"cannot read images from {source}: expected a directory, or a file ending in one of "
        f"{', '.join(ending for endings in KINDS.values() for ending in endings)}."
    )


def _load_object(source: Any, asked: ColumnsAsked) -> ImageSet:
    if datasets.is_hugging_face(source):
        return datasets.load_hugging_face(source, asked)
    if is_frame(source):
        return load_frame(source, asked)
    if datasets.is_torch(source):
        return datasets.load_torch(source, labelled=asked.labelled)
    return image_set(as_image_list(source))
