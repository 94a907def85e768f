"""``frofa models``: which backbones there are."""

import argparse

from frofa.cli._options import Commands


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
    from frofa._registered import naming_fault, origin, registered, registered_encoder
    from frofa.encoders import canonical

    models = embedded_models()
    if args.name:
        for model in models:
            if model.name == args.name:
                print(model.card)
                return 0
        encoder = registered_encoder(args.name)
        if encoder is not None:
            print(f"{encoder!r}\nspec: {canonical(encoder.spec, args.name)}")
            return 0
        raise ValueError(f"no embedded model is called {args.name!r}. There is: {', '.join(m.name for m in models)}.")
    print("Embedded, offline:")
    for model in models:
        print(f"  {model.name}\n      {model.summary}")
    points = registered()
    if points:
        print("\nEncoders of other packages:")
    for point in points:
        fault = naming_fault(point)
        print(f"  {point.name}\n      {origin(point)}" + (f": not to be used, {fault}" if fault else ""))
    print("\nOthers:")
    print("  local-dir:PATH          a folder with config.json and model.safetensors (timm.models.save_for_hf)")
    print("  hf-dir:PATH             a Hugging Face folder of SigLIP, SigLIP 2 or PaliGemma (its vision tower)")
    print("  hf-hub:OWNER/NAME       from the Hugging Face hub, or its cache on this machine")
    print("  a timm name             such as vit_base_patch16_siglip_224.webli; timm.list_models(pretrained=True)")
    return 0
