"""``frofa convert``: a checkpoint of another format as a folder for ``local-dir:``."""

import argparse
from pathlib import Path

from frofa.cli.console import say
from frofa.cli.options import Commands, add_message_options, check_in


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "convert",
        help="turn a Hugging Face folder or a big_vision file into a folder that timm loads",
        description="Write the vision tower of a Hugging Face folder (SigLIP, SigLIP 2, PaliGemma) or of a big_vision "
        ".npz file to OUT, as config.json and model.safetensors. The model local-dir:OUT has the same features.",
    )
    parser.add_argument("source", metavar="SOURCE", help="hf-dir:FOLDER or FILE.npz")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to create")
    parser.add_argument("--architecture", metavar="TIMM_NAME", help="of an .npz file: vit_base_patch16_siglip_224, ...")
    parser.add_argument(
        "--gelu",
        default="tanh",
        choices=["tanh", "exact"],
        help="of an .npz file's tower: the tanh form is what JAX trained it with (default: %(default)s)",
    )
    add_message_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    _check_source(args.source)
    from frofa.backbones.checkpoints.convert import convert

    tower = convert(args.source, args.out, architecture=args.architecture, gelu=args.gelu)
    sizes = ", ".join(f"{name}={value}" for name, value in tower.model_args.items())
    say(f"{args.out}: {tower.architecture} ({sizes}); the model is called local-dir:{args.out}")
    return 0


def _check_source(source: str) -> None:
    """Refuse a folder or file that is not there; what is in it is seen later."""
    if source.endswith(".npz"):
        check_in(Path(source).expanduser())
    folder = Path(source.removeprefix("hf-dir:")).expanduser()
    if source.startswith("hf-dir:") and not folder.is_dir():
        check_in(folder / "config.json")
