"""Facts of a report, gathered section by section."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from frofa.displays.embedding import Method, embed
from frofa.images.listing import count
from frofa.reporting.facts.attention import attention_examples
from frofa.reporting.facts.augmentation import augmentation_facts
from frofa.reporting.facts.contents import Facts
from frofa.reporting.facts.copies import digests_of, leaks_of
from frofa.reporting.facts.inputs import Inputs
from frofa.reporting.facts.labels import wrong_labels
from frofa.reporting.facts.learning import labels_needed
from frofa.reporting.facts.members import member_facts
from frofa.reporting.facts.scores import novelty_of, prediction_sets, rejection_of
from frofa.reporting.facts.vectors import rows_in
from frofa.reporting.identity import identity_of
from frofa.utils.progress import progress_bar
from frofa.utils.text import one_line


class Options(NamedTuple):
    """Options of a report, as `frofa.report` documents them; `identity` is what its maker knows of it."""

    title: str | None = None
    confidence_level: float = 0.9
    target: float | None = None
    embedding: Method = "pca"
    identity: Mapping[str, Any] = {}
    verbose: bool = False


class Noted:
    """Sections that are computed one after another, with a note on each that is absent, or not whole.

    An error in one of them costs the others nothing: it becomes a note, and a RuntimeWarning if it is no ValueError.
    """

    def __init__(self, bar: Any):
        self.notes: dict[str, str] = {}
        self._bar = bar

    def __call__(self, section: str, compute: Callable[[], tuple[Any, str | None]], absent: Any = None) -> Any:
        """Compute facts of a section; `absent` stands for them where that fails."""
        try:
            found, note = compute()
        except Exception as error:  # whatever an estimator of somebody else's may raise
            text = one_line(error)
            # Values are what a section cannot do with these images; all else is a fault, which somebody is to see.
            if not isinstance(error, ValueError):
                warnings.warn(f"the report has no {section}: {text}", RuntimeWarning, stacklevel=4)
            found, note = absent, f"This could not be computed: {text}."
        if note:
            self.notes[section] = f"{self.notes[section]} {note}" if section in self.notes else note
        self._bar.update(1)
        return found


N_SECTIONS = 9
"""Times that `Noted` is called."""
LEAST_ROWS = 3


def gather(inputs: Inputs, options: Options) -> Facts:
    """Compute all sections."""
    samples = inputs.samples
    inputs = replace(inputs, samples=replace(samples, keys=digests_of(samples.pictures, samples.keys)))
    with progress_bar(total=N_SECTIONS, unit="section", desc="report", shown=options.verbose) as bar:
        return _gather(inputs, options, Noted(bar))


def _gather(inputs: Inputs, options: Options, noted: Noted) -> Facts:
    samples, level = inputs.samples, options.confidence_level
    if inputs.train is not None and inputs.train.skipped:
        lost = inputs.train.skipped
        noted.notes["skipped"] = f"{count(len(lost), 'training image')} could not be read, such as {lost[0].name}."
    sets = noted("unsure", lambda: prediction_sets(inputs, level))
    novelty = noted("rejection", lambda: novelty_of(inputs))
    wrong = noted("labels", lambda: wrong_labels(inputs), [])
    leaks = noted("labels", lambda: leaks_of(inputs), [])
    coordinates, explained = noted("map", lambda: _map(inputs, options.embedding), (None, None))
    return Facts(
        title=options.title or _title(inputs),
        names=samples.names,
        pictures=samples.pictures,
        labels=[str(label) for label in inputs.classes.tolist()],
        truth=inputs.truth,
        predicted=inputs.predicted,
        probabilities=inputs.probabilities,
        evaluation=inputs.evaluation,
        sets=sets,
        level=level,
        novelty=novelty,
        rejection=rejection_of(inputs, novelty),
        needed=noted("learning", lambda: labels_needed(inputs, options.target, level)),
        wrong=wrong,
        leaks=leaks,
        coordinates=coordinates,
        map_method=options.embedding.upper(),
        explained_variance=explained,
        attention=noted("attention", lambda: attention_examples(inputs), []),
        members=noted("members", lambda: member_facts(inputs), []),
        augmentation=noted("augmentation", lambda: augmentation_facts(inputs), []),
        identity=identity_of(inputs, options.identity),
        skipped=[(error.name, error.reason) for error in samples.skipped],
        n_unlabelled=samples.n_unlabelled,
        notes=noted.notes,
    )


def _map(inputs: Inputs, method: Method) -> tuple[Any, str | None]:
    rows = rows_in(inputs.features)
    if rows is None or len(rows) < LEAST_ROWS:
        return (None, None), f"There is no map: it takes {LEAST_ROWS} images, of features that are dense numbers."
    return embed(rows, method, inputs.random_state), None


def _title(inputs: Inputs) -> str:
    images, n = count(len(inputs.truth), "image"), len(np.unique(inputs.truth))
    of = f" of {n} of them" if n < len(inputs.classes) else ""
    return f"{type(inputs.classifier).__name__}, {count(len(inputs.classes), 'class')}, {images}{of}"
