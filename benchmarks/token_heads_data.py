"""Features, support samples and the linear probe of `token_heads.py`."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from sklearn.model_selection import train_test_split
from torch import Tensor

from frofa import FrozenFeatureExtractor, extract_many, load_image_folder
from frofa.backbones.loading import load_backbone
from frofa.evaluation import disjoint_shots, sample_shots
from frofa.study.data import VALIDATION

Array = npt.NDArray[Any]
AREA, ASPECT = (0.5, 1.0), (3 / 4, 4 / 3)
"""Share of the area and aspect ratios of random crops."""
BETAS = np.geomspace(0.5, 2e4, 72)
"""Inverse temperatures to choose from."""


def views(path: str, size: int, n_views: int) -> Array:
    """Views (n_views, size, size, 3) of an image: as it is, its mirror image, and random resized crops."""
    content = Path(path).read_bytes()
    generator = np.random.default_rng(int.from_bytes(sha256(content).digest()[:8], "little"))
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        image = (
            Image.alpha_composite(Image.new("RGBA", image.size, "silver"), image.convert("RGBA")).convert("RGB")
            if "A" in image.getbands() or "transparency" in image.info
            else image.convert("RGB")
        )
    plain = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    found = [plain, ImageOps.mirror(plain)]
    while len(found) < n_views:
        crop = image.resize((size, size), Image.Resampling.BICUBIC, box=_box(image.size, generator))
        found.append(ImageOps.mirror(crop) if generator.random() < 0.5 else crop)
    return np.stack([np.asarray(view) for view in found[:n_views]])


def _box(size: tuple[int, int], generator: np.random.Generator) -> tuple[float, float, float, float]:
    """The box of a random resized crop (torchvision's rule): area and aspect ratio are drawn until it fits."""
    width, height = size
    for _ in range(10):
        area = width * height * generator.uniform(*AREA)
        aspect = np.exp(generator.uniform(*np.log(ASPECT)))
        w, h = float(np.sqrt(area * aspect)), float(np.sqrt(area / aspect))
        if w <= width and h <= height:
            break
    else:
        w = h = min(width, height)
    left, top = generator.uniform(0, width - w), generator.uniform(0, height - h)
    return left, top, left + w, top + h


@dataclass(frozen=True)
class ImageSet:
    """Training images of a set: features by name, all with views, (n, V, ...); class numbers (n,); support pool."""

    name: str
    features: dict[str, Tensor]
    y: Array
    pool: Array

    def support(self, shots: int, n_seeds: int) -> Array:
        """Rows (n_seeds, n) of the support samples of the study; disjoint if there are enough images."""
        labels = self.y[self.pool]
        if np.bincount(labels).min() >= shots * n_seeds:
            return np.stack([self.pool[rows] for rows in disjoint_shots(labels, shots, n_seeds, random_state=0)])
        return np.stack([self.pool[sample_shots(labels, shots, seed)] for seed in range(n_seeds)])


def render(
    directories: Sequence[Path], side: int, n_views: int, n_images: int | None
) -> dict[Path, tuple[Array, Array]]:
    """Views (n, n_views, side, side, 3) of each DIRECTORY/train, and class numbers (n,)."""
    found = {}
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        for directory in directories:
            paths, labels = load_image_folder(directory / "train")
            if n_images is not None:
                chosen = np.random.default_rng(0).permutation(len(paths))[:n_images]
                paths, labels = [paths[i] for i in chosen], labels[chosen]
            made = workers.map(views, paths, repeat(side), repeat(n_views), chunksize=16)
            images = np.stack(list(made))
            found[directory] = images, np.unique(labels, return_inverse=True)[1]
    return found


def load(name: str, rendered: tuple[Array, Array], backbone: str, device: str) -> ImageSet:
    """Extract what heads and probes see of images (n, V, side, side, 3), which come with class numbers (n,)."""
    images, y = rendered
    pool, _ = train_test_split(np.arange(len(y)), test_size=VALIDATION, stratify=y, random_state=0)
    settings: dict[str, Any] = {"model": backbone, "device": device, "precision": "float32", "n_jobs": 1}
    outputs = {name: FrozenFeatureExtractor(output=name, **settings) for name in ("tokens", "pooled", "mean")}
    has_cls_token = load_backbone(backbone, None, device).has_cls_token
    if has_cls_token:
        # The tokens that go into the last block, as they are: class token and patches.
        for output in ("cls", "tokens"):
            outputs[f"block {output}"] = FrozenFeatureExtractor(output=output, layer=-2, norm=False, **settings)
    features = {
        output: torch.as_tensor(np.array(one.features), device=device).unflatten(0, images.shape[:2])
        for output, one in extract_many(outputs, images.reshape(-1, *images.shape[2:])).items()
    }
    if has_cls_token:
        block = [features.pop("block cls").unsqueeze(2), features.pop("block tokens")]
        features["block"] = torch.cat(block, 2)
    return ImageSet(name, features, y, pool)


def side_of(backbone: str) -> int:
    """Side of the backbone's images in pixels."""
    model: Any = load_backbone(backbone, None, "cpu")
    return int(model.module.pretrained_cfg["input_size"][-1])


def own_weights(backbone: str, device: str) -> dict[str, dict[str, Tensor]]:
    """The backbone's own weights to start from: "pool", "block" and "query", as far as it has them."""
    module: Any = load_backbone(backbone, None, device).module
    found: dict[str, dict[str, Tensor]] = {}
    if getattr(module, "attn_pool", None) is not None:
        found["pool"] = {name: value.detach().clone() for name, value in module.attn_pool.state_dict().items()}
    block: Any = module.blocks[-1] if hasattr(module, "blocks") else None
    if getattr(getattr(block, "attn", None), "qkv", None) is None:
        return found
    parts = {"norm1": block.norm1, "qkv": block.attn.qkv, "proj": block.attn.proj, "norm2": block.norm2}
    parts |= {"fc1": block.mlp.fc1, "fc2": block.mlp.fc2, "norm": module.norm}
    weights = {f"{name}.{key}": v.detach() for name, part in parts.items() for key, v in part.state_dict().items()}
    found["block"] = weights | {"ls1": block.ls1.gamma.detach(), "ls2": block.ls2.gamma.detach()}
    return found


def query_weights(own: Mapping[str, Tensor], cls: Tensor) -> dict[str, Tensor]:
    """A MAP head with the weights of the last block, on final tokens; its latent is a mean token (C,)."""
    query, key_value = own["qkv.weight"][: len(cls)], own["qkv.weight"][len(cls) :]
    gain, shift = own["ls1"], own["ls2"]
    return {
        "latent": cls.view(1, 1, -1),
        "q.weight": query,
        "q.bias": own["qkv.bias"][: len(cls)],
        "kv.weight": key_value,
        "kv.bias": own["qkv.bias"][len(cls) :],
        "proj.weight": gain.unsqueeze(1) * own["proj.weight"],
        "proj.bias": gain * own["proj.bias"],
        "mlp.fc1.weight": own["fc1.weight"],
        "mlp.fc1.bias": own["fc1.bias"],
        "mlp.fc2.weight": shift.unsqueeze(1) * own["fc2.weight"],
        "mlp.fc2.bias": shift * own["fc2.bias"],
    }


@dataclass(frozen=True)
class Probe:
    """What the averaged shrinkage probe says, as logits: of all images, of its own, and of these left out in turn."""

    everything: Tensor
    fitted: Tensor
    left_out: Tensor


def shrinkage_probe(blocks: Sequence[Tensor], support: Tensor, y: Tensor, n_classes: int) -> Probe:
    """Fit the averaged shrinkage path for each support sample; all tensors of one set.

    Blocks are (n, C) each, support (H, m) rows, y (n,). Logits are (H, n, n_classes) and (H, m, n_classes).
    """
    unit = torch.cat([block.double() / block.double().norm(dim=1, keepdim=True) for block in blocks], 1)
    unit = unit / len(blocks) ** 0.5
    labels = y[support]
    one_hot = torch.eye(n_classes, dtype=torch.float64, device=y.device)[labels]
    share = one_hot / one_hot.sum(1, keepdim=True)
    centre = (share.mT @ unit[support]).mean(1, keepdim=True)
    # All images, centred and normalised for each sample: (H, n, D).
    x = unit - centre
    x = x / x.norm(dim=2, keepdim=True)
    own = torch.gather(x, 1, support.unsqueeze(2).expand(-1, -1, x.shape[2]))
    means = share.mT @ own
    return _averaged(x, own, means, one_hot)


def _averaged(x: Tensor, own: Tensor, means: Tensor, one_hot: Tensor) -> Probe:
    """Scores along the path, calibrated and averaged by their leave-one-out likelihood."""
    n_heads, n, width = own.shape
    shots = one_hot.sum(1)
    centred = own - one_hot @ means
    if bool((shots <= 1).any()):
        # One shot: the nearest class mean alone, which has nothing to be left out of.
        scores = 10 * (x @ means.mT - means.square().sum(2).unsqueeze(1) / 2)
        fitted = 10 * (own @ means.mT - means.square().sum(2).unsqueeze(1) / 2)
        return Probe(scores, fitted, fitted)
    scatter = centred.mT @ centred
    average = scatter.diagonal(dim1=1, dim2=2).sum(1) / width
    eye = torch.eye(width, dtype=x.dtype, device=x.device)
    # Logits by penalty: of all images, of the sample's own, and of these left out.
    logits: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    losses = []
    labels = one_hot.argmax(2)
    for ratio in [*np.logspace(-2, 4, 25), np.inf]:
        if np.isinf(ratio):
            p = eye.expand(n_heads, -1, -1)
        else:
            penalty = (average * ratio).view(-1, 1, 1)
            p = penalty * torch.cholesky_inverse(torch.linalg.cholesky(scatter + penalty * eye))
            # Of S, P' = P + g / (1 - g q) (P d)(P d)^T; of the scaled P, d carries a factor of 1 / penalty.
        turned = means @ p
        bias = (turned * means).sum(2).unsqueeze(1) / 2
        scores, mine = x @ turned.mT - bias, own @ turned.mT - bias
        without = _left_out(own, centred, means, one_hot, p, None if np.isinf(ratio) else penalty)
        beta, loss = _temperature(without, labels)
        for kept, values in zip(logits, (scores, mine, without), strict=True):
            kept.append(beta.view(-1, 1, 1) * values)
        losses.append(loss)
    loss = torch.stack(losses)
    weights = torch.softmax(-n * (loss - loss.min(0).values), 0)
    return Probe(*(torch.einsum("lh,lhnk->hnk", weights, torch.stack(a)) for a in logits))


def _left_out(
    own: Tensor, centred: Tensor, means: Tensor, one_hot: Tensor, p: Tensor, penalty: Tensor | None
) -> Tensor:
    """Scores (H, m, n_classes) of each support image by what the others alone give, exactly."""
    shots = (one_hot * one_hot.sum(1, keepdim=True)).sum(2)  # of each image's own class, (H, m)
    g = shots / (shots - 1)
    pd = centred @ p
    q = (pd * centred).sum(2)
    if penalty is None:
        factor = torch.zeros_like(q)
    else:
        scale = penalty.view(-1, 1)
        # P = penalty S^-1: P' = P + g / (penalty - g q) (P d)(P d)^T.
        factor = g / (scale - g * q).clamp(min=1e-12)
    # Means without the image: its own class's moves by -d / (n_c - 1).
    step = -centred / (shots - 1).unsqueeze(2)
    moved = one_hot.unsqueeze(3) * step.unsqueeze(2)  # (H, m, K, D)
    theirs = means.unsqueeze(1) + moved
    projected = theirs @ p.unsqueeze(1)
    along = (theirs * pd.unsqueeze(2)).sum(3)  # mu' . P d, (H, m, K)
    x_along = (own * pd).sum(2, keepdim=True)
    linear = (projected * own.unsqueeze(2)).sum(3) + factor.unsqueeze(2) * x_along * along
    square = (projected * theirs).sum(3) + factor.unsqueeze(2) * along.square()
    return linear - square / 2


def _temperature(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse temperature of the least log-loss, and that loss, of each head."""
    found = []
    betas = torch.as_tensor(BETAS, dtype=scores.dtype, device=scores.device)
    for beta in betas:
        found.append(-(beta * scores).log_softmax(2).gather(2, labels.unsqueeze(2)).mean((1, 2)))
    loss = torch.stack(found)
    best = loss.min(0)
    return betas[best.indices], best.values
