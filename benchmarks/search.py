"""Searches: all candidates x folds at once, against scikit-learn's own search.

logistic    8 values of C x 5 folds of logistic regression on 1,000 x 768 features of 100 classes, against
            `GridSearchCV` of scikit-learn's `LogisticRegression` at the number of jobs and BLAS threads that is fastest
            on this machine (worker processes are there already); our side is `BatchedSearchCV`. Both sides are measured
            in turn, in the same run, and fit the same splits; objectives and accuracies are also compared with those at
            the minimum, found in float64 to a gradient of 1e-11. At its default tolerance, scikit-learn is far from the
            minimum where C is large: it is measured at the loosest one that gets all objectives within 1e-5, too.

Usage: python benchmarks/search.py logistic [--device cuda] [--repeats 3] [--out FILE.jsonl]
One JSON line for each measurement, and a table.
"""

import argparse
import json
import os
import platform
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
import sklearn
import torch
from joblib import Parallel, delayed, parallel_config
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import frofa
from frofa.estimators import BatchedSearchCV, LogisticProbeClassifier
from frofa.estimators.batched.jobs import Job, fit_many

Array = npt.NDArray[Any]
Record = dict[str, Any]
CS = np.logspace(-4, 3, 8)
N_SPLITS = 5
MAX_ITER = 1000
TOLERANCES: dict[str, Record] = {"default": {}, "1e-4": {"tol": 1e-4}}
"""Ours, and scikit-learn's default."""
AT_MINIMUM: Record = {"tol": 1e-11}
GRID_TOLERANCES = tuple(10.0**-k for k in range(4, 12))
"""scikit-learn's, from its default on."""
SAME = 1e-5
"""Relative distance of an objective from its minimum within which a fit is at the same optimum."""
TRIALS = 2


def gaussian_features(n: int = 1000, channels: int = 768, n_classes: int = 100, seed: int = 0) -> tuple[Array, Array]:
    """Standardised features: Gaussian class means, and correlated noise of a spectrum that falls off."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    means = 0.35 * rng.normal(size=(n_classes, channels))
    mixing = rng.normal(size=(channels, channels)) / np.sqrt(channels)
    mixing *= 4 * np.arange(1, channels + 1)[:, None] ** -0.4
    X = means[y] + rng.normal(size=(n, channels)) @ mixing + rng.normal(size=(n, channels))
    return StandardScaler().fit_transform(X), y


def timed(run: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and CPU seconds, of child processes too, where they have ended, and the result."""
    started, spent = time.perf_counter(), _cpu_seconds()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, _cpu_seconds() - spent, result


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def environment(device: str) -> Record:
    """What a result depends on besides the code."""
    gpu = torch.cuda.get_device_name() if device != "cpu" and torch.cuda.is_available() else None
    versions = {module.__name__: module.__version__ for module in (frofa, torch, sklearn, scipy, np)}
    return {
        "kind": "environment",
        "device": device,
        "gpu": gpu,
        "cpu": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions,
    }


def logistic(device: str, repeats: int) -> Iterator[Record]:
    """The logistic search, of both sides; heads of the same fits are compared by their objectives."""
    X, y = gaussian_features()
    splits = list(StratifiedKFold(N_SPLITS).split(X, y))
    names = {f"frofa, tol {name}": params for name, params in TOLERANCES.items()}
    sides = {name: partial(_our_search, X, y, splits, device, params) for name, params in names.items()}
    for run in sides.values():
        run()  # starts the GPU
    trials: dict[tuple[int, int], float] = {}
    for setting in _search_settings():
        yield from _try_setting(X, y, splits, setting, trials)
    best = min(trials, key=trials.__getitem__)
    least = _objectives(X, y, splits, _our_heads(X, y, splits, "cpu", AT_MINIMUM))
    same = _loosest(X, y, splits, least)
    grids = {"GridSearchCV": GRID_TOLERANCES[0], f"GridSearchCV, tol {same:.0e}": same}
    sides |= {name: partial(_grid_search, X, y, splits, *best, tol) for name, tol in grids.items()}
    runs = [{name: timed(run) for name, run in sides.items()} for _ in range(repeats)]
    fastest = min(trials[best], *(one["GridSearchCV"][0] for one in runs))
    at_same = min(one[list(grids)[-1]][0] for one in runs)
    exact, theirs = _our_search(X, y, splits, "cpu", AT_MINIMUM), runs[0]["GridSearchCV"][2]
    for name in sides:
        seconds, scores = [one[name][0] for one in runs], runs[0][name][2]
        ours = name in names
        heads = _our_heads(X, y, splits, device, names[name]) if ours else _their_heads(X, y, splits, grids[name])
        gaps = (_objectives(X, y, splits, heads) / least - 1).reshape(len(CS), -1).max(1)
        yield {
            "kind": "logistic",
            "name": name,
            "setting": torch.get_num_threads() if ours else best,
            "seconds": min(seconds),
            "seconds_all": seconds,
            "cpu_seconds": min(one[name][1] for one in runs),
            "ratio": fastest / min(seconds),
            "ratio_at_same_optimum": at_same / min(seconds),
            "worst_gap": float(gaps.max()),
            "gaps": gaps.tolist(),
            "scores": scores.tolist(),
            "from_scores_at_minimum": float(np.abs(scores - exact).max()),
            "from_scores_of_grid_search": float(np.abs(scores - theirs).max()),
        }


