"""The report on the law: measured and fitted accuracies, checks, and the backbone for so many labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from frofa.study.law.checks import Advice, advice, checks
from frofa.study.law.measuring import VIEWS
from frofa.study.law.plots import write_figure
from frofa.study.law.results import LawResult, read_law_results
from frofa.study.law.surface import ErrorSurface, fit_surface, means, places_of
from frofa.study.reporting.tables import table, titled
from frofa.study.run import versions
from frofa.study.study import Study
from frofa.utils.files import write_atomically

HOW = f"""- Each backbone as it is, and with the smallest weights of its linear layers set to zero, without training
  afterwards. Features are those of `output="auto"` and {VIEWS} views; the head is `ShrinkageProbeClassifier()`. Support
  samples come from the training images, accuracies are those on the test images, means over support samples.
- The law is that of Frantar et al. (arXiv 2309.08520), for the error of each set by non-zero weights N, share of zero
  weights S and shots D, `((a_S (1 - S)^b_S + c_S) N^-b_N + (a_D / D)^b_D + c)`, with labels for their training data,
  and times a factor for each backbone: backbones of one size differ by how they were trained. N is in units of the
  geometric mean. Where b_S is positive, as in the paper, a pruned backbone is better than an unpruned one of
  as many weights; where it is negative, it is worse: theirs were trained after pruning, these were not.
- Backbones of one size say little of N: b_N is then what pruning says of it, and what is foretold of a backbone that
  was not measured leans on a prior.
- Intervals are 90 %: support samples resampled, how far settings are from the law, and, beyond the largest number of
  shots, how far curves leave it."""


def report_law(study: Study) -> Path:
    """Fit the law to the results that there are, write ``law.md`` and ``law.png``; returns the report's path."""
    results = read_law_results(study.law_file)
    if not results:
        raise ValueError(f"expected results in {study.law_file}. Got none.")
    by_set: dict[str, list[LawResult]] = {}
    for one in results:
        by_set.setdefault(one.dataset, []).append(one)
    surfaces = {name: fit_surface(found) for name, found in by_set.items()}
    figure = write_figure(by_set, surfaces, study.out / "law.png")
    sections = [
        "# The law of weights, sparsity and labels",
        titled("## What was run", f"```sh\n{study.command}\n```", f"- Versions: {versions(study.device)}", HOW),
        titled("## The law", _parameters(surfaces), f"![law]({figure})"),
        titled("## What it foretells", _checks(by_set)),
        *(_of_set(name, found, surfaces[name]) for name, found in by_set.items()),
    ]
    path = study.out / "law.md"
    write_atomically(path, lambda file: file.write(("\n\n".join(sections) + "\n").encode()))
    return path


def _parameters(surfaces: Mapping[str, ErrorSurface]) -> str:
    names = list(next(iter(surfaces.values())).parameters)
    rows = [
        [name, *(f"{surface.parameters[one]:.3g}" for one in names), f"{100 * surface.residual:.1f} %"]
        for name, surface in surfaces.items()
    ]
    return table(["set", *names, "deviation of errors"], rows)


def _checks(by_set: Mapping[str, Sequence[LawResult]]) -> str:
    rows = [
        [name, one.what, str(one.n), f"{one.rms:.1f}", f"{one.bias:+.1f}", f"{100 * one.coverage:.0f} %"]
        for name, found in by_set.items()
        for one in checks(found)
    ]
    return table(["set", "foretold", "settings", "rms error, points", "bias", "in the 90 % interval"], rows)


def _of_set(name: str, results: Sequence[LawResult], surface: ErrorSurface) -> str:
    shots = sorted({one.shots for one in results})
    asked = [*shots, 2 * shots[-1], 4 * shots[-1]]
    return titled(
        f"## {name}",
        "Top-1, %: measured (law).",
        _accuracies(results, surface, shots),
        "Which backbone for so many labels a class, of those measured, by the law:",
        _advice(advice(surface, results, asked), shots[-1]),
    )


def _accuracies(results: Sequence[LawResult], surface: ErrorSurface, shots: Sequence[int]) -> str:
    measured = means(results)
    cells = {(one.backbone, one.sparsity, one.shots): one for one in results}
    fitted = dict(
        zip(cells, 1 - surface.error(places_of(list(cells.values()), surface.backbones)), strict=True),
    )
    rows = []
    for backbone, sparsity, n_kept in sorted({(one.backbone, one.sparsity, one.n_kept) for one in results}):
        texts = [
            f"{100 * measured[cell]:.1f} ({100 * fitted[cell]:.1f})" if cell in measured else ""
            for cell in ((backbone, sparsity, k) for k in shots)
        ]
        rows.append([backbone, f"{sparsity:g}", f"{n_kept / 1e6:.2f}", *texts])
    return table(["backbone", "sparsity", "weights left, million", *map(str, shots)], rows)


def _advice(found: Sequence[Advice], last: int) -> str:
    rows = [
        [
            f"{one.shots}" if one.shots <= last else f"{one.shots} (beyond)",
            _setting(one.best),
            f"{100 * one.accuracy:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})",
            f"{100 * one.chance:.0f} %",
            f"{_setting(one.small)}, {one.small_kept / 1e6:.2f} million, {100 * one.small_accuracy:.1f}",
        ]
        for one in found
    ]
    return table(["shots", "best", "top-1, %", "chance to be the best", "fewest weights within a point"], rows)


def _setting(setting: tuple[str, float]) -> str:
    backbone, sparsity = setting
    return f"{backbone}, sparsity {sparsity:g}" if sparsity else backbone
