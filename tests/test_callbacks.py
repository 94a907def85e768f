"""scikit-learn's callbacks on all that fits: what they hear, that they change nothing, and that nobody needs them."""

import io
import json
import pickle
import re
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import frofa
from frofa import FrozenFeatureExtractor, ImageClassifier
from frofa.estimators import (
    AbstentionClassifier,
    BatchedSearchCV,
    ConformalClassifier,
    FewShotClassifier,
    LogisticProbeClassifier,
    MAPClassifier,
    MultiLabelProbeClassifier,
    NoveltyDetector,
    PrototypeClassifier,
    RidgeProbeClassifier,
    ShrinkageProbeClassifier,
    ShrinkageRegressor,
    SoftMoEClassifier,
    TransductiveClassifier,
)
from frofa.exceptions import BatchFallbackWarning
from frofa.utils.callbacks import TaskCounter, fit_task, task_of

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9 has no callbacks")

RNG = np.random.default_rng(0)
LABELS = np.repeat(["cat", "dog"], 12)
TOKENS = RNG.normal(size=(24, 6, 8)).astype(np.float32) + 0.4 * (LABELS == "dog")[:, None, None]
VECTORS = TOKENS.mean(1)
IMAGES = RNG.integers(0, 128, (24, 32, 32, 3)).astype(np.uint8) + 90 * (LABELS == "dog")[:, None, None, None].astype(
    np.uint8
)
HEADS: list[Any] = [
    MAPClassifier(n_steps=6, random_state=0),
    MAPClassifier(n_steps=6, random_state=0, calibrate=True, class_prior="uniform"),
    MAPClassifier(n_steps=6, random_state=0, validation_fraction=0.25),
    SoftMoEClassifier(n_steps=6, random_state=0),
]


