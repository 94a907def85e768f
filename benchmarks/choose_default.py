"""Which augmentation `MAPClassifier` has by default: chosen on validation accuracy, then looked at on test accuracy.

From the results of studies (``results.csv``): the change of each augmented head against the head without augmentation,
same hyperparameters, same support samples, averaged over 5 to 25 shots and seeds, for each image set and backbone. The
choice takes validation accuracy alone: among the candidates that were run everywhere, those whose mean over all is
within a tenth of a point of the best; among these, the one whose change is best where it is worst. Test accuracy is
printed for those, and looked at for nothing. A set that was run for some of the shots only takes no part in the choice.

Usage: python benchmarks/choose_default.py docs/results/augmentations/results.csv
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from frofa.evaluation import Interval, mean_interval
from frofa.study.results import Candidate, StudyResult, read_results

MIN_SHOTS, TIE = 5, 0.1
Changes = dict[Candidate, dict[str, list[float]]]


def changes(results: list[StudyResult], part: str) -> Changes:
    """By candidate and by set and backbone: the change of each shot and seed, in points."""
    rows = [r for r in results if r.head == "MAP" and not r.setting and r.shots >= MIN_SHOTS]
    plain = {_where(r): float(getattr(r, part)) for r in rows if r.candidate == Candidate("MAP")}
    found: Changes = defaultdict(lambda: defaultdict(list))
    for r in rows:
        found[r.candidate][f"{r.dataset}, {r.backbone}"].append(float(getattr(r, part)) - plain[_where(r)])
    return found


def _where(r: StudyResult) -> tuple[str, str, int, int]:
    return r.dataset, r.backbone, r.shots, r.seed


def describe(candidate: Candidate) -> str:
    return f"{candidate.augmentation} {candidate.variant} {candidate.level:g}"


def line(intervals: dict[str, Interval]) -> str:
    mean = np.mean([interval.mean for interval in intervals.values()])
    return f"{mean:+.2f}   " + "   ".join(f"{interval:+.2f}" for interval in intervals.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    results = read_results(parser.parse_args().results)
    validation, test = changes(results, "validation"), changes(results, "test")
    plain = validation[Candidate("MAP")]
    complete = max(map(len, plain.values()))
    cells = [cell for cell, values in plain.items() if len(values) == complete]
    everywhere = {
        candidate: {cell: mean_interval(by_cell[cell]) for cell in cells}
        for candidate, by_cell in validation.items()
        if candidate != Candidate("MAP") and all(len(by_cell.get(cell, ())) == complete for cell in cells)
    }
    means = {c: [interval.mean for interval in found.values()] for c, found in everywhere.items()}
    ranked = sorted(everywhere, key=lambda c: -float(np.mean(means[c])))
    print(f"change of validation accuracy, points: mean; {'; '.join(cells)}")
    for candidate in ranked:
        print(f"  {describe(candidate):<28}{line(everywhere[candidate])}")
    tied = [c for c in ranked if np.mean(means[c]) >= np.mean(means[ranked[0]]) - TIE]
    print(f"\nchosen: {describe(max(tied, key=lambda c: min(means[c])))}\nchange of test accuracy of those that tie")
    for candidate in tied:
        print(f"  {describe(candidate):<28}{line({cell: mean_interval(test[candidate][cell]) for cell in cells})}")
        for cell in plain.keys() - set(cells):
            if cell in test[candidate]:
                found = mean_interval(test[candidate][cell])
                print(f"    {cell}, which was run for some shots only: {found:+.2f}")


if __name__ == "__main__":
    main()
