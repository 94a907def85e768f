"""Run by test_kernels.py with TRITON_INTERPRET=1: the GPU kernels on the CPU, against plain PyTorch; prints JSON."""

import contextlib
import json
import math
from typing import Any

import torch
from torch import Generator

from frofa import augmentations as A
from frofa.augmentations import TokenBatch
from frofa.augmentations.ops import triton as _triton
from frofa.augmentations.ops.mapping import feature_range
from frofa.augmentations.ops.pointwise import masked_mean, pointwise
from frofa.augmentations.ops.resample import Taps, expand_taps, resample, sum_taps
from frofa.augmentations.ops.triton_choice import fused_choice
from frofa.augmentations.sharpness import _smoothing_taps
from frofa.estimators.training.schedule import Rule
from frofa.estimators.training.sgd import plain_update
from frofa.estimators.training.sgd_triton import fused_product_sgd, fused_sgd

setattr(torch.cuda, "device_of", contextlib.nullcontext)  # noqa: B010 (which has no such type)
generator = Generator().manual_seed(0)
errors: dict[str, float] = {}


def compare(name: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    errors[name] = float((found.double() - expected.double()).abs().max() / expected.double().abs().max())


def pointwise_cases() -> None:
    kinds: tuple[Any, ...] = (A.Brightness, A.Contrast, A.Posterize, A.Solarize, A.Invert, A.GaussianNoise)
    for shape in ((2, 49, 40), (1, 300, 33)):  # in one tile, and in two
        x = torch.randn(shape, generator=generator)
        some = torch.rand(shape[:2], generator=generator) < 0.7
        for mask in (None, some):
            batch = TokenBatch.from_tokens(x, mask=mask)
            for kind in kinds:
                for variant in ("default", "c2") if kind is A.GaussianNoise else ("default", "c", "c2"):
                    augment = kind(variant=variant)
                    value = augment.make_params(batch, generator)[augment.drawn]
                    options: Any = {"clip": augment.clip, "mask": mask}
                    found = _triton.fused_pointwise(x, augment.operation, value, variant, **options)
                    expected = pointwise(x, augment.operation, value, variant, **options)
                    compare(f"{augment!r} {variant} {shape} {'masked' if mask is not None else ''}", found, expected)
            scale = torch.rand((shape[0], 1, shape[2]), generator=generator)
            compare(f"scale {shape}", _triton.fused_pointwise(x, "scale", scale, "c", clip=False, mask=None), x * scale)


def resample_cases() -> None:
    x = torch.randn(2, 49, 150, generator=generator)
    for filled in (False, True):
        index = torch.randint(49, (2, 49, 4), generator=generator)
        taps = Taps(index, torch.rand((2, 49, 4), generator=generator) / 4)
        filler = masked_mean(x, None) if filled else None
        found = _triton.fused_resample(x, *expand_taps(taps, 2), filler=filler)
        compare(f"resample {filled}", found, resample(TokenBatch(x), taps, "mean" if filled else "edge"))
    for variant in ("default", "c", "c2"):
        augment, batch = A.Sharpness(variant=variant), TokenBatch.from_tokens(x)
        params, taps = augment.make_params(batch, generator), _smoothing_taps(batch, augment)
        bounds = feature_range(x, augment.variant)
        found = _triton.fused_resample(x, *expand_taps(taps, 2), factor=params["factor"], bounds=bounds)
        compare(f"sharpness {variant}", found, augment.transform(batch, params).patches)
        assert not torch.equal(found, sum_taps(x, taps))


def choice_cases() -> None:
    """Also with more images than tiles of positions hold, fewer than options, and values that are all the same."""
    moves: tuple[Any, ...] = (A.Rotate, A.ShearX, A.ShearY, A.TranslateX, A.TranslateY)
    stylistic: tuple[Any, ...] = (A.Brightness, A.Contrast, A.Sharpness, A.Posterize, A.Solarize, A.Invert)
    every = [kind(variant=variant) for kind in stylistic for variant in ("default", "c", "c2")]
    every += [kind(clip=False) for kind in stylistic[:3]] + [A.Sequential([])]
    every += [A.Equalize(0.7, variant) for variant in ("default", "c")]
    choices = {
        "random": (A.RandomChoice(every), (30, (4, 5), 40)),
        "moved": (A.RandomChoice([kind(fill=f) for kind in moves for f in ("mean", "edge", "zero")]), (20, (3, 7), 33)),
        "large": (A.RandAugment(1, 1.0), (3, (17, 18), 20)),
        "trivial": (A.TrivialAugment(), (7, (7, 7), 35)),
        "view": (A.RandomChoice([A.Sharpness()]), (3, (5, 5), 8)),
    }
    for name, (augment, (n, grid, channels)) in choices.items():
        x = torch.randn((n, grid[0] * grid[1], channels), generator=generator)
        x[-1, :, ::2] = 3
        batch = TokenBatch.from_tokens(x, grid=grid)
        params = (augment.make_view if name == "view" else augment.make_params)(batch, generator)
        params = params["0"] if name == "large" else params
        found = fused_choice(batch, params)
        assert found is not None
        compare(f"choice {name}", found, A.RandomChoice(()).transform(batch, params).patches)
    hidden = torch.rand(x.shape[:2], generator=generator) < 0.5
    assert fused_choice(TokenBatch.from_tokens(x, grid=grid, mask=hidden), params) is None
    for other in (A.Equalize(0.5, "c2"), A.JPEG(), A.Sequential([A.Brightness()]), A.MixUp()):
        assert other.fused_step() is None


def sgd_case() -> None:
    value, velocity, gradient = (torch.randn(3, 2400, generator=generator) for _ in range(3))
    rule = Rule(*torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.1, 0.2], [0.9, 0.5, 0.0], [torch.inf] * 3]))
    expected = value.clone(), velocity.clone()
    part = slice(100, 2310)  # of longer rows, as kernels and the rest of a head are
    plain_update(expected[0][:, part], expected[1][:, part], gradient[:, part], torch.ones(3), rule)
    factors = {"scale": torch.ones(3), "decay": rule.weight_decay, "rate": rule.lr, "momentum": rule.momentum}
    fused_sgd(value[:, part], velocity[:, part], gradient[:, part], **factors)
    compare("sgd", value, expected[0])
    compare("sgd velocity", velocity, expected[1])


