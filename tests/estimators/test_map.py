import pickle

import numpy as np
import pytest
import torch
from features import CLASSES, real_features
from map_helpers import head, same, small_tokens
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import Generator, Tensor

from frofa.augmentations import Augmentation, Brightness, Contrast, MixUp, PatchDropout, Sequential, ShearX, TokenBatch
from frofa.augmentations.base import Params
from frofa.estimators import MAPClassifier


class Recording(Augmentation):
    """Changes nothing and keeps what it was given."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def make_params(self, batch: TokenBatch, /, generator: Generator) -> Params:  # noqa: ARG002 (the contract's)
        return {}

    def transform(self, batch: TokenBatch, /, params: Params) -> TokenBatch:  # noqa: ARG002
        self.seen.append(batch.patches.clone())
        return batch


def test_auto_is_the_documented_default() -> None:
    X, y = small_tokens()
    assert MAPClassifier().augment == "auto"
    fitted = head(augment="auto").fit(X, y)
    assert same(fitted, head(augment=Brightness(0.1, "c2")).fit(X, y))
    assert not same(fitted, head().fit(X, y))
    with pytest.raises(ValueError, match=r"'augment' parameter of MAPClassifier must be .* Got 'best'"):
        head(augment="best").fit(X, y)


def test_views_average_scores_of_augmented_tokens() -> None:
    X, y = small_tokens()
    rows = X.reshape(len(X), -1)
    plain = head(n_tokens=4, augment="auto", n_steps=60).fit(rows, y)
    views = head(n_tokens=4, augment="auto", n_steps=60, n_views=3).fit(rows, y)
    assert same(plain, views), "training is the same"
    scores = views.decision_function(rows)
    assert not np.allclose(scores, plain.decision_function(rows))
    np.testing.assert_allclose(views.decision_function(rows[5:7]), scores[5:7], atol=1e-5)
    np.testing.assert_array_equal(views.predict(rows), views.classes_[scores.argmax(1)])


def test_training_learns_separable_tokens() -> None:
    X, y = small_tokens(90)
    fitted = head(n_steps=200, num_heads=2).fit(X, y)
    assert fitted.score(X, y) == 1
    assert fitted.score(*small_tokens(90, seed=1)) > 0.9
    assert fitted.num_heads_ == 2
    assert fitted.n_iter_ == 200


@pytest.mark.parametrize("augment", [None, Sequential([Brightness(0.3), Contrast(0.3)])])
def test_training_learns_features_of_images(augment: Augmentation | None) -> None:
    data = real_features("tokens")
    fitted = head(n_steps=60, augment=augment).fit(*data.shots(8))
    probabilities = fitted.predict_proba(data.held_out)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(data.held_out), fitted.classes_[probabilities.argmax(1)])
    assert set(fitted.classes_) == set(CLASSES)
    assert fitted.score(data.held_out, data.y_held_out) > 0.4  # chance is 0.2


@pytest.mark.parametrize("batch_size", [8, 64])
def test_random_state_decides_everything(batch_size: int) -> None:
    X, y = small_tokens()
    options = {"augment": Brightness(), "batch_size": batch_size, "validation_fraction": 0.3}
    fitted = head(**options).fit(X, y)
    assert same(fitted, head(**options).fit(X, y))
    assert same(fitted, head(**options, random_state=np.random.RandomState(0)).fit(X, y))
    assert not same(fitted, head(**options, random_state=1).fit(X, y))


def test_random_state_decides_the_batches() -> None:
    X, y = small_tokens()
    seen = []
    for seed in (0, 0, 1):
        augment = Recording()
        head(augment=augment, batch_size=8, random_state=seed).fit(X, y)
        seen.append(torch.stack(augment.seen))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_global_generators_are_untouched() -> None:
    X, y = small_tokens()
    before = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]  # noqa: NPY002 (this is what is watched)
    head(augment=Brightness(), validation_fraction=0.3).fit(X, y).predict(X)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(np.random.get_state(legacy=False)["state"]) == str(before[1])  # noqa: NPY002


def test_only_training_batches_are_augmented() -> None:
    X, y = small_tokens(40, n_classes=2)
    augment = Recording()
    fitted = head(augment=augment, batch_size=8, n_steps=60, validation_fraction=0.25, patience=1000).fit(X, y)
    assert [tuple(batch.shape) for batch in augment.seen] == [(8, 4, 16)] * 60
    rows = {row.numpy().tobytes() for batch in augment.seen for row in batch}
    assert len(rows) == 30
    assert rows < {row.tobytes() for row in X}
    fitted.predict(X)
    fitted.predict_proba(X)
    assert len(augment.seen) == 60


@pytest.mark.parametrize("batch_size", [8, 64])
@pytest.mark.parametrize("augment", [Brightness(0), Contrast(0), Recording()])
def test_augmentation_that_changes_nothing_is_none(augment: Augmentation, batch_size: int) -> None:
    X, y = small_tokens()
    assert same(head(batch_size=batch_size).fit(X, y), head(augment=augment, batch_size=batch_size).fit(X, y))


def test_augmentation_changes_training() -> None:
    X, y = small_tokens()
    assert not same(head().fit(X, y), head(augment=Brightness(0.5)).fit(X, y))


def test_sample_weights_equal_repetition() -> None:
    X, y = small_tokens(20)
    counts = np.random.default_rng(0).integers(0, 4, 20)
    weighted, repeated = head().fit(X, y, counts), head().fit(X.repeat(counts, axis=0), y.repeat(counts))
    for name, value in weighted.weights_.items():
        np.testing.assert_allclose(value, repeated.weights_[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-5)
    assert not same(weighted, head().fit(X, y))


def test_class_weights_are_sample_weights() -> None:
    X, y = small_tokens()
    weighted = head(class_weight={0: 5.0}).fit(X, y)
    assert same(weighted, head().fit(X, y, np.where(y == 0, 5.0, 1.0)))
    assert weighted.predict_proba(X)[:, 0].mean() > head().fit(X, y).predict_proba(X)[:, 0].mean() + 0.05


def test_early_stopping_where_there_is_nothing_to_learn() -> None:
    X, y = small_tokens(60, n_classes=2)
    noise, augment = np.random.default_rng(1).integers(2, size=60), Recording()
    fitted = head(n_steps=200, validation_fraction=0.4, patience=3, augment=augment).fit(X, noise)
    assert fitted.n_iter_ < 200
    assert len(augment.seen) == fitted.n_iter_ + 3 * 4  # 200 steps, 50 evaluations
    assert not same(fitted, head(n_steps=200).fit(X, y))


def test_validation_is_stratified() -> None:
    X, y = small_tokens(40, n_classes=2)
    y = np.where(np.arange(40) < 8, 0, 1)
    augment = Recording()
    head(augment=augment, validation_fraction=0.25, n_steps=1).fit(X, y)
    rows = {row.numpy().tobytes() for row in augment.seen[0]}
    assert sum(row.tobytes() in rows for row in X[y == 0]) == 6


def test_prediction_does_not_depend_on_the_batch() -> None:
    X, y = small_tokens()
    fitted = head().fit(X, y)
    many = np.tile(X, (80, 1, 1))  # 2400, more than two batches
    np.testing.assert_allclose(fitted.decision_function(many), np.tile(fitted.decision_function(X), (80, 1)), atol=1e-5)
    np.testing.assert_allclose(fitted.decision_function(X[:1]), fitted.decision_function(X)[:1], atol=1e-5)


def test_weights_are_numpy_and_survive_pickle() -> None:
    X, y = small_tokens()
    fitted = head(augment=Brightness(0.3)).fit(X, y)
    assert {(type(value), value.dtype.name) for value in fitted.weights_.values()} == {(np.ndarray, "float32")}
    restored = pickle.loads(pickle.dumps(fitted))  # noqa: S301
    assert same(fitted, restored)
    np.testing.assert_array_equal(fitted.predict_proba(X), restored.predict_proba(X))


def test_parameters_are_cloned_and_set() -> None:
    augment = Brightness(0.3, "c")
    original = head(augment=augment)
    copy = clone(original).set_params(augment__level=0.7, lr=0.1)
    assert (copy.augment.level, copy.augment.variant, copy.lr) == (0.7, "c", 0.1)
    assert augment.level == 0.3
    X, y = small_tokens()
    assert same(copy.fit(X, y), head(augment=Brightness(0.7, "c"), lr=0.1).fit(X, y))
    assert not hasattr(clone(copy), "weights_")


def test_search_reaches_augmentations_and_their_parameters() -> None:
    X, y = small_tokens()
    grid = [{"augment": [None, Brightness()]}, {"augment": [Brightness()], "augment__level": [0.1, 0.9]}]
    search = GridSearchCV(head(), grid, cv=2).fit(X, y)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    direct = head(augment=search.best_params_["augment"])
    if "augment__level" in search.best_params_:
        direct.set_params(augment__level=search.best_params_["augment__level"])
    assert same(search.best_estimator_, direct.fit(X, y))


def test_shapes_that_do_not_fit_are_named() -> None:
    X, y = small_tokens()
    flat = X.reshape(len(X), -1)
    with pytest.raises(ValueError, match=r"n_tokens must divide the 64 columns of X\. Got 5"):
        head(n_tokens=5).fit(flat, y)
    with pytest.raises(ValueError, match="X has 12 features a token, but MAPClassifier is expecting 16"):
        head().fit(X, y).predict(X[:, :, :12])
    with pytest.raises(ValueError, match="X has 60 features, but MAPClassifier is expecting 64"):
        head(n_tokens=4).fit(flat, y).predict(flat[:, :60])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        head().fit(X, y[:-1])


@pytest.mark.parametrize(
    "augment", [MixUp(0.4), PatchDropout(0.3), Sequential([MixUp(0.4), PatchDropout(0.3)])], ids=repr
)
def test_augmentations_of_labels_and_of_masks_train(augment: Augmentation) -> None:
    X, y = small_tokens(60)
    weights = np.where(np.arange(60) % 2, 2.0, 0.5)
    plain = head(n_steps=100).fit(X, y, sample_weight=weights)
    fitted = head(n_steps=100, augment=augment).fit(X, y, sample_weight=weights)
    assert fitted.score(X, y) > 0.9
    assert not same(fitted, plain)
    assert not same(fitted, head(n_steps=100, augment=augment).fit(X, y))


def test_mixup_trains_on_soft_targets() -> None:
    """With one half of each, no label is certain: probabilities are those of the mixed targets."""
    X, y = small_tokens(60)
    certain = head(n_steps=200).fit(X, y).predict_proba(X).max(1).mean()
    assert head(n_steps=200, augment=MixUp(1e4)).fit(X, y).predict_proba(X).max(1).mean() < certain - 0.05


def test_prefix_tokens_are_seen_but_not_augmented() -> None:
    X, y = small_tokens(30)
    prefix = np.full((30, 2, 16), 7, np.float32)
    tokens = np.concatenate([prefix, X], 1)
    augment = Recording()
    fitted = head(augment=augment, n_prefix=2).fit(tokens, y)
    np.testing.assert_array_equal(augment.seen[0].numpy(), X)
    assert not same(fitted, head(augment=Recording()).fit(X, y))


def test_grid_of_tokens_is_given_where_it_is_no_square() -> None:
    X, y = small_tokens(30)
    tokens = np.concatenate([X, X[:, :2]], 1)
    with pytest.raises(ValueError, match="6 tokens are no square"):
        head(augment=ShearX()).fit(tokens, y)
    wide, tall = (head(augment=ShearX(), grid=grid).fit(tokens, y) for grid in ((2, 3), (3, 2)))
    assert not same(wide, tall)
    with pytest.raises(ValueError, match=r"height \* width = 6 tokens. Got \(4, 2\)"):
        head(augment=ShearX(), grid=(4, 2)).fit(tokens, y)


def test_parameters_of_the_automatic_augmentation_can_be_set() -> None:
    changed = head(augment="auto").set_params(augment__level=0.2, lr=0.01)
    assert repr(changed.augment) == "Brightness(level=0.2)"
    assert MAPClassifier().augment == "auto"
    assert head(augment="auto").fit(*small_tokens()).augment_.level == 0.1
    search = GridSearchCV(head(augment="auto"), {"augment__level": [0.1, 0.2]}, cv=2).fit(*small_tokens())
    assert search.best_params_["augment__level"] in (0.1, 0.2)


def test_what_needs_a_grid_is_an_error_on_pooled_features() -> None:
    X, y = small_tokens()
    with pytest.raises(ValueError, match=r"ShearX needs tokens on a grid, .* pooled features have no positions"):
        head(augment=ShearX()).fit(X[:, 0], y)


def test_rows_of_many_tokens_ask_for_their_number() -> None:
    with pytest.raises(ValueError, match=r"X has 8193 columns, .* say n_tokens"):
        head().fit(np.zeros((4, 8193), np.float32), [0, 1, 0, 1])