def _try_setting(
    X: Array, y: Array, splits: Any, setting: tuple[int, int], trials: dict[tuple[int, int], float]
) -> Iterator[Record]:
    """Time a setting of scikit-learn: the best of TRIALS, or of one where that took over twice as long as the best."""
    _grid_search(X[:100], y[:100] % 2, 2, *setting)  # starts the processes
    for _ in range(TRIALS):
        seconds = timed(partial(_grid_search, X, y, splits, *setting))[0]
        print(f"  GridSearchCV n_jobs={setting[0]} threads={setting[1]}: {seconds:.2f} s", file=sys.stderr, flush=True)
        trials[setting] = min(seconds, trials.get(setting, seconds))
        if seconds > 2 * min(trials.values()):
            break
    yield {"kind": "setting", "n_jobs": setting[0], "threads": setting[1], "seconds": trials[setting]}


def _search_settings() -> list[tuple[int, int]]:
    """Numbers of processes and of threads of each, those first that are likely to be fast: one thread each, all cores.

    More threads than that are only tried with as many processes as leave them a core each.
    """
    cores = len(os.sched_getaffinity(0))
    jobs = sorted({n for n in (1, 2, 4, cores // 2, cores) if 0 < n <= cores}, reverse=True)
    return [(n, 1) for n in jobs] + [(n, cores // n) for n in jobs if 1 < cores // n <= 4]


def _loosest(X: Array, y: Array, splits: Any, least: Array) -> float:
    """The largest tolerance at which all of scikit-learn's fits are at the same optimum."""
    for tol in GRID_TOLERANCES:
        gap = float((_objectives(X, y, splits, _their_heads(X, y, splits, tol)) / least - 1).max())
        print(f"  LogisticRegression tol={tol:.0e}: objective within {gap:.1e}", file=sys.stderr, flush=True)
        if gap <= SAME:
            break
    return tol


def _grid_search(X: Array, y: Array, splits: Any, n_jobs: int, threads: int, tol: float = GRID_TOLERANCES[0]) -> Array:
    """Mean accuracy of each C by scikit-learn."""
    head = LogisticRegression(tol=tol, max_iter=MAX_ITER)
    search = GridSearchCV(head, {"C": CS}, cv=splits, n_jobs=n_jobs, refit=False)
    with (
        threadpool_limits(threads),
        parallel_config("loky", inner_max_num_threads=threads),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        search.fit(X, y)
    scores: Array = search.cv_results_["mean_test_score"]
    return scores


def _our_search(X: Array, y: Array, splits: Any, device: str, params: Record) -> Array:
    """Mean accuracy of each C."""
    head = LogisticProbeClassifier(device=device, **params)
    search = BatchedSearchCV(head, {"C": CS}, cv=splits, refit=False)
    scores: Array = search.fit(X, y).cv_results_["mean_test_score"]
    return scores


def _our_heads(X: Array, y: Array, splits: Any, device: str, params: Record) -> list[Any]:
    """What that search fits, C by C."""
    jobs = [Job(LogisticProbeClassifier(C, device=device, **params), train) for C in CS for train, _ in splits]
    return list(fit_many(X, y, jobs))


def _their_heads(X: Array, y: Array, splits: Any, tol: float) -> list[Any]:
    """What scikit-learn's search fits, C by C."""
    heads = [(LogisticRegression(C=C, tol=tol, max_iter=MAX_ITER), train) for C in CS for train, _ in splits]
    with parallel_config("loky", n_jobs=-1, inner_max_num_threads=1):
        return list(Parallel()(delayed(head.fit)(X[train], y[train]) for head, train in heads))


def _objective(head: Any, X: Array, y: Array) -> float:
    """C * summed cross-entropy + half the squared norm, from fitted coefficients."""
    scores = log_softmax(X @ head.coef_.T + head.intercept_, axis=1)
    return float(-head.C * scores[np.arange(len(y)), y].sum() + 0.5 * (head.coef_**2).sum())


def _objectives(X: Array, y: Array, splits: Any, heads: list[Any]) -> Array:
    """Of all C and folds."""
    trains = [train for _ in CS for train, _ in splits]
    return np.array([_objective(head, X[train], y[train]) for head, train in zip(heads, trains, strict=True)])


def table(records: list[Record]) -> str:
    """The records, for people."""
    lines = []
    for record in records:
        if record["kind"] == "setting":
            lines.append(f"  n_jobs={record['n_jobs']:<3} threads={record['threads']:<3} {record['seconds']:8.2f} s")
        if record["kind"] == "logistic":
            lines.append(
                f"{record['name']:<24}{record['seconds']:8.3f} s  (CPU {record['cpu_seconds']:.2f} s)"
                f"{record['ratio']:8.1f} x, and {record['ratio_at_same_optimum']:.1f} x at the same optimum"
                f"   objective within {record['worst_gap']:.1e}"
                f"   accuracies within {record['from_scores_at_minimum']:.4f} of those at the minimum"
            )
    return "\n".join(lines)


BENCHMARKS: dict[str, Callable[[str, int], Iterator[Record]]] = {"logistic": logistic}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=BENCHMARKS)
    parser.add_argument("--device", default="cpu", help="of our side")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file")
    args = parser.parse_args()
    records = [environment(args.device)]
    print(json.dumps(records[0]), flush=True)
    for name in args.names:
        for record in BENCHMARKS[name](args.device, args.repeats):
            records.append(record)
            print(json.dumps(record), flush=True)
    print(table(records))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)


if __name__ == "__main__":
    main()
