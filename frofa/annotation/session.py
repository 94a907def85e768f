"""A labelling session: images, what was decided of them, and what was learnt from that."""

import os
import posixpath
import threading
from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from frofa.annotation.features import Features
from frofa.annotation.learning.knowledge import Knowledge
from frofa.annotation.learning.situation import Situation
from frofa.annotation.records.file import LabelFile
from frofa.annotation.records.history import Decision, History
from frofa.annotation.records.requests import Classes, Done, RequestLog
from frofa.annotation.records.rows import SET_ASIDE, UNDO, Row
from frofa.annotation.trainer import Moment, Trainer

REMEMBERED = 10_000
"""Requests that are known to be done, so that one that is sent again is not done twice."""


class Labelling(NamedTuple):
    """A decision to write: of a path, the label, ``""`` for none, and how it came."""

    path: str
    label: str
    how: str


class LabellingSession:
    """Images of a directory, labelled by people in any number of windows; all may be called by several threads.

    Parameters
    ----------
    root : path
        Directory of the images.
    names : sequence of str
        Paths of the images in it, relative to it, with slashes.
    records : LabelFile
        Where decisions are kept; opened here.
    features : Features
        Features of the images, in the order of `names`.
    batch_size : int, default=12
        Number of images of a batch, where a request does not say it.
    random_state : int, default=0
        Seed of the order in which images are shown before anything is known of them.

    Attributes
    ----------
    paths : list of str
        The images as the record names them: relative to its directory.
    images_id : str
        A name of these images and their record, which is the same whenever they are opened.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        names: Sequence[str],
        records: LabelFile,
        features: Features,
        *,
        batch_size: int = 12,
        random_state: int = 0,
    ):
        self.lock = threading.RLock()
        self.records, self.features, self.batch_size = records, features, batch_size
        self.paths = recorded_paths(os.fspath(root), names, records.file.parent)
        self.position = {path: position for position, path in enumerate(self.paths)}
        n_repeated = len(self.paths) - len(self.position)
        if n_repeated:
            raise ValueError(f"expected images of different names. Got {n_repeated} repeated.")
        self.knowledge: Knowledge | None = None
        self.message: str | None = None
        self.trouble: str | None = None
        self.random_order = np.random.default_rng(random_state).permutation(len(self.paths))
        self._log = RequestLog(records.file)
        self._order: dict[str, None] = {}
        self._gone: set[str] = set()
        self._trainer: Trainer | None = None
        self._done: OrderedDict[tuple[str, int], list[str]] = OrderedDict()
        self._readings = 0
        named = "\0".join([str(records.file), *self.paths]).encode("utf-8", "surrogatepass")
        self.images_id = blake2b(named, digest_size=8).hexdigest()
        self._load(records.open())

    @property
    def id(self) -> str:
        """A name of this list of images and this reading of the record."""
        return f"{self.images_id}-{self._readings}"

    @property
    def version(self) -> int:
        """Number of rows of the record."""
        return len(self.history.rows)

    @property
    def classes(self) -> dict[str, int]:
        """Number of images of each class, in the order in which they appeared or were added."""
        return {name: self.history.classes.get(name, 0) for name in self._order}

    def refresh(self) -> None:
        """Take over what other processes have written."""
        with self.lock:
            news = self.records.news()
            if news is None:
                self._load(self.records.open())
            else:
                self._add(news)

    def decision(self, position: int) -> Decision:
        """Give the decision on an image."""
        return self.history.decision(self.paths[position])

    def is_open(self, position: int) -> bool:
        """Tell whether an image waits for a decision, and can be read."""
        decision = self.decision(position)
        return not decision.label and decision.how not in SET_ASIDE and position not in self.features.failed

    def decide(
        self, labellings: Sequence[Labelling], client: str | None = None, number: int | None = None
    ) -> list[str]:
        """Write decisions, all or none, and return the paths; a request of a client is done once.

        Raises
        ------
        OSError
            If they cannot be written; nothing has changed then.
        """
        with self.lock:
            done = self._done.get((client, number)) if client is not None and number is not None else None
            if done is not None:
                return done
            self.refresh()
            back = dict.fromkeys(one.label for one in labellings if one.label in self._gone)
            if back:
                self._order_classes([*self._order, *back], self._gone - set(back))
            self._write(labellings, client, number)
            return self._note_done([one.path for one in labellings], client, number)

    def undo(self, client: str | None = None, number: int | None = None) -> list[str]:
        """Take back the last request of a client, or of anybody if it has none; return the paths that were restored."""
        with self.lock:
            done = self._done.get((client, number)) if client is not None and number is not None else None
            if done is not None:
                return done
            self.refresh()
            restored = self.history.to_undo(client)
            self._write([Labelling(path, label, UNDO) for path, label in restored.items()], client, number)
            return self._note_done(list(restored), client, number)

    def add_class(self, name: str) -> None:
        """Add a class that has no image yet."""
        with self.lock:
            self._order_classes([*self._order, name], self._gone - {name})

    def rename_class(self, old: str, new: str, client: str | None = None) -> list[str]:
        """Give all images of a class another label, which may be one that others have; return their paths."""
        with self.lock:
            self.refresh()
            paths = [path for path, one in self.history.decided().items() if one.label == old]
            self._write([Labelling(path, new, "key") for path in paths], client)
            others = [name for name in self._order if name != new or old == new]
            order = [new if name == old else name for name in others]
            self._order_classes(order, (self._gone | {old}) - {new})
            return paths

    def start(self) -> None:
        """Begin to learn in the background, if that has not begun."""
        with self.lock:
            if self._trainer is None:
                self._trainer = Trainer(self)
                self._trainer.start()

    def close(self) -> None:
        """End what runs in the background."""
        trainer, self._trainer = self._trainer, None
        if trainer is not None:
            trainer.close()

    def moment(self) -> Moment:
        """Say how far labels and features are."""
        features = self.features
        complete = not features.running
        with self.lock:
            return Moment(self.version, len(features.ready()[0]), complete)

    def situation(self) -> Situation:
        """Give what there is to learn from now."""
        positions, X = self.features.ready()
        with self.lock:
            version = self.version
            decided = {path: one.label for path, one in self.history.decided().items() if path in self.position}
        labels = {self.position[path]: label for path, label in decided.items() if label}
        aside = [self.position[path] for path, label in decided.items() if not label]
        return Situation(version, len(self.paths), labels, [*aside, *self.features.failed], positions, X)

    def publish(self, knowledge: Knowledge) -> None:
        """Take over what was learnt."""
        with self.lock:
            self.knowledge = knowledge

    def tell_trouble(self, trouble: str | None) -> None:
        """Tell people what part of learning does not work, or that all do."""
        self.trouble = trouble

    def learn(self, parts: tuple[str, ...] | None = None) -> None:
        """Learn at once from all labels, all parts of `Learner.PARTS` or some; for sessions that were not started."""
        if self._trainer is None:
            self._trainer = Trainer(self)
        self._trainer.catch_up(parts)

    def _write(self, labellings: Sequence[Labelling], client: str | None, number: int | None = None) -> None:
        if not labellings:
            return

        def note(when: str) -> None:
            if client is not None and number is not None:
                self._log.note(Done(client, number, when, len(labellings)))

        for _ in range(3):
            appended = self.records.append(labellings, note)
            if appended is not None:
                self._add(appended.found)
                self._add(appended.written, client)
                return
            self._load(self.records.open())
        raise OSError(f"{self.records.file} is changed by others all the time: nothing was written.")

    def _load(self, rows: Sequence[Row]) -> None:
        """Begin anew with all rows of the record, and what is known of the requests that wrote them."""
        requests, classes = self._log.read()
        paths: dict[str, list[str]] = {one.when: [] for one in requests}
        for row in rows:
            if row.when in paths:
                paths[row.when].append(row.path)
        # Of one that was interrupted, not all rows are there: it is to be sent again.
        done = [one for one in requests if len(paths[one.when]) == one.n_rows]
        for one in done:
            self._note_done(paths[one.when], one.client, one.number)
        self.history = History(self.position)
        self._readings += 1
        self.history.add(rows, {one.when: one.client for one in done})
        self._gone = {name for name in classes.gone if not self.history.classes.get(name)}
        self._order = dict.fromkeys([*classes.order, *self.history.classes])
        for name in self._gone:
            self._order.pop(name, None)
        for note in self.records.notes[-1:]:
            self.message = note

    def _add(self, rows: Sequence[Row], client: str | None = None) -> None:
        self.history.add(rows, {} if client is None else {row.when: client for row in rows})
        self._order.update(dict.fromkeys(row.label for row in rows if row.label))

    def _order_classes(self, order: Sequence[str], gone: set[str]) -> None:
        """Keep classes in this order, also for the next start."""
        self._log.note(Classes(list(dict.fromkeys(order)), sorted(gone)))
        self._order, self._gone = dict.fromkeys(order), gone

    def _note_done(self, paths: list[str], client: str | None, number: int | None) -> list[str]:
        if client is not None and number is not None:
            self._done[client, number] = paths
            while len(self._done) > REMEMBERED:
                self._done.popitem(last=False)
        return paths


def recorded_paths(root: str, names: Sequence[str], beside: os.PathLike[str]) -> list[str]:
    """Name images of a directory relative to the directory of a record, with slashes.

    Where they share no root, as on two drives, paths are absolute.

    Examples
    --------
    >>> from frofa.annotation.session import recorded_paths
    >>> recorded_paths("/data/images", ["a.jpg", "cats/b.jpg"], "/data")
    ['images/a.jpg', 'images/cats/b.jpg']
    """
    try:
        between = os.path.relpath(os.path.abspath(root), os.path.abspath(beside))  # noqa: PTH100
    except ValueError:
        between = os.path.abspath(root)  # noqa: PTH100
    between = between.replace(os.sep, "/")
    return [*names] if between == "." else [posixpath.join(between, name) for name in names]
