"""Checks of a backbone's weights."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from frofa.backbones.checkpoints.names import timm_name
from frofa.doctor.finding import Outcome, failed, note, ok, skipped
from frofa.doctor.subject import Subject

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def check_digest(subject: Subject) -> Outcome:
    """Name the weights: their digest, architecture and number."""
    backbone = subject.backbone
    n = sum(parameter.numel() for parameter in backbone.module.parameters())
    kind = "" if backbone.sparsity is None else f", sparsity {backbone.sparsity}"
    return ok(f"{backbone.weights_digest} ({type(backbone.module).__name__}, {n / 1e6:.1f} M parameters{kind})")


def check_eval_mode(subject: Subject) -> Outcome:
    """No part of the model is in train mode or has gradients."""
    parts = [name or "the model" for name, part in subject.backbone.module.named_modules() if part.training]
    if parts:
        return failed(f"in train mode: {shortened(parts)}; call eval()")
    learning = [name for name, parameter in subject.backbone.module.named_parameters() if parameter.requires_grad]
    if learning:
        return note(f"eval mode, but these parameters record gradients: {shortened(learning)}")
    return ok("all parts are in eval mode, without gradients")


def check_finite(subject: Subject) -> Outcome:
    """No parameter or buffer is NaN or infinite."""
    state = subject.backbone.module.state_dict()
    wrong = [name for name, tensor in state.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if wrong:
        return failed(f"NaN or infinite values in {shortened(wrong)}")
    return ok(f"all of {len(state)} tensors")


def check_constant(subject: Subject) -> Outcome:
    """No matrix of a layer is constant, as zeros are that nothing was loaded into."""
    module = subject.backbone.module
    classifier = str(getattr(module, "pretrained_cfg", {}).get("classifier", "head"))
    # The classifier, which features do not pass, may be zeros; a single weight is always constant.
    constant = [
        name
        for name, part in module.named_modules()
        if isinstance(part, MATRICES) and name != classifier and part.weight.numel() > 1
        if float(part.weight.detach().max()) == float(part.weight.detach().min())
    ]
    if constant:
        return failed(f"constant weights, as if nothing was loaded: {shortened(constant)}")
    return ok("no layer has constant weights")


def check_loaded(subject: Subject) -> Outcome:
    """Norms are not as before training: where only some of them are, a checkpoint was loaded in part."""
    # Fresh matrices are random numbers like any others; norms begin as ones and zeros, by which they are known.
    fresh = {name: _is_fresh(part) for name, part in subject.backbone.module.named_modules() if _is_affine(part)}
    names = [name for name, is_fresh in fresh.items() if is_fresh]
    if not fresh:
        return skipped("the model has no normalisation layers, by which fresh weights are known")
    if len(names) == len(fresh):
        return note(f"all {len(fresh)} normalisation layers are as before training: random weights?")
    if names:
        return failed(
            f"loaded in part: {len(names)} of {len(fresh)} normalisation layers are as before training: "
            f"{shortened(names)}"
        )
    return ok(f"none of {len(fresh)} normalisation layers is as before training")


def check_file(subject: Subject) -> Outcome:
    """The model holds what the checkpoint's file holds."""
    folder = model_folder(subject.backbone.name)
    path = None if folder is None else folder / "model.safetensors"
    if path is None or not path.is_file():
        return skipped("only a folder's model.safetensors is compared")
    # Names of the file and of the model differ where timm renames while it loads: compare those that both have.
    state = {name: tensor.cpu() for name, tensor in subject.backbone.module.state_dict().items()}
    names, changed = _compare(path, state, pruned=subject.backbone.sparsity is not None)
    common, missing, unknown = names & state.keys(), state.keys() - names, names - state.keys()
    if changed:
        return failed(f"differ from {path.name}: {shortened(changed)}")
    if missing and not unknown:
        return failed(f"{path.name} lacks {shortened(sorted(missing))}")
    if missing:
        return note(f"{len(common)} of {len(state)} tensors are as in {path.name}; the others have other names there")
    return ok(f"all of {len(state)} tensors are as in {path.name}")


def model_folder(model: str) -> Path | None:
    """The folder of an embedded or ``local-dir:`` model; None for others."""
    name = timm_name(model) if isinstance(model, str) else ""
    return Path(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else None


def _compare(path: Path, state: dict[str, Tensor], *, pruned: bool) -> tuple[set[str], list[str]]:
    """The names of the file's tensors, and of those that the model holds with other values."""
    from safetensors import safe_open

    changed = []
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        for name in sorted(names & state.keys()):
            expected, found = file.get_tensor(name).to(state[name].dtype), state[name]
            if expected.shape != found.shape:  # position embeddings at another image size
                continue
            # Of pruned weights, zeros are meant; all others are as in the file.
            same = torch.where(found == 0, 0, expected) if pruned else expected
            if not torch.equal(same.nan_to_num(), found.nan_to_num()):
                changed.append(name)
    return names, changed


def _is_affine(part: nn.Module) -> bool:
    is_norm = isinstance(part, NORMS) or type(part).__name__.startswith("RmsNorm")
    return is_norm and getattr(part, "weight", None) is not None


def _is_fresh(part: nn.Module) -> bool:
    # Norms start at weight 1, bias 0, and running mean 0: training moves all of them.
    weight, bias, mean = (getattr(part, name, None) for name in ("weight", "bias", "running_mean"))
    zeros = all(tensor is None or not bool(tensor.any()) for tensor in (bias, mean))
    return zeros and isinstance(weight, Tensor) and bool((weight == 1).all())


def shortened(names: Sequence[str]) -> str:
    """The first three names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
