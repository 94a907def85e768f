"""The report of a study, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from frofa.study.reporting import tables
from frofa.study.reporting.answers import answers, in_markdown
from frofa.study.reporting.heads import tables as head_tables
from frofa.study.reporting.heads.bar import in_markdown as in_words_of_bar
from frofa.study.reporting.heads.bar import judgements
from frofa.study.reporting.heads.methods import BLEND, FEW_SHOT, MAP, MAP_AUTO
from frofa.study.reporting.heads.methods import METHODS as HEAD_METHODS
from frofa.study.reporting.summary import MEANINGS, METHODS, Cell, Scores, by_cell
from frofa.study.results import StudyResult
from frofa.utils.files import write_atomically

PROTOCOL = """\
- Every choice (level, variant, augmentation, hyperparameters) is made by validation accuracy, as a mean over seeds,
  for each set, backbone and number of shots separately. Test accuracy is only reported.
- A seed is a support sample. Intervals are 95 % intervals over seeds (Student's t). A number without one has one seed.
- A change is paired: the same seeds with and without. Bold: the interval excludes zero.
  p is that of a two-tailed paired t-test.
- A change over several sets is the mean of the sets' means. Its interval and test take all differences, set x seed,
  as one sample. They speak of these sets with other support samples, not of other sets.
- Validation and test accuracy are of the same fits: what is chosen is partly a lucky fit, and more so the more
  candidates there are to choose from.
- Nothing is corrected for the number of comparisons: of twenty true zeros, about one is bold."""


HEADS_PROTOCOL = """\
- Heads that need no tuning are fitted as they are. A tuned probe is the best of the grid by validation accuracy, an
  oracle probe the best of the same grid by the test accuracy that is reported: nobody can choose so. Either is chosen
  by its mean over seeds, for each set, backbone and number of shots separately.
- A seed is a support sample. Intervals are 95 % intervals over seeds (Student's t).
- A change is paired: the same seeds for both. Bold: the interval excludes zero. A change over several sets is the mean
  of the sets' means; its interval takes all differences, set x seed, as one sample. It speaks of these sets with other
  support samples, not of other sets.
- Test labels are read by the scoring of finished predictions alone.
- Nothing is corrected for the number of comparisons: of twenty true zeros, about one is bold."""


def write_report(
    results: Iterable[StudyResult],
    directory: Path,
    *,
    command: str,
    versions: str,
    notes: Mapping[str, str],
    figures: Sequence[Path] = (),
    seconds: Mapping[str, float] = MappingProxyType({}),
) -> Path:
    """Write ``report.md``, whole or not at all; parts that the study has no results for are left out.

    Of two rows of the same fit, the later counts. Command lines, versions and notes (facts by name) stand in the first
    section; figures, which lie in the directory, at the end. Seconds are those of a fit of the head that needs no
    tuning, by machine.
    """
    results = list(results)
    cells = by_cell(results)
    if not cells:
        raise ValueError("expected at least one result. Got none.")
    heads, augmentations = parts(results)
    sections = [
        "# Study of few-shot heads" if heads else "# Study of frozen feature augmentation",
        _what_was_run(cells, command, versions, notes),
        *(_on_heads(heads, seconds) if heads else ()),
        *(_on_augmentations(augmentations) if augmentations else ()),
        tables.titled("## Figures", *(f"![{path.stem}]({path.name})" for path in figures)),
    ]
    path = directory / "report.md"
    text = "\n\n".join(section for section in sections if section) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))
    return path


def parts(results: Iterable[StudyResult]) -> tuple[dict[Cell, list[Scores]], dict[Cell, list[Scores]]]:
    """Split results into those of a comparison of heads and those of augmentations, each by cell."""
    results = list(results)
    return by_cell(row for row in results if row.features), by_cell(row for row in results if not row.features)


def _on_heads(cells: Mapping[Cell, list[Scores]], seconds: Mapping[str, float]) -> list[str]:
    judged = [in_words_of_bar(judgement) for judgement in judgements(cells, seconds)]
    return [
        tables.titled("## The bar", *judged),
        _methods(cells),
        head_tables.accuracies(cells),
        head_tables.against(cells, head_tables.BEST_TUNED),
        head_tables.against(cells, head_tables.BEST_ORACLE),
        head_tables.by_set(cells, FEW_SHOT, head_tables.BEST_ORACLE),
        head_tables.by_set(cells, BLEND, FEW_SHOT),
        head_tables.by_set(cells, MAP_AUTO, MAP),
        head_tables.calibration(cells),
        head_tables.expectations(cells),
        head_tables.seconds(cells),
        head_tables.oracle_choices(cells),
        head_tables.each_set(cells),
    ]


def _methods(cells: Mapping[Cell, list[Scores]]) -> str:
    candidates = {scores.candidate for cell in cells.values() for scores in cell}
    counts = {method: sum(map(method.fits, candidates)) for method in HEAD_METHODS}
    rows = [[method.name, method.meaning, f"{count:,}"] for method, count in counts.items() if count]
    return tables.titled("## How to read this", HEADS_PROTOCOL, tables.table(["method", "what", "candidates"], rows))


def _on_augmentations(cells: Mapping[Cell, list[Scores]]) -> list[str]:
    found = [in_markdown(answer) for answer in answers(cells)]
    return [
        _how_to_read(cells),
        tables.titled("## Answers", *found),
        tables.accuracies(cells),
        tables.choices(cells),
        tables.gains(cells),
        tables.augmentations(cells, "MAP default"),
        tables.augmentations(cells, "MAP^wd"),
        tables.variants(cells),
        tables.sequences(cells),
        tables.brightness(cells),
    ]


def _how_to_read(cells: Mapping[Cell, list[Scores]]) -> str:
    # Methods that have no candidates in this study are not explained.
    candidates = {scores.candidate for cell in cells.values() for scores in cell}
    counts = {name: sum(map(METHODS[name], candidates)) for name in MEANINGS}
    rows = [[name, MEANINGS[name], f"{count:,}"] for name, count in counts.items() if count]
    header = ["method", "the best by validation of", "candidates"]
    return tables.titled("## How to read this", PROTOCOL, tables.table(header, rows))


def _what_was_run(cells: Mapping[Cell, list[Scores]], command: str, versions: str, notes: Mapping[str, str]) -> str:
    fits = [scores for cell in cells.values() for scores in cell]
    seeds = sorted({seed for scores in fits for seed in scores.test})
    facts = {
        "Sets": ", ".join(sorted({cell.dataset for cell in cells})),
        "Backbones": ", ".join(sorted({cell.backbone for cell in cells})),
        "Shots": ", ".join(map(str, sorted({cell.shots for cell in cells}))),
        "Seeds": f"{len(seeds)} ({', '.join(map(str, seeds))})",
        "Candidates": f"{len({scores.candidate for scores in fits}):,}",
        "Fits": f"{sum(len(scores.test) for scores in fits):,}",
        **_gaps(fits, len(seeds)),
        "Versions": versions,
        **notes,
    }
    lines = [f"- {name}: {fact}" for name, fact in facts.items()]
    return tables.titled("## What was run", f"```sh\n{command}\n```", "\n".join(lines))


def _gaps(fits: Sequence[Scores], n_seeds: int) -> dict[str, str]:
    lacking = sum(len(scores.test) < n_seeds for scores in fits)
    if not lacking:
        return {}
    whole = f"{lacking:,} of {len(fits):,} combinations of candidate, set, backbone and shots lack seeds"
    return {"Not finished": f"{whole}. Where others are complete, these are not chosen."}
