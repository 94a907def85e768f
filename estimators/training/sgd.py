"""One step of SGD with momentum for many heads, in place."""

import math

import torch
from torch import Tensor

from frofa.augmentations.ops.dispatch import fusible
from frofa.estimators.training.gradient import Factors, Gradient
from frofa.estimators.training.parameters import Heads, Params
from frofa.estimators.training.schedule import Rule

FUSED_BATCH = 256
"""Samples of a batch up to which a kernel's gradient is formed where it is used: with more, Gram matrices cost more."""


def factor_dtype(values: Tensor, n_batch: int) -> torch.dtype | None:
    """The dtype of the factors that gradients of kernels are better left as, or None.

    Only where PyTorch's setting of products in float32 (`torch.set_float32_matmul_precision`) permits bfloat16: with
    TensorFloat-32 it is no faster.
    """
    permitted = torch.get_float32_matmul_precision() == "medium"
    return torch.bfloat16 if fusible(values) and permitted and n_batch <= FUSED_BATCH else None


@torch.no_grad()
def update(values: Heads, velocity: Heads, gradient: Gradient, rule: Rule) -> None:
    """Update the parameters of heads and their velocity; clipping is before weight decay, which is of kernels only.

    What the gradient has as factors is taken first: they may be views of other parameters.
    """
    clipped = bool(rule.clip_norm.isfinite().any()) if values.flat.device.type == "cpu" else True
    norms = gradient.norms() if clipped else torch.zeros_like(rule.lr)
    rules = {True: rule, False: rule._replace(weight_decay=torch.zeros_like(rule.weight_decay))}
    for factors in gradient.factors:
        _from_factors(factors, values.params, velocity.params, norms, rule)
    for part, decays in gradient.written():
        tensors = values.flat[:, part], velocity.flat[:, part], gradient.flat[:, part]
        if fusible(values.flat):
            _on_gpu(*tensors, norms, rules[decays])
        elif values.flat.device.type == "cpu":
            _on_cpu(*tensors, norms, rules[decays])
        else:
            plain_update(*tensors, norms, rules[decays])


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
    from frofa.estimators.training.sgd_triton import fused_sgd  # loads Triton

    fused_sgd(
        values,
        velocity,
        gradient,
        scale=clip_scale(norms, rule.clip_norm),
        decay=rule.weight_decay,
        rate=rule.lr,
        momentum=rule.momentum,
    )


def _from_factors(factors: Factors, values: Params, velocity: Params, norms: Tensor, rule: Rule) -> None:
    from frofa.estimators.training.sgd_triton import fused_product_sgd  # loads Triton

    fused_product_sgd(
        factors.view(values[factors.name]),
        factors.view(velocity[factors.name]),
        factors.upstream,
        factors.inputs,
        scale=clip_scale(norms, rule.clip_norm),
        decay=rule.weight_decay,
        rate=rule.lr,
        momentum=rule.momentum,
    )
