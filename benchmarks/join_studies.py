"""Join the results of studies of the same kind, run apart, and write the report on all of them.

Each DIRECTORY is what ``frofa study --out`` wrote, of other image sets, backbones or shots. Of two results of the same
fit, that of the later directory counts.

Usage: python benchmarks/join_studies.py OUT DIRECTORY [DIRECTORY ...] [--command TEXT]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from frofa.study import Study, report_study
from frofa.study.results import StudyResult, read_results, write_rows


def joined_notes(notes: list[dict[str, Any]]) -> dict[str, Any]:
    """Commands and versions once each, facts of all sets."""
    whole: dict[str, Any] = {}
    for one in notes:
        for name, value in one.items():
            if isinstance(value, dict):
                whole.setdefault(name, {}).update(value)
            else:
                whole[name] = list(dict.fromkeys([*whole.get(name, []), *value]))
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("directories", type=Path, nargs="+", metavar="DIRECTORY")
    parser.add_argument("--command", help="what the report says was run (default: the commands of all studies)")
    args = parser.parse_args()
    found: dict[Any, StudyResult] = {}
    for directory in args.directories:
        for row in read_results(directory / "results.csv"):
            found[row.dataset, row.backbone, row.shots, row.seed, row.candidate] = row
    notes = joined_notes([json.loads((directory / "notes.json").read_text()) for directory in args.directories])
    if args.command:
        notes["commands"] = [args.command]
    args.out.mkdir(parents=True, exist_ok=True)
    study = Study((), (), args.out)
    with study.results_file.open("w", encoding="utf-8", newline="") as file:
        write_rows(file, found.values(), header=True)
    study.notes_file.write_text(json.dumps(notes, indent=1))
    print(f"{len(found)} results: {report_study(study)}")


if __name__ == "__main__":
    main()
