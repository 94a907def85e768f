"""MAPClassifier(init=PretrainedHead(...)): training starts from the backbone's own pooling head."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from map_helpers import head, same
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from tower_helpers import SMALL, relative_error, save, siglip

import frofa
from frofa import FrozenFeatureExtractor, PretrainedHead
from frofa.backbones.loading import load_backbone
from frofa.compute.digests import digest
from frofa.estimators import BatchedSearchCV, MAPClassifier
from frofa.estimators.models.map_head import map_pool
from frofa.estimators.models.map_model import map_model
from frofa.pretrained import start_of

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Width 32; an MLP of 72, which is no multiple of it, and of four attention heads, which are no default."""
    model = siglip(**{**SMALL, "num_attention_heads": 4}, image_size=32, patch_size=8)
    return save(model, tmp_path_factory.mktemp("tower"), 32)


@pytest.fixture(scope="module")
def tokens(tower: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    images = np.random.default_rng(0).integers(0, 256, (18, 32, 32, 3), np.uint8)
    y = np.arange(18) % 3
    images[y == 1, ..., 0] //= 4
    images[y == 2, :, :16] //= 4
    return FrozenFeatureExtractor(tower, device="cpu").transform(images), y


@torch.no_grad()
@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh"])
def test_it_starts_at_the_models_own_pooling(activation: str, tmp_path: Path) -> None:
    sizes = {**SMALL, "num_attention_heads": 4, "hidden_act": activation}
    name = save(siglip(**sizes, image_size=32, patch_size=8), tmp_path, 32)
    module: Any = load_backbone(name, None, "cpu").module
    tokens = torch.randn(3, 16, 32, generator=torch.Generator().manual_seed(0))
    start = map_model(PretrainedHead(name), 32, None, 4.0)
    assert start.num_heads == 4
    assert start.pretrained is not None
    assert int(32 * start.mlp_ratio) == 72
    pooled = map_pool({name: value.unsqueeze(0) for name, value in start.pretrained.items()}, tokens, start.num_heads)[
        0
    ]
    error = relative_error(pooled, module.attn_pool(tokens))
    assert error < (1e-5 if activation == "gelu" else 3e-3)  # ours is the exact GELU


@torch.no_grad()
@pytest.mark.parametrize("options", [{"init_values": 0.5}, {"qkv_bias": False}])
@pytest.mark.parametrize("query", [None, np.linspace(-2, 3, 16)])
def test_the_last_block_of_a_class_token_stands_in(
    options: dict[str, Any], query: Any, save_backbone: Callable[..., str]
) -> None:
    name = save_backbone("vit_tiny_patch16_224", **VIT, **options)
    backbone = load_backbone(name, None, "cpu")
    block: Any = backbone.module.blocks[-1]  # type: ignore[index]
    tokens = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    # By the block's own layers: attention to the tokens with the query of a class token, or its bias, and the MLP.
    token = torch.zeros(16) if query is None else torch.tensor(query, dtype=torch.float32)
    asked = block.attn.qkv(token.expand(3, 1, 16))[..., :16].unflatten(2, (2, 8)).transpose(1, 2)
    key, value = block.attn.qkv(tokens)[..., 16:].unflatten(2, (2, 2, 8)).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(asked, key, value).transpose(1, 2).flatten(2)
    expected = block.ls1(block.attn.proj(attended))
    expected = (expected + block.ls2(block.mlp(block.norm2(expected))))[:, 0]
    start = map_model(PretrainedHead(name, query), 16, None, 4.0)
    assert start.pretrained is not None
    weights = {key: value.unsqueeze(0) for key, value in start.pretrained.items()}
    assert relative_error(map_pool(weights, tokens, start.num_heads)[0], expected) < 1e-5


def test_training_starts_there(tower: str, tokens: Any) -> None:
    X, y = tokens
    start = PretrainedHead(tower).load().weights
    moved = {}
    for lr in (1e-6, 0.03):
        fitted = head(init=PretrainedHead(tower), lr=lr, n_steps=30, weight_decay=0).fit(X, y)
        assert fitted.num_heads_ == 4
        assert fitted.weights_["mlp.fc1.weight"].shape == (72, 32)
        moved[lr] = {name: np.abs(fitted.weights_[name] - value.numpy()).max() for name, value in start.items()}
    assert max(moved[1e-6].values()) < 1e-4
    assert all(distance > 1e-6 for name, distance in moved[0.03].items() if name != "kv.bias")
    assert fitted.score(X, y) == 1.0
    assert not same(fitted, head(n_steps=30, weight_decay=0, num_heads=4, mlp_ratio=2.25).fit(X, y))


def test_the_backbone_is_not_trained_along(tower: str, tokens: Any) -> None:
    before = {name: value.clone() for name, value in PretrainedHead(tower).load().weights.items()}
    head(init=PretrainedHead(tower)).fit(*tokens)
    after = PretrainedHead(tower).load().weights
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_initial_scores_are_zero(tower: str, tokens: Any) -> None:
    X, y = tokens
    fitted = head(init=PretrainedHead(tower), lr=1e-12, n_steps=1).fit(X, y)
    np.testing.assert_allclose(fitted.decision_function(X), 0, atol=1e-9)


def test_clone_pickle_and_files_carry_the_name_only(tower: str, tokens: Any, tmp_path: Path) -> None:
    X, y = tokens
    unfitted = head(init=PretrainedHead(tower))
    assert clone(unfitted).init.model == tower
    assert clone(unfitted).init is not unfitted.init
    assert len(pickle.dumps(unfitted)) < 2000
    fitted = pickle.loads(pickle.dumps(unfitted)).fit(X, y)  # noqa: S301
    assert same(fitted, unfitted.fit(X, y))
    frofa.save(fitted, tmp_path / "head.frofa")
    loaded = frofa.load(tmp_path / "head.frofa")
    assert loaded.init.model == tower
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    assert MAPClassifier(init=PretrainedHead("a")).set_params(init__model="b").init.model == "b"


def test_searches_choose_where_to_start(tower: str, tokens: Any) -> None:
    grid = {"init": ["random", PretrainedHead(tower)], "lr": [0.003, 0.03], "num_heads": [None, 4]}
    one, all_at_once = GridSearchCV(head(), grid, cv=3), BatchedSearchCV(head(), grid, cv=3)
    for search in (one, all_at_once):
        search.fit(*tokens)
    names = [f"split{i}_test_score" for i in range(3)]
    for name in names:
        np.testing.assert_array_equal(one.cv_results_[name], all_at_once.cv_results_[name])
    pretrained = [not isinstance(params["init"], str) for params in one.cv_results_["params"]]
    assert sorted(set(pretrained)) == [False, True]


def test_models_without_such_a_head_are_named(tokens: Any, save_backbone: Callable[..., str], tmp_path: Path) -> None:
    normed = save_backbone("vit_tiny_patch16_224", **VIT, qk_norm=True)
    gap = save(siglip(**SMALL, image_size=32, patch_size=8, vision_use_head=False), tmp_path, 32)
    resnet = save_backbone("resnet10t", stem_width=8)
    for name, pooling in ((normed, "token"), (gap, "avg"), (resnet, "otherwise")):
        with pytest.raises(ValueError, match=rf"has no attention-pooling head \(it pools .*{pooling}"):
            head(init=PretrainedHead(name)).fit(*tokens)


def test_what_does_not_fit_is_named(tower: str, tokens: Any) -> None:
    X, y = tokens
    with pytest.raises(ValueError, match=r"for tokens of 32 channels. Got tokens of 16"):
        head(init=PretrainedHead(tower)).fit(X[..., :16], y)
    with pytest.raises(ValueError, match=r"of 4 attention heads: num_heads must be that or None. Got 8"):
        head(init=PretrainedHead(tower), num_heads=8).fit(X, y)
    with pytest.raises(ValueError, match=r"'init' parameter of MAPClassifier must be .*'random'.*Got 'other'"):
        head(init="other").fit(X, y)
    with pytest.raises(ValueError, match=r"does not say whose head it is: init=frofa.PretrainedHead\('NAME'\)"):
        head(init="pretrained").fit(X, y)
    with pytest.raises(frofa.exceptions.ModelNotFoundError, match="absent"):
        head(init=PretrainedHead("local-dir:absent")).fit(X, y)


def test_backbones_without_such_a_head_start_at_fresh_weights(
    tower: str, small_vit: str, save_backbone: Callable[..., str]
) -> None:
    for name in (tower, small_vit):
        start = start_of(name)
        assert isinstance(start, PretrainedHead)
        assert start.model == name
    assert start_of(save_backbone("resnet10t", stem_width=8)) == "random"
    assert start_of(lambda images: images) == "random"
    with pytest.raises(frofa.exceptions.ModelNotFoundError, match="absent"):
        start_of("local-dir:absent")


def test_the_query_is_one_class_token(small_vit: str, tower: str, tmp_path: Path) -> None:
    X, y = np.random.default_rng(0).normal(size=(12, 16, 16)), np.arange(12) % 2
    fitted = head(init=PretrainedHead(small_vit, np.ones(16)), n_steps=3).fit(X, y)
    assert not same(fitted, head(init=PretrainedHead(small_vit), n_steps=3).fit(X, y))
    assert same(fitted, clone(fitted).fit(X, y))
    frofa.save(fitted, tmp_path / "head.frofa")
    np.testing.assert_array_equal(frofa.load(tmp_path / "head.frofa").init.query, np.ones(16))
    for wrong in (np.ones(15), np.full(16, np.nan), np.ones((1, 16))):
        with pytest.raises(ValueError, match=r"query must be a class token of .*, 16 finite numbers. Got shape \("):
            PretrainedHead(small_vit, wrong).load()
    digests = {digest(PretrainedHead(small_vit, query)) for query in (None, np.ones(16), np.zeros(16))}
    assert len(digests) == 3
    pools = [PretrainedHead(tower, query).load().weights for query in (None, np.ones(3))]
    assert all(torch.equal(pools[0][name], pools[1][name]) for name in pools[0])
