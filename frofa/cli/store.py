"""``frofa store``: look into a feature store, check it and keep it in order."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from frofa.cli.console import emit, say
from frofa.cli.options import EXIT_ERROR, Commands, add_shared, check_in, check_out, finish
from frofa.utils.json import read_json

if TYPE_CHECKING:
    from frofa.store import Damage, FeatureSpec, FeatureStore

STORE_EPILOG = "exit codes: 0 fine; 1 damage was found, or failed, with one line on standard error; 2 wrong usage."
EXPORTED = ("parquet", "safetensors", "npy")


def add(commands: Commands) -> None:
    """Add the sub-command with its own sub-commands."""
    parser = commands.add_parser("store", help="look into a feature store, check and repair it", epilog=STORE_EPILOG)
    actions = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add(actions, "info", _info, "what the store holds, by spec: all that determines a feature but the image")
    _add(actions, "verify", _verify, "read everything and compare checksums")
    _add(
        actions,
        "repair",
        _repair,
        "save what is whole of damaged shards and put the rest aside; its images will be extracted again",
    )
    _add(actions, "compact", _compact, "merge small shards and drop what is stored twice")
    gc = _add(actions, "gc", _gc, "delete the features of all specs but those to keep")
    gc.add_argument(
        "--keep-spec",
        nargs="+",
        required=True,
        metavar="DIGEST",
        help="as 'frofa store info' gives them, or their first digits",
    )
    gc.add_argument("--dry-run", action="store_true", help="say what would be freed, and delete nothing")
    explain = _add(actions, "explain", _explain, "why the features of an image are in the store, or are not")
    explain.add_argument("image", type=Path, metavar="IMAGE")
    explain.add_argument("--spec", metavar="DIGEST", help="(default: the only one there is)")
    _add_export_options(_add(actions, "export", _export, "write features to one file"))
    _add_import_options(_add(actions, "import", _import, "take features from a .npy file"))


def _add(actions: Commands, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=STORE_EPILOG)
    add_shared(parser, "--store")
    finish(parser, run)
    return parser


def _add_export_options(parser: argparse.ArgumentParser) -> None:
    kind = parser.add_mutually_exclusive_group(required=True)
    for name in EXPORTED:
        kind.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write a .{name} file")
    parser.add_argument("--spec", metavar="DIGEST", help="which features (default: the only ones there are)")


def _add_import_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("features", type=Path, metavar="FEATURES.npy", help="one row an image")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--paths", metavar="SOURCE", help="the images of the rows, as 'frofa extract' takes them")
    which.add_argument("--keys", type=Path, metavar="FILE", help="digests of the images of the rows, one a line")
    parser.add_argument(
        "--fields",
        type=Path,
        required=True,
        metavar="FILE.json",
        help="the fields of the spec, as in a store's spec.json",
    )


def _open(args: argparse.Namespace) -> "FeatureStore":
    """Open the store that the option names; it must be there."""
    if not args.store.is_dir():  # known without PyTorch, which the store imports
        raise FileNotFoundError(f"there is no feature store {args.store}.")
    from frofa.store import FeatureStore

    return FeatureStore(args.store)


def _choose_spec(store: "FeatureStore", digest: str | None) -> "FeatureSpec":
    """The spec of which these are the first digits, or the only one; pages stand for their grids, too."""
    from frofa.store.ragged import is_grids

    known = {name: spec for name, spec in store.specs().items() if digest or not is_grids(spec)}
    # Every digest starts with an empty text: without a choice, only a store of one spec has an answer.
    found = [name for name in known if name.startswith(digest or "")]
    if len(found) != 1:
        got = "Got none" if digest is None else f"Got {digest}"
        raise ValueError(f"--spec must be one of {', '.join(known) or 'none: the store is empty'}. {got}.")
    return known[found[0]]


def _info(args: argparse.Namespace) -> int:
    store = _open(args)
    from frofa.images.listing import count
    from frofa.store.ragged import is_pages

    found = store.info()
    for part in found:
        size = f"{part.n_bytes / 1e6:.1f} MB, {count(part.n_shards, 'shard')}"
        emit(f"{part.digest}  {part.n_images} {part.unit}, {size}")
        fields = {"spec.json": "damaged"} if part.spec is None else asdict(part.spec)
        for name, value in fields.items():
            emit(f"    {name}: {value}")
    # Pages hold the tokens of images whose grids are counted beside them.
    n_features = sum(part.n_images for part in found if not (part.spec and is_pages(part.spec)))
    emit(f"{args.store}: {count(len(found), 'spec')}, features of {count(n_features, 'image')}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    return _say_damage(_open(args).verify(progress=True), f"{args.store}: no damage")


def _repair(args: argparse.Namespace) -> int:
    _say_damage(_open(args).repair(progress=True), f"{args.store}: nothing to repair")
    return 0


def _say_damage(damages: "Sequence[Damage]", none: str) -> int:
    for damage in damages:
        emit(str(damage))
    emit(f"{len(damages)} damaged, {sum(damage.n_lost for damage in damages)} features lost" if damages else none)
    return EXIT_ERROR if damages else 0


def _compact(args: argparse.Namespace) -> int:
    done = _open(args).compact(progress=True)
    say(
        f"{args.store}: {done.n_before} shards became {done.n_after}, {done.n_duplicates} duplicates "
        f"dropped, {max(0, done.bytes_freed) / 1e6:.1f} MB freed"
    )
    return 0


def _gc(args: argparse.Namespace) -> int:
    store = _open(args)
    freed = store.gc(args.keep_spec, dry_run=args.dry_run)
    say(f"{args.store}: {freed / 1e6:.1f} MB {'would be freed' if args.dry_run else 'freed'}")
    return 0


def _explain(args: argparse.Namespace) -> int:
    store = _open(args)
    emit(str(store.explain(args.image, _choose_spec(store, args.spec))))
    return 0


def _export(args: argparse.Namespace) -> int:
    [(kind, path)] = [(kind, value) for kind in EXPORTED if (value := getattr(args, kind))]
    check_out(path, f"--{kind}")
    store = _open(args)
    from frofa.store import exchange

    export = getattr(exchange, f"export_{kind}")
    export(store.features(_choose_spec(store, args.spec)), path, progress=True)
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _import(args: argparse.Namespace) -> int:
    # Files that are not there, and a spec that is none, are known before the images are looked for.
    for path in (args.features, args.fields, *([args.keys] if args.keys else ())):
        check_in(path)
    from frofa.images.sources import load_images
    from frofa.store import FeatureSpec, FeatureStore
    from frofa.store.exchange import import_npy

    def fail(why: str) -> ValueError:
        return ValueError(f"{args.fields} is no spec ({why}): it takes the fields of a store's spec.json.")

    spec = FeatureSpec.from_fields(read_json(args.fields, fail), fail)
    which = {"keys": args.keys} if args.keys else {"images": load_images(args.paths).items}
    n_added = import_npy(FeatureStore(args.store), spec, args.features, progress=True, **which)
    say(f"{args.store}: {n_added} features added")
    return 0
