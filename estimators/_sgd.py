"""One step of SGD with momentum for many heads, in place."""

import math

import torch
from torch import Tensor

from frofa.augmentations._pointwise import fusible
from frofa.estimators._schedule import Rule


@torch.no_grad()
def update(values: Tensor, velocity: Tensor, gradient: Tensor, n_decayed: int, rule: Rule) -> None:
    """Update the parameters of heads; clipping is before weight decay, which is of kernels only.

    Parameters
    ----------
    values, velocity, gradient : Tensor of shape (n_heads, size)
        The first two are updated, the third may be overwritten.
    n_decayed : int
        Weight decay is of the first so many elements.
    rule : Rule
    """
    clipped = bool(rule.clip_norm.isfinite().any()) if values.device.type == "cpu" else True
    norms = torch.linalg.vector_norm(gradient, dim=1) if clipped else torch.zeros_like(rule.lr)
    for part in (slice(0, n_decayed), slice(n_decayed, None)):
        tensors = values[:, part], velocity[:, part], gradient[:, part]
        decay = rule.weight_decay if part.start == 0 else torch.zeros_like(rule.weight_decay)
        here = rule._replace(weight_decay=decay)
        if fusible(values):
            _on_gpu(*tensors, norms, here)
        elif values.device.type == "cpu":
            _on_cpu(*tensors, norms, here)
        else:
            plain_update(*tensors, norms, here)


def clip_scale(norms: Tensor, clip_norm: Tensor) -> Tensor:
    """What each gradient is multiplied with."""
    scale = (clip_norm / (norms + 1e-6)).clamp(max=1)
    return torch.where(clip_norm.isinf(), torch.ones_like(scale), scale)


def plain_update(values: Tensor, velocity: Tensor, gradient: Tensor, norms: Tensor, rule: Rule) -> None:
    """The update in ordinary operations: what the others are to be equal to."""

    def per_head(numbers: Tensor) -> Tensor:
        return numbers.unsqueeze(1).to(values.dtype)

    velocity.mul_(per_head(rule.momentum))
    velocity.addcmul_(gradient, per_head(clip_scale(norms, rule.clip_norm)))
    velocity.addcmul_(values, per_head(rule.weight_decay))
    values.addcmul_(velocity, per_head(-rule.lr))


def _on_cpu(values: Tensor, velocity: Tensor, gradient: Tensor, norms: Tensor, rule: Rule) -> None:
    """Head by head, each element read and written once, by the kernel of `torch.optim.SGD`."""
    scales = norms if not norms.any() else (norms + 1e-6) / rule.clip_norm
    settings = zip(*(numbers.tolist() for numbers in rule), strict=True)
    for head, (lr, decay, momentum, clip_norm) in enumerate(settings):
        divisor = None if math.isinf(clip_norm) or scales[head] <= 1 else scales[head].to(values.dtype)
        torch._fused_sgd_(
            [values[head]],
            [gradient[head]],
            [velocity[head]] if momentum else [],
            weight_decay=decay,
            momentum=momentum,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            grad_scale=divisor,
        )


def _on_gpu(values: Tensor, velocity: Tensor, gradient: Tensor, norms: Tensor, rule: Rule) -> None:
    from frofa.estimators._triton_sgd import fused_sgd  # loads Triton

    fused_sgd(
        values,
        velocity,
        gradient,
        scale=clip_scale(norms, rule.clip_norm),
        decay=rule.weight_decay,
        rate=rule.lr,
        momentum=rule.momentum,
    )
