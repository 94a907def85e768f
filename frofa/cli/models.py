"""``frofa models``: which backbones there are."""

import argparse

from frofa.cli.console import emit
from frofa.cli.options import Commands, add_message_options

OTHERS = (
    "\nOthers:",
    "  local-dir:PATH          a folder with config.json and model.safetensors (timm.models.save_for_hf)",
    "  hf-dir:PATH             a Hugging Face folder of SigLIP, SigLIP 2 or PaliGemma (its vision tower)",
    "  hf-hub:OWNER/NAME       from the Hugging Face hub, or its cache on this machine",
    "  a timm name             such as vit_base_patch16_siglip_224.webli; timm.list_models(pretrained=True)",
)


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "models",
        help="list the backbones that work offline, and how to name others",
        description="List the embedded backbones and how others are named; with a name, print its model card.",
    )
    parser.add_argument("name", nargs="?", help="an embedded backbone, or an encoder of another package")
    add_message_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
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

    names = [name.removeprefix("timm/") if name.startswith("timm/") else f"hf-hub:{name}" for name in cached_models()]
    return ["\nIn the cache of the Hugging Face hub, offline:", *(f"  {name}" for name in names)] if names else []
