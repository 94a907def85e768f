"""Training and comparison of the heads of `token_heads.py` on all sets of a backbone at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from token_heads_data import Array, ImageSet, Probe, own_weights, query_weights, shrinkage_probe
from token_heads_models import Batches, Head, initial, logits, train
from torch import Generator, Tensor

from frofa.estimators.models.map_head import default_num_heads

BATCH = 64
"""Samples a training step."""
WEIGHTS = tuple(round(0.1 * k, 1) for k in range(11))
"""Weights of the head in the blend; 0 is the probe alone."""


class Bench:
    """All sets of one backbone: their features, one after another, and the samples of every number of shots."""

    def __init__(self, sets: list[ImageSet], backbone: str, n_seeds: int, device: str):
        self.sets, self.n_seeds, self.device = sets, n_seeds, device
        self.classes = int(sets[0].y.max()) + 1
        if any(int(one.y.max()) + 1 != self.classes for one in sets):
            raise SystemExit("all image sets must have as many classes")
        self.own: dict[str, Any] = own_weights(backbone, device)
        if "block" in self.own:
            name = "pooled" if "block" in sets[0].features else "mean"
            cls = torch.cat([one.features[name].flatten(0, 1) for one in sets]).mean(0)
            self.own["query"] = query_weights(self.own["block"], cls)
        sizes = [len(one.y) for one in sets]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        self.y = [torch.as_tensor(one.y, device=device) for one in sets]
        self.probes: dict[tuple[int, int, int], Probe] = {}

    def can(self, head: Head) -> bool:
        """Tell whether the backbone has what the head starts from."""
        return (head.start == "random" or head.start in self.own) and (
            head.kind != "block" or "block" in self.sets[0].features
        )

    def tokens(self, head: Head, one: ImageSet) -> Tensor:
        """Tokens (n, V, N, C) that a head sees."""
        if head.kind == "block":
            return one.features["block"]
        tokens = one.features["tokens"]
        if not head.token:
            return tokens
        vector = one.features["pooled"]
        # At the tokens' own length: vectors of an attention pool have another.
        scale = tokens.norm(dim=3).mean() / vector.norm(dim=2).mean()
        return torch.cat([(vector * scale).unsqueeze(2), tokens], 2)

    def probe(self, i: int, shots: int, n_views: int) -> Probe:
        """Logits of the linear probe of set number i."""
        key = i, shots, n_views
        if key not in self.probes:
            one = self.sets[i]
            blocks = [one.features[name][:, :n_views].mean(1) for name in ("pooled", "mean")]
            blocks = blocks[:1] if torch.allclose(blocks[0], blocks[1], atol=1e-4) else blocks
            support = torch.as_tensor(one.support(shots, self.n_seeds), device=self.device)
            self.probes[key] = shrinkage_probe(blocks, support, self.y[i], self.classes)
        return self.probes[key]

    def run(self, head: Head, shots: int) -> dict[str, Any]:
        """Train a head on every support sample of every set, and compare it with the probe.

        Accuracies in % of every weight, by sample (averaged over sets) and by set (averaged over samples); log-loss.
        """
        n_prefix = int(head.token or head.kind == "block")
        everything = torch.cat([self.tokens(head, one)[:, : head.n_views] for one in self.sets]).flatten(0, 1)
        channels = everything.shape[2]
        num_heads = default_num_heads(channels)
        patches = everything[:, n_prefix:]
        batches = self._batches(head, shots, everything, (patches.amin(1), patches.amax(1)), n_prefix)
        n_heads = self.n_seeds * head.n_members
        makers = [torch.Generator(self.device).manual_seed(seed) for seed in range(n_heads)]
        starts = [initial(head, channels, self.classes, maker, self.own) for maker in makers] * len(self.sets)
        params = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
        params = train(head, params, batches, num_heads)
        found = []
        for i, one in enumerate(self.sets):
            mine = {name: v[i * n_heads : (i + 1) * n_heads] for name, v in params.items()}
            first = int(self.offsets[i]) * head.n_views
            tokens = everything[first : first + len(one.y) * head.n_views]
            found.append(self._compare(head, shots, i, mine, tokens, num_heads))
        accuracies, losses = (np.stack(parts) for parts in zip(*found, strict=True))  # (sets, seeds, weights)
        return summary([one.name for one in self.sets], accuracies, losses)

    def _batches(self, head: Head, shots: int, tokens: Tensor, bounds: tuple[Tensor, Tensor], n_prefix: int) -> Batches:
        generator = Generator(self.device).manual_seed(shots)
        images, labels, bases = [], [], []
        for i, one in enumerate(self.sets):
            support = torch.as_tensor(one.support(shots, self.n_seeds), device=self.device)
            images.append(support + int(self.offsets[i]))
            labels.append(self.y[i][support])
            if head.base is not None:
                probe = self.probe(i, shots, head.n_views)
                bases.append((probe.left_out if head.base == "left out" else probe.fitted).float())
        # Heads by set, by sample, by member.
        rows, targets = (torch.cat(a).repeat_interleave(head.n_members, 0) for a in (images, labels))
        n_batch = min(BATCH, rows.shape[1])
        # Of each step and head, samples drawn without replacement, in a random view each.
        shape = (head.n_steps, *rows.shape)
        chosen = torch.rand(shape, generator=generator, device=self.device).argsort(2)[:, :, :n_batch]
        view = torch.randint(head.n_views, chosen.shape, generator=generator, device=self.device)
        base = None
        if bases:
            wide = torch.cat(bases).repeat_interleave(head.n_members, 0).expand(head.n_steps, -1, -1, -1)
            base = torch.gather(wide, 2, chosen.unsqueeze(3).expand(-1, -1, -1, self.classes))
        picked, codes = (torch.gather(a.expand(shape), 2, chosen) for a in (rows, targets))
        return Batches(tokens, *bounds, picked * head.n_views + view, codes, base, n_prefix)

    @torch.no_grad()
    def _compare(
        self, head: Head, shots: int, i: int, params: dict[str, Tensor], tokens: Tensor, num_heads: int
    ) -> tuple[Array, Array]:
        """Accuracies in % and log-losses of blends, (seeds, weights), on the images outside of each sample."""
        scores = torch.cat([logits(head, params, part[None], num_heads) for part in tokens.split(1536)], 1)
        scores = scores.unflatten(1, (-1, head.n_views)).mean(2).double()
        scores = scores.unflatten(0, (-1, head.n_members)).mean(1)
        probe = self.probe(i, shots, head.n_views).everything
        said = (scores + probe if head.base is not None else scores).log_softmax(2)
        support = torch.as_tensor(self.sets[i].support(shots, self.n_seeds), device=self.device)
        held_out = torch.ones(said.shape[:2], device=self.device, dtype=torch.float64).scatter_(1, support, 0)
        accuracies, losses = [], []
        for weight in WEIGHTS:
            blend = ((1 - weight) * probe.log_softmax(2) + weight * said).log_softmax(2)
            correct = (blend.argmax(2) == self.y[i]).double()
            loss = -blend.gather(2, self.y[i].expand(self.n_seeds, -1).unsqueeze(2)).squeeze(2)
            accuracies.append(100 * (correct * held_out).sum(1) / held_out.sum(1))
            losses.append((loss * held_out).sum(1) / held_out.sum(1))
        return torch.stack(accuracies, 1).cpu().numpy(), torch.stack(losses, 1).cpu().numpy()


def summary(names: Sequence[str], accuracies: Array, losses: Array) -> dict[str, Any]:
    """What is kept of accuracies and log-losses (sets, seeds, weights)."""
    by_set = np.round(accuracies.mean(1), 2).tolist()
    return {
        "by_sample": np.round(accuracies.mean(0), 2).tolist(),
        "by_set": dict(zip(names, by_set, strict=True)),
        "log_loss": np.round(losses.mean((0, 1)), 3).tolist(),
    }
