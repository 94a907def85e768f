"""``frofa store``: look into a feature store, check it and keep it in order."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from frofa.cli.console import emit, say
from frofa.cli.options import EXIT_ERROR, Commands, add_message_options
from frofa.cli.store_files import add_export, add_import, choose_spec, open_store

if TYPE_CHECKING:
    from frofa.store import Damage

EPILOG = "exit codes: 0 fine; 1 damage was found, or failed, with one line on standard error; 2 wrong usage."


def add(commands: Commands) -> None:
    """Add the sub-command with its own sub-commands."""
    parser = commands.add_parser("store", help="look into a feature store, check and repair it", epilog=EPILOG)
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
    add_export(_add(actions, "export", None, "write features to one file"))
    add_import(_add(actions, "import", None, "take features from a .npy file"))


def _add(
    actions: Commands, name: str, run: Callable[[argparse.Namespace], int] | None, text: str
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=EPILOG)
    parser.add_argument(
        "--store", type=Path, default=Path("frofa-store"), help="feature store (default: ./%(default)s)"
    )
    add_message_options(parser)
    parser.set_defaults(run=run)
    return parser


def _info(args: argparse.Namespace) -> int:
    store = open_store(args)
    from frofa.store.ragged import is_pages

    found = store.info()
    for part in found:
        size = f"{part.n_bytes / 1e6:.1f} MB, {_counted(part.n_shards, 'shard')}"
        emit(f"{part.digest}  {part.n_images} {part.unit}, {size}")
        fields = {"spec.json": "damaged"} if part.spec is None else asdict(part.spec)
        for name, value in fields.items():
            emit(f"    {name}: {value}")
    n_features = sum(part.n_images for part in found if not (part.spec and is_pages(part.spec)))
    emit(f"{args.store}: {_counted(len(found), 'spec')}, features of {_counted(n_features, 'image')}")
    return 0


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _verify(args: argparse.Namespace) -> int:
    return _say_damage(open_store(args).verify(progress=True), f"{args.store}: no damage")


def _repair(args: argparse.Namespace) -> int:
    _say_damage(open_store(args).repair(progress=True), f"{args.store}: nothing to repair")
    return 0


def _say_damage(damages: "Sequence[Damage]", none: str) -> int:
    for damage in damages:
        emit(str(damage))
    emit(f"{len(damages)} damaged, {sum(damage.n_lost for damage in damages)} features lost" if damages else none)
    return EXIT_ERROR if damages else 0


def _compact(args: argparse.Namespace) -> int:
    done = open_store(args).compact(progress=True)
    say(
        f"{args.store}: {done.n_before} shards became {done.n_after}, {done.n_duplicates} duplicates "
        f"dropped, {max(0, done.bytes_freed) / 1e6:.1f} MB freed"
    )
    return 0


def _gc(args: argparse.Namespace) -> int:
    store = open_store(args)
    freed = store.gc(args.keep_spec, dry_run=args.dry_run)
    say(f"{args.store}: {freed / 1e6:.1f} MB {'would be freed' if args.dry_run else 'freed'}")
    return 0


def _explain(args: argparse.Namespace) -> int:
    store = open_store(args)
    emit(str(store.explain(args.image, choose_spec(store, args.spec))))
    return 0
