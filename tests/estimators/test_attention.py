"""Weights over tokens: with them, and nothing else of the head's pass, its scores come out again."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from map_helpers import small_tokens
from sklearn.exceptions import NotFittedError
from torch import Generator, Tensor

from frofa.blocks import FeatureBlocks
from frofa.estimators import MAPClassifier, RaggedTokens, SoftMoEClassifier
from frofa.estimators.models.map_head import init_map_head, map_attention, map_logits
from frofa.estimators.models.soft_moe_head import SoftMoEModel, soft_moe_attention

X, Y = small_tokens(40, seed=1)
SETTINGS: dict[str, Any] = {"augment": None, "random_state": 0, "device": "cpu", "novelty": None}
MAP = MAPClassifier(num_heads=4, n_steps=60, **SETTINGS).fit(X, Y)
MOE = SoftMoEClassifier(num_experts=3, slots_per_expert=2, n_steps=60, **SETTINGS).fit(X, Y)


def tensors(head: Any) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value) for name, value in head.weights_.items()}


def map_scores(head: MAPClassifier, tokens: npt.NDArray[Any], weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Scores of the head from weights (n, heads, N) by the text-book formula, with a value for each token."""
    params, n_heads = tensors(head), weights.shape[1]
    _, values = F.linear(torch.tensor(tokens), params["kv.weight"], params["kv.bias"]).chunk(2, -1)
    each = values.unflatten(2, (n_heads, -1)).transpose(1, 2)  # (n, heads, N, C / heads)
    pooled = (torch.as_tensor(weights).unsqueeze(2) @ each).squeeze(2).flatten(1)
    pooled = F.linear(pooled, params["proj.weight"], params["proj.bias"])
    normed = F.layer_norm(pooled, pooled.shape[1:], params["norm.weight"], params["norm.bias"], 1e-6)
    hidden = F.gelu(F.linear(normed, params["mlp.fc1.weight"], params["mlp.fc1.bias"]))
    pooled = pooled + F.linear(hidden, params["mlp.fc2.weight"], params["mlp.fc2.bias"])
    return F.linear(pooled, params["head.weight"], params["head.bias"]).numpy()


def moe_scores(head: SoftMoEClassifier, tokens: npt.NDArray[Any], weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Scores of the head from weights (n, slots, N) of the slots; what tokens take of these is computed anew."""
    params, x = tensors(head), torch.tensor(tokens)
    normed = F.layer_norm(x, x.shape[2:], eps=1e-6)
    slots = torch.as_tensor(weights) @ normed  # (n, slots, C), of expert 0 first
    outputs = []
    for e, of_expert in enumerate(slots.unflatten(1, (head.num_experts, -1)).unbind(1)):
        hidden = F.gelu(F.linear(of_expert, params["fc1.weight"][e], params["fc1.bias"][e]))
        outputs.append(F.linear(hidden, params["fc2.weight"][e], params["fc2.bias"][e]))
    cosines = F.normalize(normed, dim=2) @ F.normalize(params["mu"].flatten(1), dim=0)
    combine = (params["scale"] * cosines).softmax(2)
    pooled = (x + combine @ torch.cat(outputs, 1)).mean(1)
    return F.linear(pooled, params["head.weight"], params["head.bias"]).numpy()


@pytest.mark.parametrize(("head", "scores", "n_maps"), [(MAP, map_scores, 4), (MOE, moe_scores, 6)], ids=["map", "moe"])
def test_scores_come_out_of_the_weights(head: Any, scores: Any, n_maps: int) -> None:
    weights = head.attention(X)
    assert (weights.shape, weights.dtype) == ((len(X), n_maps, 4), np.float32)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(2), 1, atol=1e-6)
    np.testing.assert_allclose(scores(head, X, weights), head.decision_function(X), atol=2e-5)
    # Weights of other images do not do.
    wrong = scores(head, X, np.roll(weights, 1, axis=0))
    assert np.abs(wrong - head.decision_function(X)).max() > 0.01


def test_a_head_looks_at_the_token_that_says_the_class() -> None:
    says = np.argmax(np.take_along_axis(X, Y[:, None, None], 2)[..., 0], 1)
    head = MAPClassifier(num_heads=4, **SETTINGS).fit(X, Y)
    found = (head.attention(X).mean(1).argmax(1) == says).mean()
    assert found > 0.7, "by chance, it is 0.25"


@pytest.mark.parametrize("head", [MAP, MOE], ids=["map", "moe"])
def test_images_of_several_sizes_are_looked_at_one_by_one(head: Any) -> None:
    grids = np.array([[2, 2], [1, 3], [4, 2], [1, 1]])
    values = np.random.default_rng(0).normal(size=(grids.prod(1).sum(), 16)).astype(np.float32)
    ragged = RaggedTokens(values, grids)
    weights = head.attention(ragged)
    assert [one.shape[1] for one in weights] == [4, 3, 8, 1]
    for one, tokens in zip(weights, ragged, strict=True):
        np.testing.assert_allclose(one, head.attention(tokens.reshape(1, -1, 16))[0], atol=1e-6)


def test_views_blocks_and_rows() -> None:
    blocks = FeatureBlocks({"mean": [X.mean(1)] * 2, "tokens": [X, X[:, ::-1]]})
    np.testing.assert_array_equal(MAP.attention(blocks), MAP.attention(X))
    np.testing.assert_allclose(MAP.attention(X[:, ::-1]), MAP.attention(X)[..., ::-1], atol=1e-6)
    rows = MAPClassifier(num_heads=4, n_tokens=4, n_steps=60, **SETTINGS).fit(X.reshape(len(X), -1), Y)
    np.testing.assert_array_equal(rows.attention(X.reshape(len(X), -1)), MAP.attention(X))


@pytest.mark.parametrize("streams", [1, 3])
def test_heads_of_several_streams(streams: int) -> None:
    generator = Generator().manual_seed(0)
    tokens, mask = torch.randn((streams, 5, 7, 16), generator=generator), torch.ones(streams, 5, 7, dtype=torch.bool)
    mask[:, 1, 4:] = False
    each = [init_map_head(16, 3, 2.0, generator) for _ in range(6)]
    params = {name: torch.stack([one[name] for one in each]) for name in each[0]}
    weights = map_attention(params, tokens, 2, mask)
    assert weights.shape == (6, 5, 2, 7)
    experts = SoftMoEModel(2, 3, 1.0)
    slots = [experts.initial(16, 3, generator) for _ in range(6)]
    of_slots = {name: torch.stack([one[name] for one in slots]) for name in slots[0]}
    dispatch = soft_moe_attention(of_slots, tokens, mask)
    assert dispatch.shape == (6, 5, 6, 7)
    for i in range(6):
        stream = i * streams // 6
        alone = {name: value[i : i + 1] for name, value in params.items()}
        torch.testing.assert_close(map_attention(alone, tokens[stream], 2, mask[stream])[0], weights[i])
        own = {name: value[i : i + 1] for name, value in of_slots.items()}
        torch.testing.assert_close(soft_moe_attention(own, tokens[stream], mask[stream])[0], dispatch[i])
    assert not weights[:, 1, :, 4:].any()
    assert not dispatch[:, 1, :, 4:].any()
    assert map_logits(params, tokens, mask, num_heads=2).shape == (6, 5, 3)


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(NotFittedError):
        MAPClassifier().attention(X)
    with pytest.raises(ValueError, match="16 features"):
        MAP.attention(X[..., :8])