class Heard:
    """Everything that a callback hears: events with the estimator's name, the task's and the path to it."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.events: list[tuple[str, str, str, tuple[int, ...]]] = []
        self.fitted: list[Any] = []
        self.data: list[tuple[Any, Any, Any]] = []
        self.stop_at = stop_at

    def _hear(self, what: str, context: Any) -> None:
        path, one = list[int](), context
        while one is not None:
            path, one = [one.task_id, *path], one.parent
        self.events.append((what, context.estimator_name, context.task_name, tuple(path)))

    def setup(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
        self._hear("setup", context)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
        self._hear("begin", context)

    def on_fit_task_end(
        self,
        estimator: Any,  # noqa: ARG002
        context: Any,
        *,
        X: Any = None,
        y: Any = None,
        metadata: Any = None,
        fitted_estimator: Any = None,
    ) -> bool:
        self._hear("end", context)
        self.data.append((X, y, metadata))
        self.fitted.append(fitted_estimator)
        return context.task_id + 1 == self.stop_at if context.task_name == "step" else False

    def teardown(self, estimator: Any, context: Any) -> None:  # noqa: ARG002
        self._hear("teardown", context)

    def names(self, what: str = "end") -> list[str]:
        """Names of the tasks that an event was heard of."""
        return [name for event, _, name, _ in self.events if event == what]


class HeardWithin(Heard):
    """The same, handed on to estimators inside."""

    max_propagation_depth = None


def is_well_formed(heard: Heard) -> bool:
    """Tell whether each task began before it ended, all in all of one fit, and nothing came after the teardown."""
    events = [(what, path) for what, _, _, path in heard.events]
    open_tasks: list[tuple[int, ...]] = []
    for what, path in events[1:-1]:
        if what == "begin":
            if open_tasks and path[:-1] != open_tasks[-1]:
                return False
            open_tasks.append(path)
        elif open_tasks.pop() != path:
            return False
    return events[0][0] == "setup" and events[-1][0] == "teardown" and not open_tasks


@pytest.mark.parametrize("head", HEADS, ids=repr)
def test_token_heads_tell_of_each_step(head: Any) -> None:
    heard = Heard()
    plain, watched = clone(head).fit(TOKENS, LABELS), clone(head).set_callbacks(heard).fit(TOKENS, LABELS)
    assert heard.names() == ["step"] * 6 + ["fit"]
    assert is_well_formed(heard)
    # The same head, bit by bit.
    assert watched.n_iter_ == plain.n_iter_
    for name, value in plain.weights_.items():
        assert_array_equal(watched.weights_[name], value)
    assert_array_equal(watched.predict_proba(TOKENS), plain.predict_proba(TOKENS))
    assert {name for name in vars(watched) if "callback" in name or "task" in name} == {"_skl_callbacks"}


def test_each_step_has_the_head_that_its_fit_would_have_become() -> None:
    heard = Heard()
    head = MAPClassifier(n_steps=6, schedule="constant", warmup_fraction=0, random_state=0)
    head.set_callbacks(heard).fit(TOKENS, LABELS)
    third = clone(head).set_callbacks().set_params(n_steps=3).fit(TOKENS, LABELS)
    assert_array_equal(heard.fitted[2].predict_proba(TOKENS), third.predict_proba(TOKENS))
    assert heard.fitted[2].n_iter_ == 3
    assert_array_equal(heard.fitted[-1].predict_proba(TOKENS), head.predict_proba(TOKENS))
    assert len({one.weights_["head.weight"].tobytes() for one in heard.fitted[:-1]}) == 6


def test_a_callback_can_stop_the_training() -> None:
    head = MAPClassifier(n_steps=20, schedule="constant", warmup_fraction=0, random_state=0)
    stopped = clone(head).set_callbacks(heard := Heard(stop_at=4)).fit(TOKENS, LABELS)
    assert stopped.n_iter_ == 4
    assert heard.names() == ["step"] * 4 + ["fit"]
    short = head.set_params(n_steps=4).fit(TOKENS, LABELS)
    assert_array_equal(stopped.predict_proba(TOKENS), short.predict_proba(TOKENS))


def test_a_callback_that_raises_ends_the_fit() -> None:
    class Angry(Heard):
        def on_fit_task_end(self, estimator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: ARG002
            self._hear("end", context)
            if context.task_id == 2:
                raise RuntimeError("enough of this")

    # Heads that calibrate it are trained with it, so that its training is tried again by itself.
    head = MAPClassifier(n_steps=6, random_state=0, calibrate=True).set_callbacks(angry := Angry())
    with pytest.raises(RuntimeError, match="enough of this"):
        head.fit(TOKENS, LABELS)
    assert angry.names() == ["step"] * 3
    assert angry.events[-1][0] == "teardown"
    assert not hasattr(head, "_callback_fit_ctx")


def test_scores_are_monitored() -> None:
    monitor = callback.ScoringMonitor(scoring="accuracy")
    head = MAPClassifier(n_steps=30, lr=0.1, random_state=0, reject=0.2).set_callbacks(monitor).fit(TOKENS, LABELS)
    scores = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "step"]
    assert len(scores) == 30
    assert scores[0] < scores[-1] == head.set_params(reject=None).score(TOKENS, LABELS)


def test_samples_without_a_label_are_left_out_of_what_is_told() -> None:
    labels = [label if i % 12 < 9 else None for i, label in enumerate(LABELS.tolist())]
    heard = Heard()
    ShrinkageProbeClassifier().set_callbacks(heard).fit(VECTORS, labels, np.arange(24) + 1.0)
    [(X, y, metadata)] = heard.data
    assert y.tolist() == ["cat"] * 9 + ["dog"] * 9
    assert_array_equal(X, np.concatenate([VECTORS[:9], VECTORS[12:21]]))
    assert metadata["sample_weight"].tolist() == [*range(1, 10), *range(13, 22)]


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        *((one, LABELS) for one in (RidgeProbeClassifier(), LogisticProbeClassifier(), PrototypeClassifier())),
        *((one, LABELS) for one in (ShrinkageProbeClassifier(), TransductiveClassifier(), NoveltyDetector())),
        (ShrinkageRegressor(), np.arange(24.0)),
        (MultiLabelProbeClassifier(), np.stack([LABELS == "dog", np.arange(24) % 2], 1).astype(int)),
        (ConformalClassifier(ShrinkageProbeClassifier(), 0.8), LABELS),
    ],
    ids=repr,
)
def test_closed_forms_tell_of_their_fit(estimator: Any, y: Any) -> None:
    heard = Heard()
    plain, watched = clone(estimator).fit(VECTORS, y), clone(estimator).set_callbacks(heard).fit(VECTORS, y)
    assert heard.names() == ["fit"]
    assert is_well_formed(heard)
    assert_array_equal(plain.predict(VECTORS), watched.predict(VECTORS))
    assert_array_equal(heard.fitted[0].predict(VECTORS), plain.predict(VECTORS))


def test_a_classifier_inside_is_heard_too() -> None:
    heard = HeardWithin()
    AbstentionClassifier(ShrinkageProbeClassifier()).set_callbacks(heard).fit(VECTORS, LABELS)
    assert [event[1:3] for event in heard.events if event[0] == "end"] == [
        ("ShrinkageProbeClassifier", "fit"),
        ("AbstentionClassifier", "fit"),
    ]
    assert is_well_formed(heard)


def test_few_shot_classifier_tells_of_its_members() -> None:
    head = FewShotClassifier(effort="high", n_folds=3, n_steps=8, random_state=0)
    plain, watched = clone(head).fit(TOKENS, LABELS), clone(head).set_callbacks(heard := Heard()).fit(TOKENS, LABELS)
    assert_array_equal(plain.predict_proba(TOKENS), watched.predict_proba(TOKENS))
    assert is_well_formed(heard)
    names = heard.names()
    n_kept = int((watched.weights_[1:] > 0).sum())
    assert names[0] == "probe"
    assert names.count("token-head") == 4 * 3 + n_kept
    assert [name for name in names if name != "token-head"] == [
        *("probe", "token-heads-on-folds", "token-heads-on-all-samples", "fit")
    ]
    fast = FewShotClassifier().set_callbacks(heard := Heard())
    fast.fit(VECTORS, LABELS)
    assert heard.names() == ["probe", "fit"]


@pytest.mark.parametrize("store", [False, True])
def test_extractor_tells_of_batches(store: bool, tmp_path: Path) -> None:
    images = np.concatenate([IMAGES, IMAGES[:3]])
    extractor = FrozenFeatureExtractor(output="mean", batch_size=5, store=tmp_path if store else None)
    for _ in range(2):  # the second time, from the store
        plain = clone(extractor).fit_transform(images)
        watched = clone(extractor).set_callbacks(heard := Heard()).fit_transform(images)
        assert_array_equal(plain, watched)
        assert heard.names() == ["batch"] * 6 + ["extract-features", "fit-transform"]
        assert is_well_formed(heard)
    clone(extractor).set_callbacks(heard := Heard()).fit(images).transform(images)
    assert heard.names() == ["fit"]


def test_image_classifier_tells_of_all_it_does() -> None:
    classifier = ImageClassifier(n_views=2, batch_size=16)
    plain = clone(classifier).fit(IMAGES, LABELS)
    watched = clone(classifier).set_callbacks(heard := HeardWithin()).fit(IMAGES, LABELS)
    assert_array_equal(plain.predict_proba(IMAGES), watched.predict_proba(IMAGES))
    assert is_well_formed(heard)
    assert [event[1:3] for event in heard.events if event[0] == "end"] == [
        *[("FrozenFeatureExtractor", "batch")] * 3,
        ("FrozenFeatureExtractor", "extract-features"),
        ("FrozenFeatureExtractor", "fit-extract"),
        ("ShrinkageProbeClassifier", "fit"),
        ("FewShotClassifier", "fit"),
        ("ImageClassifier", "prediction-sets"),
        ("ImageClassifier", "fit"),
    ]


def test_a_pipeline_hands_callbacks_on() -> None:
    pipeline = make_pipeline(FrozenFeatureExtractor(output="mean"), RidgeProbeClassifier())
    pipeline.set_callbacks(heard := HeardWithin()).fit(IMAGES, LABELS)
    assert is_well_formed(heard)
    assert ("end", "FrozenFeatureExtractor", "batch", (0, 0, 0, 0)) in heard.events
    assert ("end", "RidgeProbeClassifier", "fit", (0, 1)) in heard.events


@pytest.mark.parametrize("kind", [GridSearchCV, BatchedSearchCV])
def test_searches_hand_callbacks_on_to_the_best(kind: Any) -> None:
    search = kind(MAPClassifier(n_steps=4, random_state=0), {"lr": [0.01, 0.1]}, cv=2)
    search.set_callbacks(heard := HeardWithin()).fit(TOKENS, LABELS)
    steps = [path for what, _, name, path in heard.events if what == "end" and name == "step"]
    # Candidates of the batched search are trained together, and told of as a whole.
    assert [path for path in steps if path[:2] == (0, 1)] == [(0, 1, i) for i in range(4)]
    assert len(steps) == (4 if kind is BatchedSearchCV else 5 * 4)
    names = heard.names()
    assert names[-1] == "fit"
    assert {path for what, _, _, path in heard.events if what == "end" and path[:2] == (0, 0)} >= {
        (0, 0, i) for i in range(4)
    }
    plain = clone(search).set_callbacks().fit(TOKENS, LABELS)
    assert_array_equal(plain.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])
    assert_array_equal(plain.predict_proba(TOKENS), search.predict_proba(TOKENS))


def test_a_batched_search_tells_of_samples() -> None:
    search = BatchedSearchCV(PrototypeClassifier(), {"center": [True, False]}, cv=2, refit=False)
    search.set_callbacks(heard := Heard()).fit(VECTORS, LABELS, sample_weight=np.arange(24.0))
    X, y, metadata = heard.data[0]
    assert X.shape == (12, 8)
    assert len(y) == len(metadata["sample_weight"]) == 12


def test_heads_with_their_own_callbacks_are_not_trained_together() -> None:
    monitor = callback.ScoringMonitor(scoring="accuracy")
    search = BatchedSearchCV(
        MAPClassifier(n_steps=3, random_state=0).set_callbacks(monitor), {"lr": [0.01, 0.1]}, cv=2, refit=False
    )
    with pytest.warns(BatchFallbackWarning, match="callbacks of its own"):
        search.fit(TOKENS, LABELS)
    rows = monitor.get_logs().data
    assert sum(row["task_name"] == "step" for row in rows) == 4 * 3


def test_bars_of_tqdm_are_hidden_behind_those_of_scikit_learn(capsys: pytest.CaptureFixture[str]) -> None:
    head = MAPClassifier(n_steps=3, random_state=0, verbose=True)
    for estimator in (head, BatchedSearchCV(head, {"lr": [0.1]}, cv=2, progress=True)):
        with redirect_stderr(io.StringIO()) as lines:
            clone(estimator).set_callbacks(callback.ProgressBar()).fit(TOKENS, LABELS)
        assert "train" not in lines.getvalue()
        assert "search" not in lines.getvalue()
        assert f"{type(estimator).__name__} - fit" in capsys.readouterr().out


def test_callbacks_are_cloned_and_pickled_and_not_saved(tmp_path: Path) -> None:
    monitor = callback.ScoringMonitor(scoring="accuracy")
    head = MAPClassifier(n_steps=3, random_state=0).set_callbacks(monitor)
    assert clone(head)._skl_callbacks == [monitor]
    head.fit(TOKENS, LABELS)
    again = pickle.loads(pickle.dumps(head))  # noqa: S301
    assert len(again._skl_callbacks) == 1
    assert_array_equal(again.predict(TOKENS), head.predict(TOKENS))
    frofa.save(head, tmp_path / "head.frofa")
    frofa.save(head.set_callbacks(), tmp_path / "plain.frofa")
    assert contents(tmp_path / "head.frofa") == contents(tmp_path / "plain.frofa")
    assert not hasattr(frofa.load(tmp_path / "head.frofa"), "_skl_callbacks")


def contents(file: Path) -> tuple[Any, bytes]:
    """Header and tensors of a safetensors file, whose header may have its keys in any order."""
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def test_sharing_an_encoder_keeps_callbacks() -> None:
    encoder: Any = len
    heard = Heard()
    assert clone(FrozenFeatureExtractor(encoder).set_callbacks(heard))._skl_callbacks == [heard]


def test_no_context_is_made_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a context was made")

    monkeypatch.setattr(callback.CallbackContext, "_from_estimator", refuse)
    monkeypatch.setattr(callback.CallbackContext, "_from_parent", refuse)
    ImageClassifier(n_views=1).fit(IMAGES, LABELS)
    MAPClassifier(n_steps=2, random_state=0).fit(TOKENS, LABELS)


def test_heads_stand_beside_estimators_of_scikit_learn() -> None:
    pipeline = make_pipeline(StandardScaler(), RidgeProbeClassifier()).set_callbacks(heard := HeardWithin())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn warns of estimators that take no callbacks
        pipeline.fit(VECTORS, LABELS)
    assert [event[1] for event in heard.events if event[0] == "end"] == [
        *("StandardScaler", "RidgeProbeClassifier", "Pipeline")
    ]


@pytest.mark.parametrize("counts", [[1] * 7, [3, 4], [7], [3, -2, 3, 3], [0, 6]])
def test_parts_of_common_work_are_told_once(counts: list[int]) -> None:
    told: list[str] = []
    task: Any = task_of(object())
    task.step = told.append
    count = TaskCounter(task, "batch", 3, 7)
    for n in counts:
        count(n)
    assert told == ["batch"] * (3 if sum(counts) == 7 else 2)
    count.up_to(7)
    assert told == ["batch"] * 3


def test_a_task_is_over_when_its_fit_is() -> None:
    head = RidgeProbeClassifier().set_callbacks(heard := Heard())
    fit: Callable[..., Any] = head.fit
    with pytest.raises(ValueError, match="NaN"):
        fit(VECTORS * np.nan, LABELS)
    assert heard.events == []
    with fit_task(RidgeProbeClassifier()) as task:
        assert not task.is_heard
        assert not task.step("step")


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).parents[1].joinpath("docs", "progress.md").read_text("utf-8")
    names: dict[str, Any] = {"images": IMAGES[::3], "tokens": TOKENS[::3], "labels": LABELS[::3]}
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(example, names)
    assert "ImageClassifier - extract-features | FrozenFeatureExtractor" in capsys.readouterr().out
    assert len(names["monitor"].get_logs().data) == 101
    head = MAPClassifier(lr=0.1, n_steps=100, random_state=0).set_callbacks(names["GoodEnough"]()).fit(TOKENS, LABELS)
    assert head.n_iter_ < 100
    assert head.score(TOKENS, LABELS) > 0.99
