"""``frofa models``: which backbones there are."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from frofa.cli._options import Commands

if TYPE_CHECKING:
    from frofa._embedded import EmbeddedModel


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "models",
        help="list the backbones that work offline, and how to name others",
        description="List the embedded backbones and how others are named; with a name, print its model card.",
    )
    parser.add_argument("name", nargs="?", help="an embedded backbone, or an encoder of another package")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from frofa._embedded import embedded_models
    from frofa._hub import cached_models
    from frofa._registered import naming_fault, origin, registered

    models = embedded_models()
    if args.name:
        return _show(args.name, models)
    print("Embedded, offline:")
    for model in models:
        print(f"  {model.name}\n      {model.summary}")
    points = registered()
    if points:
        print("\nEncoders of other packages:")
    for point in points:
        fault = naming_fault(point)
        print(f"  {point.name}\n      {origin(point)}" + (f": not to be used, {fault}" if fault else ""))
    cached = cached_models()
    if cached:
        print("\nIn the cache of the Hugging Face hub, offline:")
    for name in cached:
        print(f"  {name.removeprefix('timm/') if name.startswith('timm/') else f'hf-hub:{name}'}")
    print("\nOthers:")
    print("  local-dir:PATH          a folder with config.json and model.safetensors (timm.models.save_for_hf)")
    print("  hf-dir:PATH             a Hugging Face folder of SigLIP, SigLIP 2 or PaliGemma (its vision tower)")
    print("  hf-hub:OWNER/NAME       from the Hugging Face hub, or its cache on this machine")
    print("  a timm name             such as vit_base_patch16_siglip_224.webli; timm.list_models(pretrained=True)")
    return 0


def _show(name: str, models: Sequence["EmbeddedModel"]) -> int:
    """Print the card of an embedded model, or what another package registers."""
    for model in models:
        if model.name == name:
            print(model.card)
            return 0
    from frofa._registered import registered_encoder

    encoder = registered_encoder(name)
    if encoder is None:
        raise ValueError(f"no embedded model is called {name!r}. There is: {', '.join(m.name for m in models)}.")
    from frofa.encoders import canonical

    print(f"{encoder!r}\nspec: {canonical(encoder.spec, name)}")
    return 0
