"""Running a study: what is not fitted yet is fitted, and each result is on disk before the next is begun."""

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from frofa._version import __version__
from frofa.compute.devices import resolve_device
from frofa.study.data import StudyData, load_study_data
from frofa.study.fit import fit_maps, fit_probes
from frofa.study.heads.fit import fit_heads_of
from frofa.study.heads.inputs import VIEWS
from frofa.study.heads.seconds import TIMED, seconds_of_fit
from frofa.study.reporting.plots import write_figures
from frofa.study.reporting.report import write_report
from frofa.study.reporting.summary import MIN_PAIRS
from frofa.study.results import StudyResult, read_results
from frofa.study.study import Study
from frofa.utils.files import write_atomically


def run_study(study: Study, say: Callable[[str], None] = print) -> list[StudyResult]:
    """Fit what is not fitted yet, and return all that the results file holds."""
    study.out.mkdir(parents=True, exist_ok=True)
    if study.n_seeds < MIN_PAIRS:
        say(f"{study.n_seeds} seeds are too few for intervals that say something: take 5 or more for a result")
    for directory in study.directories:
        for backbone in study.backbones:
            if "few-shot" in study.heads:
                data = _load(study, directory, backbone, n_views=VIEWS)
                say(_take_note(study, data))
                fit_heads_of(study, data, say)
            if {"map", "probes"} & set(study.heads):
                data = _load(study, directory, backbone)
                say(_take_note(study, data))
                if "map" in study.heads:
                    fit_maps(study, data, say)
                if "probes" in study.heads:
                    fit_probes(study, data, say)
    if "few-shot" in study.heads:
        _note_seconds(study, say)
    return read_results(study.results_file)


def _load(study: Study, directory: Path, backbone: str, n_views: int = 0) -> StudyData:
    store, shots = study.out / "features", max(study.shots)
    return load_study_data(directory, backbone, store, shots, device=study.device, n_jobs=study.n_jobs, n_views=n_views)


def _note_seconds(study: Study, say: Callable[[str], None]) -> None:
    """Keep how long the head that needs no tuning takes, once for each machine."""
    notes = _read_notes(study)
    machine = versions("cpu")
    if machine not in notes.setdefault("seconds", {}):
        notes["seconds"][machine] = seconds_of_fit()
        say(f"one fit of {TIMED}: {notes['seconds'][machine]:.2f} s")
        _write_notes(study, notes)


def _write_notes(study: Study, notes: dict[str, Any]) -> None:
    write_atomically(study.notes_file, lambda file: file.write(json.dumps(notes, indent=1).encode()))


def n_skipped(study: Study) -> int:
    """Number of images that could not be read, in the set that has most of them."""
    return max(_read_notes(study)["skipped"].values(), default=0)


def report_study(study: Study) -> Path:
    """Write ``report.md`` and figures from the results that there are; returns the report's path."""
    results = read_results(study.results_file)
    notes = _read_notes(study)
    figures = write_figures(results, study.out)
    command, versions = ("\n".join(notes[name]) for name in ("commands", "versions"))
    return write_report(
        results,
        study.out,
        command=command,
        versions=versions,
        notes=notes["sets"],
        figures=figures,
        seconds=notes.get("seconds", {}),
    )


def _read_notes(study: Study) -> dict[str, Any]:
    notes: dict[str, Any] = json.loads(study.notes_file.read_text("utf-8"))
    return notes


def _take_note(study: Study, data: StudyData) -> str:
    """Keep the facts about an image set and backbone, the command and the versions for the report; return the facts.

    Other images or weights under names that the directory has results of are a ValueError.
    """
    # Names of sets and backbones are all that rows of the results hold: other content under one of them would mix.
    overlapping = [shots for shots in study.shots if not data.support(shots, study.n_seeds)[1]]
    tokens = data.features["tokens"] if data.blocks is None else data.blocks.views("tokens")[0]
    n_tokens, channels = tokens.shape[1:]
    parts = f"{len(data.pool)} training, {len(data.validation)} validation and {len(data.test)} test images"
    facts = [f"{parts}, {len(set(data.y))} classes, tokens {n_tokens} x {channels}"]
    if data.blocks is not None:
        facts.append(f"output='auto' is {' and '.join(data.automatic)}, {data.blocks.n_views} views")
    if overlapping:
        facts.append(f"too few images for disjoint support samples at {', '.join(map(str, overlapping))} shots")
    if data.n_skipped:
        facts.append(f"{data.n_skipped} images could not be read")
    name = f"{data.dataset}, {data.backbone}"
    fresh: dict[str, Any] = {"commands": [], "versions": [], "sets": {}, "fingerprints": {}, "skipped": {}}
    notes = {**fresh, **(_read_notes(study) if study.notes_file.exists() else {})}
    if notes["fingerprints"].setdefault(name, data.fingerprint) != data.fingerprint:
        raise ValueError(
            f"{study.out} holds results of {name} with other images, another split or other weights: choose another "
            "directory for the results."
        )
    # A study that is run again, with more shots or on another machine, adds to the lists what is new.
    for part, value in (("commands", study.command), ("versions", versions(study.device))):
        notes[part] = list(dict.fromkeys([*notes[part], value]))
    notes["sets"][name], notes["skipped"][name] = "; ".join(facts), data.n_skipped
    _write_notes(study, notes)
    return f"{name}: {'; '.join(facts)}"


def versions(device: str) -> str:
    """Device and versions of packages, for the report."""
    import timm

    resolved = resolve_device(device)
    name = torch.cuda.get_device_name(resolved) if resolved.type == "cuda" else f"{platform.machine()} CPU"
    packages = f"frofa {__version__}, torch {torch.__version__}, timm {timm.__version__}"
    return f"{name}; {packages}, Python {platform.python_version()}"