def product_sgd_cases() -> None:
    """Kernels of ragged sizes, side by side in longer rows, some in several parts."""
    for n, outputs, inputs, parts in ((5, 70, 130, 0), (1, 64, 128, 3), (70, 24, 24, 2), (130, 10, 200, 0)):
        inner = (parts,) if parts else ()
        size = math.prod(inner) * outputs * inputs
        flat = torch.randn(2, 3, size + 50, generator=generator)
        expected = flat.clone()
        # Of float32, since the interpreter cannot multiply in bfloat16; test_gpu.py does.
        upstream = torch.randn(3, *inner, n, outputs, generator=generator)
        features = torch.randn(3, *inner, n, inputs, generator=generator)
        factors = torch.rand(4, 3, generator=generator)
        scale, decay, rate, momentum = (x.view(3, *(1 for _ in inner), 1, 1) for x in factors)
        value, velocity = (x[:, 20 : 20 + size].unflatten(1, (*inner, outputs, inputs)) for x in expected)
        velocity.mul_(momentum).add_(scale * (upstream.mT @ features)).add_(decay * value)
        value.sub_(rate * velocity)
        named = dict(zip(("scale", "decay", "rate", "momentum"), factors, strict=True))
        found = [x[:, 20 : 20 + size].unflatten(1, (*inner, outputs, inputs)) for x in flat]
        fused_product_sgd(found[0], found[1], upstream, features, **named)
        compare(f"product sgd {n} {outputs} {inputs} {parts}", flat, expected)


if __name__ == "__main__":
    pointwise_cases()
    resample_cases()
    choice_cases()
    sgd_case()
    product_sgd_cases()
    print(json.dumps(errors))
