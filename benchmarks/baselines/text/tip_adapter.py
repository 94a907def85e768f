"""Tip-Adapter: a cache of support samples beside the zero-shot scores.

Source: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022, arXiv
2111.03930, equations 4 to 6, and ``main.py`` of gaopengcuhk/Tip-Adapter: scores are scale * f.t + alpha * exp(-beta *
(1 - f.F)) Y, with alpha = beta = 1 before anything is searched. Tip-Adapter-F trains the keys F by AdamW for 20 epochs
of batches of 256, with a rate of 1e-3 that falls by a cosine; the code takes the epoch with the best test accuracy,
this is the last.
"""

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from baselines.head import Array, Codes, normalised
from baselines.text.head import TextHead

ALPHA = BETA = 1.0
EPOCHS, BATCH, RATE, EPSILON = 20, 256, 1e-3, 1e-4


class TipAdapter(TextHead):
    """Zero-shot scores, and votes of the support samples by their affinity."""

    def _fit(self, X: Array, codes: Codes) -> None:
        self.keys_, self.votes_ = normalised(X), np.eye(len(self.texts))[codes]

    def _scores(self, X: Array) -> Array:
        X = normalised(X)
        affinities = np.exp(-BETA * (1 - X @ self.keys_.T))
        scores: Array = self.scale * self.cosines(X) + ALPHA * affinities @ self.votes_
        return scores


class TrainedTipAdapter(TipAdapter):
    """Tip-Adapter-F: the same with keys that are trained; `seed` shuffles the batches."""

    seed = 0

    def _fit(self, X: Array, codes: Codes) -> None:
        super()._fit(X, codes)
        rows, labels = torch.tensor(normalised(X)), torch.tensor(codes)
        zero_shot, votes = self.scale * rows @ torch.tensor(self.texts).T, torch.tensor(self.votes_)
        keys = torch.tensor(self.keys_).requires_grad_()
        generator = torch.Generator().manual_seed(self.seed)
        optimizer = torch.optim.AdamW([keys], lr=RATE, eps=EPSILON)
        steps = -(-len(rows) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(rows), generator=generator).split(BATCH):
                affinities = torch.exp(-BETA * (1 - rows[batch] @ keys.T))
                loss = cross_entropy(zero_shot[batch] + ALPHA * affinities @ votes, labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        self.keys_ = keys.detach().numpy()
