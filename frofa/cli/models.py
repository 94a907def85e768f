"""``frofa models``, which lists backbones, and ``frofa convert``, which makes one of a checkpoint in another format."""

import argparse
from pathlib import Path

from frofa.cli.console import emit, say
from frofa.cli.options import Commands, check_in, finish

OTHERS = (
    "\nOthers:",
    "  local-dir:PATH          a folder of timm (timm.models.save_for_hf) or open_clip (open_clip_config.json)",
    "  hf-dir:PATH             a Hugging Face folder of SigLIP, SigLIP 2, CLIP or PaliGemma (its vision tower)",
    "  hf-hub:OWNER/NAME       from the Hugging Face hub, or its cache on this machine",
    "  a timm name             such as vit_base_patch16_siglip_224.webli; timm.list_models(pretrained=True)",
    "\nText towers come with SigLIP, SigLIP 2 and CLIP, under the same names; 'frofa doctor MODEL' describes one.",
)


def add(commands: Commands) -> None:
    """Add both sub-commands."""
    parser = commands.add_parser(
        "models",
        help="list the backbones that work offline, and how to name others",
        description="List the embedded backbones and how others are named; with a name, print its model card.",
    )
    parser.add_argument("name", nargs="?", help="an embedded backbone, or an encoder of another package")
    finish(parser, _list)
    _add_convert(commands)


def _list(args: argparse.Namespace) -> int:
    if args.name:
        emit(_card(args.name))
        return 0
    emit("\n".join([*_embedded(), *_of_other_packages(), *_cached(), *OTHERS]))
    return 0


def _card(name: str) -> str:
    from frofa.backbones.checkpoints.embedded import embedded_models

    models = {model.name: model for model in embedded_models()}
    if name in models:
        return models[name].card
    from frofa.encoders.registered import registered_encoder

    encoder = registered_encoder(name)
    if encoder is None:
        raise ValueError(f"no embedded model is called {name!r}. There is: {', '.join(models)}.")
    from frofa.encoders.protocol import canonical

    return f"{encoder!r}\nspec: {canonical(encoder.spec, name)}"


def _embedded() -> list[str]:
    from frofa.backbones.checkpoints.embedded import embedded_models

    return ["Embedded, offline:", *(f"  {model.name}\n      {model.summary}" for model in embedded_models())]


def _of_other_packages() -> list[str]:
    from frofa.encoders.registered import naming_fault, origin, registered

    lines = []
    for point in registered():
        fault = naming_fault(point)
        lines.append(f"  {point.name}\n      {origin(point)}" + (f": not to be used, {fault}" if fault else ""))
    return ["\nEncoders of other packages:", *lines] if lines else []


def _cached() -> list[str]:
    from frofa.backbones.checkpoints.hub import cached_models
    from frofa.backbones.text.hub import cached_towers

    with_texts = cached_towers()
    lines = []
    for name in cached_models():
        called = name.removeprefix("timm/") if name.startswith("timm/") and "." in name else f"hf-hub:{name}"
        lines.append(f"  {called}" + " (with a text tower)" * (name in with_texts))
    return ["\nIn the cache of the Hugging Face hub, offline:", *lines] if lines else []


def _add_convert(commands: Commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="turn a Hugging Face folder or a big_vision file into a folder that timm loads",
        description="Write the vision tower of a Hugging Face folder (SigLIP, SigLIP 2, CLIP, PaliGemma) or of a "
        "big_vision .npz file to OUT, as config.json and model.safetensors. The model local-dir:OUT has the same "
        "features.",
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
    finish(parser, _convert)


def _convert(args: argparse.Namespace) -> int:
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
