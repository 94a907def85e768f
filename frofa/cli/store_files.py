"""Opening a feature store; ``frofa store export`` and ``frofa store import``."""

import argparse
import json
from pathlib import Path
from typing import Any

from frofa.cli._options import check_out


def open_store(args: argparse.Namespace) -> Any:
    """The store of the option, which must be there."""
    from frofa.store import FeatureStore

    if not args.store.is_dir():
        raise FileNotFoundError(f"there is no feature store {args.store}.")
    return FeatureStore(args.store)


def choose_spec(store: Any, digest: str | None) -> str:
    """The digest that was asked for, or the only one."""
    known = [spec.digest for spec in store.info()]
    if digest is None and len(known) == 1:
        return str(known[0])
    if digest not in known:
        got = "Got none" if digest is None else f"Got {digest}"
        raise ValueError(f"--spec must be one of {', '.join(known) or 'none: the store is empty'}. {got}.")
    return str(digest)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``frofa store export``."""
    kind = parser.add_mutually_exclusive_group(required=True)
    for name in ("parquet", "safetensors", "npy"):
        kind.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"write a .{name} file")
    parser.add_argument("--spec", metavar="DIGEST", help="which features (default: the only ones there are)")
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    import frofa.store

    [(kind, path)] = [(kind, value) for kind in ("parquet", "safetensors", "npy") if (value := getattr(args, kind))]
    check_out(path, f"--{kind}")
    store = open_store(args)
    export: Any = getattr(frofa.store, f"export_{kind}")
    export(store, choose_spec(store, args.spec), path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
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
    import frofa.store
    from frofa.store import FeatureStore

    keys = args.keys.read_text().split() if args.keys else _digests(args.paths)
    import_npy: Any = getattr(frofa.store, "import_npy")  # noqa: B009
    import_npy(FeatureStore(args.store), args.features, keys, json.loads(args.fields.read_text()))
    print(f"{args.store}: {len(keys)} images")
    return 0


def _digests(source: str) -> list[str]:
    from tqdm.auto import tqdm

    from frofa.images import content
    from frofa.inputs import load_images

    return [content(item)[1] for item in tqdm(load_images(source).items, unit="img", desc="read")]
