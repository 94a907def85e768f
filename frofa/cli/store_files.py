"""Opening a feature store; ``frofa store export`` and ``frofa store import``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from frofa.cli.console import say
from frofa.cli.options import check_in, check_out

if TYPE_CHECKING:
    from frofa.store import FeatureSpec, FeatureStore


def open_store(args: argparse.Namespace) -> "FeatureStore":
    """The store of the option, which must be there."""
    if not args.store.is_dir():  # known without PyTorch, which the store imports
        raise FileNotFoundError(f"there is no feature store {args.store}.")
    from frofa.store import FeatureStore

    return FeatureStore(args.store)


def choose_spec(store: "FeatureStore", digest: str | None) -> "FeatureSpec":
    """The spec of which these are the first digits, or the only one; pages stand for their grids, too."""
    from frofa.store.ragged import is_grids

    known = {name: spec for name, spec in store.specs().items() if digest or not is_grids(spec)}
    found = [name for name in known if name.startswith(digest or "")]
    if len(found) != 1:
        got = "Got none" if digest is None else f"Got {digest}"
        raise ValueError(f"--spec must be one of {', '.join(known) or 'none: the store is empty'}. {got}.")
    return known[found[0]]


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``frofa store export``."""
    kind = parser.add_mutually_exclusive_group(required=True)
    for name in ("parquet", "safetensors", "npy"):
        kind.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write a .{name} file")
    parser.add_argument("--spec", metavar="DIGEST", help="which features (default: the only ones there are)")
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    [(kind, path)] = [(kind, value) for kind in ("parquet", "safetensors", "npy") if (value := getattr(args, kind))]
    check_out(path, f"--{kind}")
    store = open_store(args)
    from frofa.store import exchange

    export = getattr(exchange, f"export_{kind}")
    export(store.features(choose_spec(store, args.spec)), path, progress=True)
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``frofa store import``."""
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
    parser.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> int:
    for path in (args.features, args.fields, *([args.keys] if args.keys else ())):
        check_in(path)
    from frofa.images.sources import load_images
    from frofa.store import FeatureSpec, FeatureStore
    from frofa.store.exchange import import_npy
    from frofa.utils.json import read_json

    def fail(why: str) -> ValueError:
        return ValueError(f"{args.fields} is no spec ({why}): it takes the fields of a store's spec.json.")

    spec = FeatureSpec.from_fields(read_json(args.fields, fail), fail)
    which = {"keys": args.keys} if args.keys else {"images": load_images(args.paths).items}
    n_added = import_npy(FeatureStore(args.store), spec, args.features, progress=True, **which)
    say(f"{args.store}: {n_added} features added")
    return 0
