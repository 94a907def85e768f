"""The fits of a comparison of heads: each kind for all support samples at once; results are appended to a file."""

import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from frofa.compute.devices import resolve_device
from frofa.estimators.batched.jobs import Job, fit_many
from frofa.estimators.batched.trials import head_logits
from frofa.study.data import StudyData
from frofa.study.heads.blends import predict_blends
from frofa.study.heads.cell import StudyCell
from frofa.study.heads.contenders import TUNED_ON, Contender, high_contender, map_contenders, probe_contenders
from frofa.study.heads.inputs import blocks_of, unit_blocks
from frofa.study.heads.probes import fit_grid, predict_grid, probe_candidates
from frofa.study.reporting.answers import in_shots
from frofa.study.results import Append, Key, appending
from frofa.study.study import Study


def fit_heads_of(study: Study, data: StudyData, say: Callable[[str], None]) -> None:
    """Fit the heads that have no result yet: the fast ones first, then those on tokens, most shots first."""
    device = resolve_device(study.device)
    cells = {shots: StudyCell(data, shots, data.support(shots, study.n_seeds)[0]) for shots in study.shots}
    with appending(study.results_file) as (done, append):
        stages: dict[str, Callable[[StudyCell], bool]] = {
            "tuned probes": lambda cell: _fit_grids(cell, done, append),
            "probes": lambda cell: _fit_probes(cell, done, append, study.n_jobs),
        }
        if not study.quick:
            stages["MAP heads"] = lambda cell: _fit_maps(cell, done, append, device)
            stages["blends"] = lambda cell: _fit_high(cell, done, append, device)
        for name, work in stages.items():
            for shots in sorted(cells, reverse=True):
                started = time.perf_counter()
                if work(cells[shots]):
                    seconds = time.perf_counter() - started
                    say(f"{data.dataset}, {data.backbone}, {in_shots(shots)}: {name}, {seconds:.1f} s")


def _fit_grids(cell: StudyCell, done: set[Key], append: Append) -> bool:
    # Small problems, which a CPU has done before a GPU has started.
    device = torch.device("cpu")
    fitted = False
    for inputs in TUNED_ON:
        candidates = cell.lacking(probe_candidates(inputs), done)
        if not candidates:
            continue
        fitted = True
        wanted = {(one.head, one.setting): one for one in candidates}
        blocks = blocks_of(cell.data, inputs)
        features, vectors = np.asarray(blocks, dtype=np.float64), unit_blocks(blocks)
        plain, unit = (torch.as_tensor(array[cell.unseen], device=device) for array in (features, vectors))
        for fits in fit_grid(features[cell.rows], vectors[cell.rows], cell.codes, cell.places, device):
            if candidate := wanted.get((fits.head, fits.setting)):
                scores = predict_grid(fits, plain, unit)
                scores = scores.log_softmax(2) if fits.probabilistic else scores
                append(cell.results(candidate, scores, probabilistic=fits.probabilistic))
    return fitted


def _fit_probes(cell: StudyCell, done: set[Key], append: Append, n_jobs: int) -> bool:
    contenders = _lacking(cell, probe_contenders(), done)
    for contender in contenders:
        blocks = blocks_of(cell.data, contender.inputs)
        # Heads that know nothing of blocks take them side by side, or as vectors of length one.
        if contender.setting:
            whole: Any = unit_blocks(blocks) if contender.setting == "unit" else np.asarray(blocks, dtype=np.float64)
            support, unseen = whole[cell.rows], whole[cell.unseen]
        else:
            support, unseen = blocks[cell.rows], blocks[cell.unseen]
        heads, seconds = _fitted(cell, [contender], support)
        with ThreadPoolExecutor(n_jobs if n_jobs > 0 else None) as pool:
            probabilities = list(pool.map(lambda head: head.predict_proba(unseen), heads))  # noqa: B023
        _append(cell, contender, heads, torch.as_tensor(np.stack(probabilities)).log(), seconds, append)
    return bool(contenders)


def _fit_maps(cell: StudyCell, done: set[Key], append: Append, device: torch.device) -> bool:
    contenders = _lacking(cell, map_contenders(str(device)), done)
    if not contenders:
        return False
    [tokens] = blocks_of(cell.data, contenders[0].inputs).views("tokens")
    unseen = torch.as_tensor(tokens[cell.unseen], device=device)
    support = tokens[cell.rows] if device.type == "cuda" else tokens[cell.rows].astype(np.float32)
    # All of them are trained together, those of a contender one after another.
    heads, seconds = _fitted(cell, contenders, support)
    for contender, group in zip(contenders, np.array_split(np.arange(len(heads)), len(contenders)), strict=True):
        fitted = [heads[i] for i in group]
        stacked = {
            name: torch.as_tensor(np.stack([head.weights_[name] for head in fitted]), device=device)
            for name in fitted[0].weights_
        }
        _append(cell, contender, fitted, head_logits(stacked, unseen).log_softmax(2), seconds, append)
    return True


def _fit_high(cell: StudyCell, done: set[Key], append: Append, device: torch.device) -> bool:
    contenders = _lacking(cell, [high_contender(str(device), cell.data.start)], done)
    for contender in contenders:
        blocks = blocks_of(cell.data, contender.inputs)
        unseen = blocks[cell.unseen]
        heads, seconds = _fitted(cell, [contender], blocks[cell.rows])
        probabilities = torch.as_tensor(predict_blends(heads, unseen, device))
        _append(cell, contender, heads, probabilities.log(), seconds, append)
    return bool(contenders)


def _lacking(cell: StudyCell, contenders: Sequence[Contender], done: set[Key]) -> list[Contender]:
    candidates = cell.lacking([contender.candidate for contender in contenders], done)
    return [contender for contender in contenders if contender.candidate in candidates]


def _fitted(cell: StudyCell, contenders: Sequence[Contender], support: Any) -> tuple[list[Any], float]:
    """Fit contenders to each support sample; return heads, contender by contender, and the seconds of each.

    These are its share of those of all.
    """
    jobs = [Job(one.make(seed), places) for one in contenders for seed, places in enumerate(cell.places)]
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        heads = fit_many(support, cell.codes, jobs)
    for head in heads:
        if isinstance(head, Exception):
            raise head
    return heads, (time.perf_counter() - started) / len(heads)


def _append(
    cell: StudyCell,
    contender: Contender,
    heads: Sequence[Any],
    log_probabilities: Tensor,
    seconds: float,
    append: Append,
) -> None:
    append(
        cell.results(
            contender.candidate, log_probabilities, out_of_fold=[_expected(head) for head in heads], seconds=seconds
        )
    )


def _expected(head: Any) -> float:
    """Accuracy that a head expects, from its own samples left out; NaN where it does not say."""
    names = ("out_of_fold_accuracy_", "loo_accuracy_")
    return float(next((getattr(head, name) for name in names if hasattr(head, name)), np.nan))
