"""The ``frofa`` command: demo, models, extract, fit, predict, study."""

import argparse
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from frofa._version import __version__
from frofa.exceptions import FrofaError

if TYPE_CHECKING:
    from frofa.extractor import FrozenFeatureExtractor

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
EXIT_ERROR, EXIT_SKIPPED, EXIT_INTERRUPTED = 1, 3, 130
EPILOG = """exit codes: 0 done; 1 failed, with one line on standard error; 2 wrong usage; 3 done, but some images could
not be read and were skipped; 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = build_parser().parse_args(arguments)
    args.arguments = sys.argv[1:] if arguments is None else arguments
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"frofa: warning: {message}", file=sys.stderr)
            return run(args)
    except KeyboardInterrupt:
        print("frofa: interrupted; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (FrofaError, OSError, ValueError, TypeError, ImportError) as error:
        if args.debug:
            raise
        print(f"frofa: error: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_ERROR


def build_parser() -> argparse.ArgumentParser:
    """The parser of all sub-commands."""
    parser = argparse.ArgumentParser(
        prog="frofa", description="Few-shot image classification with frozen vision transformers.", epilog=EPILOG
    )
    parser.add_argument("--version", action="version", version=f"frofa {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_demo(commands)
    _add_models(commands)
    _add_extract(commands)
    _add_fit(commands)
    _add_predict(commands)
    _add_study(commands)
    return parser


def _add_demo(commands: Commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="the main job on packaged images, offline, in about a minute or two",
        description="Extract features of a packaged sample of Fashion-MNIST with the embedded backbone, train heads on "
        "5 and 10 images a class, with and without frozen-feature augmentation, and print and plot their accuracy.",
    )
    parser.add_argument("--seeds", type=int, default=3, help="support samples for each number of shots (default: 3)")
    parser.add_argument("--plot", type=Path, default=Path("frofa-demo.png"), help="PNG to write (default: %(default)s)")
    parser.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    import tempfile

    from frofa._optional import require
    from frofa.demo import run_demo

    require("matplotlib", "plot")  # before the work, not after it
    with tempfile.TemporaryDirectory() as directory:
        display = run_demo(Path(directory), args.seeds)
    display.plot().figure_.savefig(args.plot, dpi=120)
    print(f"plot: {args.plot}")
    return 0


def _add_models(commands: Commands) -> None:
    parser = commands.add_parser(
        "models",
        help="list the backbones that work offline, and how to name others",
        description="List the embedded backbones and how others are named; with a name, print its model card.",
    )
    parser.add_argument("name", nargs="?", help="an embedded backbone")
    parser.set_defaults(run=_models)


def _models(args: argparse.Namespace) -> int:
    from frofa._embedded import embedded_models

    models = embedded_models()
    if args.name:
        for model in models:
            if model.name == args.name:
                print(model.card)
                return 0
        raise ValueError(f"no embedded model is called {args.name!r}. There is: {', '.join(m.name for m in models)}.")
    print("Embedded, offline:")
    for model in models:
        print(f"  {model.name}\n      {model.summary}")
    print("\nOthers:")
    print("  local-dir:PATH          a folder with config.json and model.safetensors (timm.models.save_for_hf)")
    print("  hf-hub:OWNER/NAME       from the Hugging Face hub, or its cache on this machine")
    print("  a timm name             such as vit_base_patch16_siglip_224.webli; timm.list_models(pretrained=True)")
    return 0


def _add_extract(commands: Commands) -> None:
    parser = commands.add_parser(
        "extract",
        help="write the features of a folder of images to disk",
        description="Extract features of all images of a folder into a store, and write them to one .npz file with the "
        "arrays features, paths and, for DIRECTORY/CLASS/IMAGE, labels. A killed run goes on where it stopped.",
    )
    parser.add_argument("images", type=Path, metavar="DIRECTORY", help="DIRECTORY/CLASS/IMAGE, or DIRECTORY/IMAGE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="file to write")
    parser.add_argument(
        "--output",
        default="pooled",
        choices=["tokens", "cls", "mean", "pooled"],
        help="one vector an image (cls, mean, pooled), or its patch tokens (default: %(default)s)",
    )
    parser.add_argument("--layer", type=int, help="transformer block, from 0, or from -1 for the last (default: last)")
    parser.add_argument("--no-norm", dest="norm", action="store_false", help="leave out the model's final norm")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16"], help="(default: %(default)s)")
    _add_extractor_options(parser)
    parser.set_defaults(run=_extract)


def _extract(args: argparse.Namespace) -> int:
    import numpy as np

    from frofa._files import write_atomically
    from frofa.images import load_image_folder

    if args.out.suffix != ".npz":
        raise ValueError(f"--out must end in .npz. Got {args.out}.")
    _check_out(args.out)
    labels = None
    if args.images.is_dir() and any(path.is_dir() for path in args.images.iterdir()):
        paths, labels = load_image_folder(args.images)
    else:
        paths = _list_some_images([args.images])
    extraction = _extractor(args, args.output, layer=args.layer, norm=args.norm, dtype=args.dtype).extract(
        paths, labels
    )
    arrays = {"features": extraction.features, "paths": np.array(paths)[extraction.kept]}
    if extraction.y is not None:
        arrays["labels"] = extraction.y
    write_atomically(args.out, lambda file: np.savez(file, **arrays))
    shape = " x ".join(str(size) for size in extraction.features.shape)
    print(f"{args.out}: features {shape} {extraction.features.dtype}, {extraction.n_computed} images computed now")
    return EXIT_SKIPPED if extraction.skipped else 0


def _add_fit(commands: Commands) -> None:
    from_choices = ["auto", "ridge", "logistic", "prototype", "map", "map+frofa"]
    parser = commands.add_parser(
        "fit",
        help="train a classifier on a folder of labelled images",
        description="Train a head on the frozen features of DIRECTORY/CLASS/IMAGE. With 'auto', the head is chosen by "
        "cross-validation on these images, and so are hyperparameters and augmentation.",
    )
    parser.add_argument("images", type=Path, metavar="DIRECTORY", help="DIRECTORY/CLASS/IMAGE; the class is the label")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="model to write, such as flowers.frofa")
    parser.add_argument("--head", default="auto", choices=from_choices, help="(default: %(default)s)")
    parser.add_argument("--shots", type=int, help="use only so many images a class, chosen at random")
    parser.add_argument("--cv", type=int, default=5, help="folds at most (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of shots, folds and head (default: 0)")
    _add_extractor_options(parser)
    parser.set_defaults(run=_fit)


def _fit(args: argparse.Namespace) -> int:
    from sklearn.pipeline import Pipeline

    from frofa.images import load_image_folder
    from frofa.persistence import save
    from frofa.selection import fit_head, head_choices, n_fits, n_folds

    _check_out(args.out)
    if args.cv < 2:
        raise ValueError(f"--cv must be 2 or more. Got {args.cv}.")
    paths, labels = load_image_folder(args.images)
    if len(set(labels)) < 2:
        raise ValueError(f"a classifier takes two classes at least; {args.images} has one, {labels[0]}.")
    n_unreadable = 0
    if args.shots is not None:
        paths, labels, n_unreadable = _sample_readable(paths, labels, args)
    if n_folds(labels, args.cv) < 2 and args.head == "auto":
        raise ValueError("--head auto cross-validates, which takes 2 images of every class at least: choose a --head.")
    choices = head_choices(args.seed, verbose=True)
    if args.head != "auto":
        choices = {args.head: choices[args.head]}
    extractors = {choice.output: _extractor(args, choice.output) for choice in choices.values()}
    extractions = {output: extractor.fit().extract(paths, labels) for output, extractor in extractors.items()}
    y = labels[next(iter(extractions.values())).kept]
    if lost := set(labels.tolist()) - set(y.tolist()):
        raise ValueError(f"no image could be read of: {', '.join(sorted(lost))}.")
    folds = n_folds(y, args.cv)
    fitted = {}
    for name, choice in choices.items():
        extraction = extractions[choice.output]
        print(f"frofa: training {name}, fits: {n_fits(choice, folds, always=args.head == 'auto')}", file=sys.stderr)
        fitted[name] = fit_head(choice, extraction.features, y, cv=args.cv, seed=args.seed, always=args.head == "auto")
        found = ", ".join(f"{key.split('__')[-1]}={value}" for key, value in fitted[name].params.items())
        score = fitted[name].score
        known = "not cross-validated" if score != score else f"accuracy {100 * score:.1f} % over {folds} folds"
        print(f"{name:<10} {known}{'; ' if known and found else ''}{found}".rstrip())
    best = max(fitted, key=lambda name: (fitted[name].score == fitted[name].score, fitted[name].score))
    model = Pipeline([("extract", extractors[choices[best].output]), ("head", fitted[best].estimator)])
    model.set_params(**{name: False for name in model.get_params() if name.endswith("__verbose")})
    save(model, args.out)
    print(f"{args.out}: {best} on {args.model}, {len(y)} images, {len(set(y))} classes: {_shorten(set(y))}")
    skipped = n_unreadable or any(extraction.skipped for extraction in extractions.values())
    return EXIT_SKIPPED if skipped else 0


def _sample_readable(paths: list[str], labels: Any, args: argparse.Namespace) -> tuple[list[str], Any, int]:
    """Choose the shots among images that can be read; also say how many could not be."""
    import numpy as np

    from frofa.evaluation import sample_shots
    from frofa.images import check_readable

    kept = np.arange(len(paths))
    while True:
        rows = kept[sample_shots(labels[kept], args.shots, args.seed)]
        failures = {row: failure for row in rows.tolist() if (failure := check_readable(row, paths[row]))}
        if not failures:
            return [paths[row] for row in rows], labels[rows], len(paths) - len(kept)
        for failure in failures.values():
            if args.fail_fast:
                raise failure
            warnings.warn(f"another image is taken instead: {failure}", stacklevel=1)
        kept = kept[~np.isin(kept, list(failures))]


def _shorten(classes: set[str]) -> str:
    names = sorted(str(name) for name in classes)
    return ", ".join(names[:10]) + (f", ... ({len(names) - 10} more)" if len(names) > 10 else "")


def _add_predict(commands: Commands) -> None:
    parser = commands.add_parser(
        "predict",
        help="classify images with a trained model",
        description="Classify images, and write path, label and probability as CSV.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="what 'frofa fit' wrote")
    parser.add_argument("images", type=Path, nargs="+", metavar="PATH", help="images, or directories of images")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="file to write (default: standard output)")
    parser.add_argument("--store", type=Path, help="feature store to use (default: none, features are not kept)")
    _add_speed_options(parser)
    parser.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    import csv
    import io

    from sklearn.pipeline import Pipeline

    from frofa._files import write_atomically
    from frofa.extractor import FrozenFeatureExtractor
    from frofa.persistence import load

    model = load(args.model, device=args.device)
    if not isinstance(model, Pipeline) or not isinstance(model[0], FrozenFeatureExtractor):
        raise ValueError(f"{args.model} does not start with an extractor, so that it cannot classify images.")
    if args.out is not None:
        _check_out(args.out)
    paths = _list_some_images(args.images)
    extractor = model[0].set_params(
        on_error="raise" if args.fail_fast else "skip",
        store=args.store,
        batch_size=args.batch_size,
        n_jobs=args.n_jobs,
        verbose=True,
    )
    extraction = extractor.extract(paths)
    probabilities = model[1:].predict_proba(extraction.features)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "label", "probability"])
    for position, row in zip(extraction.kept, probabilities, strict=True):
        writer.writerow([paths[position], model.classes_[row.argmax()], f"{row.max():.4f}"])
    if args.out is None:
        print(text.getvalue(), end="")
    else:
        write_atomically(args.out, lambda file: file.write(text.getvalue().encode("utf-8")))
        print(f"{args.out}: {len(probabilities)} images")
    return EXIT_SKIPPED if extraction.skipped else 0


def _add_study(commands: Commands) -> None:
    parser = commands.add_parser(
        "study",
        help="compare all augmentations and heads on your images, with a report",
        description="The protocol of the FroFA paper on image sets of your own: MAP heads with every augmentation at "
        "several levels, baselines and probes; disjoint support samples, a validation part of the training images that "
        "chooses, test images for the report only. Writes results.csv, report.md and figures. A killed study goes on "
        "where it stopped.",
    )
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="DIRECTORY", help="with train/CLASS and test/CLASS, or CLASS alone"
    )
    parser.add_argument("--backbone", nargs="+", default=["frofa/vit_tiny_tin200"], help="(default: %(default)s)")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5, 10, 25], help="(default: 1 5 10 25)")
    parser.add_argument(
        "--seeds",
        type=int,
        default=5,
        help="support samples for each number of shots, disjoint if there are images enough (default: 5)",
    )
    parser.add_argument("--quick", action="store_true", help="few levels of each augmentation: minutes, not hours")
    parser.add_argument(
        "--heads", nargs="+", default=["map", "probes"], choices=["map", "probes"], help="(default: both)"
    )
    parser.add_argument(
        "--augmentations", nargs="+", metavar="NAME", help="those to study, as a result file names them (default: all)"
    )
    parser.add_argument("--out", type=Path, default=Path("frofa-study"), help="directory (default: ./%(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    parser.add_argument("--n-jobs", type=int, default=-1, help="threads that decode images (default: one a core)")
    parser.set_defaults(run=_study)


def _study(args: argparse.Namespace) -> int:
    from frofa._optional import require
    from frofa.study import Study, n_skipped, report_study, run_study

    require("matplotlib", "plot")  # before the work, not after it
    study = Study(
        directories=args.images,
        backbones=args.backbone,
        out=args.out,
        shots=args.shots,
        n_seeds=args.seeds,
        quick=args.quick,
        heads=args.heads,
        augmentations=args.augmentations,
        device=args.device,
        n_jobs=args.n_jobs,
        command=f"frofa {shlex.join(args.arguments)}",
    )
    run_study(study, say=lambda line: print(line, flush=True))
    print(f"report: {report_study(study)}")
    return EXIT_SKIPPED if n_skipped(study) else 0


def _add_extractor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", default="frofa/vit_tiny_tin200", help="backbone; see 'frofa models' (default: %(default)s)"
    )
    parser.add_argument(
        "--store", type=Path, default=Path("frofa-store"), help="feature store (default: ./%(default)s)"
    )
    parser.add_argument("--image-size", type=int, help="side in pixels (default: the model's own)")
    _add_speed_options(parser)


def _add_speed_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-size", type=int, default=64, help="images a forward pass (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)")
    parser.add_argument("--n-jobs", type=int, default=-1, help="threads that decode images (default: one a core)")
    parser.add_argument("--fail-fast", action="store_true", help="stop at an image that cannot be read")


def _check_out(path: Path) -> None:
    """Refuse a file that cannot be written before the work, not after it."""
    if path.is_dir():
        raise ValueError(f"--out must be a file. Got the directory {path}.")
    if not path.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no directory {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: the directory {path.parent} is not writable.")


def _list_some_images(given: Sequence[Path]) -> list[str]:
    from frofa.images import EXTENSIONS, list_images

    paths = [path for place in given for path in list_images(place)]
    if not paths:
        places = ", ".join(str(place) for place in given)
        raise ValueError(f"found no image in {places}. Known endings: {', '.join(EXTENSIONS)}.")
    return paths


def _extractor(args: argparse.Namespace, output: Any, **options: Any) -> "FrozenFeatureExtractor":
    from frofa.extractor import FrozenFeatureExtractor

    model = args.model
    if model.startswith("local-dir:"):  # a saved model is used from other directories, too
        model = f"local-dir:{Path(model.removeprefix('local-dir:')).expanduser().absolute()}"
    return FrozenFeatureExtractor(
        model,
        output=output,
        image_size=args.image_size,
        batch_size=args.batch_size,
        device=args.device,
        n_jobs=args.n_jobs,
        store=args.store,
        on_error="raise" if args.fail_fast else "skip",
        verbose=True,
        **options,
    )
