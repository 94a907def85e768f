"""Parameters of augmentations: scikit-learn's conventions, levels, files, and what is refused."""

import inspect
import math
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from augmentation_helpers import ALL, SINGLE, TYPICAL, batch_of, each, flat, same, seeded
from sklearn.base import clone

import frofa
from frofa.augmentations import (
    Augmentation,
    Brightness,
    Contrast,
    Crop,
    GaussianNoise,
    Invert,
    MixUp,
    Posterize,
    RandAugment,
    RandomApply,
    RandomChoice,
    Rotate,
    Sequential,
    TrivialAugment,
)

BATCH = batch_of(TYPICAL)
KINDS = {type(augment): augment for augment in ALL}
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
NESTED = Sequential([RandomApply([RandAugment(operations=[Rotate(3), Invert()])], p=0.3), TrivialAugment()])


@each([*ALL, NESTED])
def test_a_clone_is_another_of_the_same(augment: Augmentation) -> None:
    copy = clone(augment)
    assert copy is not augment
    assert repr(copy) == repr(augment)
    assert same(copy(BATCH, seeded()), augment(BATCH, seeded()))
    for name, value in copy.get_params().items():
        assert not isinstance(value, Augmentation) or value is not augment.get_params()[name]


@each([*ALL, NESTED])
def test_the_repr_is_code(augment: Augmentation) -> None:
    copy = eval(repr(augment), vars(frofa.augmentations))
    assert repr(copy) == repr(augment)
    assert same(copy(BATCH, seeded()), augment(BATCH, seeded()))


def test_the_repr_says_what_differs_from_the_defaults() -> None:
    assert repr(Brightness(0.5)) == "Brightness()"
    assert repr(Rotate(15, fill="edge")) == "Rotate(degrees=15, fill='edge')"
    assert repr(RandomApply([Crop(), MixUp(1.0)])) == "RandomApply(steps=[Crop(), MixUp(alpha=1.0)])"


@each([*ALL, NESTED])
def test_pickle_and_files_keep_everything(augment: Augmentation, tmp_path: Path) -> None:
    frofa.save(augment, tmp_path / "augment.frofa")
    for copy in (pickle.loads(pickle.dumps(augment)), frofa.load(tmp_path / "augment.frofa")):  # noqa: S301
        assert type(copy) is type(augment)
        assert repr(copy) == repr(augment)
        assert same(copy(BATCH, seeded()), augment(BATCH, seeded()))


@every_kind
def test_documented_defaults_are_the_real_ones(kind: type[Augmentation]) -> None:
    documented = dict(re.findall(r"^(\w+) : .*, default=(.+)$", str(inspect.getdoc(kind)), re.MULTILINE))
    signature = inspect.signature(kind)
    defaults = {name: p.default for name, p in signature.parameters.items() if p.default is not p.empty}
    assert {name: eval(value) for name, value in documented.items()} == defaults
    assert set(kind._get_param_names()) == set(signature.parameters)


@each(SINGLE)
def test_parameters_can_be_set_one_by_one(augment: Augmentation) -> None:
    copy: Augmentation = type(augment)()
    for name, value in augment.get_params().items():
        assert copy.set_params(**{name: value}) is copy
    assert repr(copy) == repr(augment)
    assert same(copy(BATCH, seeded()), augment(BATCH, seeded()))


@each(SINGLE)
def test_numbers_of_numpy_are_numbers(augment: Augmentation) -> None:
    numbers = {name: value for name, value in augment.get_params().items() if isinstance(value, (int, float))}
    copy = clone(augment).set_params(
        **{name: np.float64(value) for name, value in numbers.items() if not isinstance(value, bool)}
    )
    assert same(copy(BATCH, seeded()), augment(BATCH, seeded()))


@pytest.mark.parametrize("kind", [Sequential, RandomApply, RandomChoice])
def test_members_are_reached_by_name(kind: Any) -> None:
    augment = kind([Brightness(0.2), Posterize(), Posterize(0.3)])
    assert augment.get_params()["brightness__level"] == 0.2
    assert augment.get_params()["posterize-2__level"] == 0.3
    assert set(augment.get_params(deep=False)) == {kind.members, *({"p"} if kind is RandomApply else ())}
    noise = GaussianNoise(0.3)
    copy = clone(augment).set_params(**{"brightness__level": 0.9, "posterize-1": Contrast(0.7), "posterize-2": noise})
    assert flat(augment).endswith("=[Brightness(level=0.2), Posterize(), Posterize(level=0.3)])")
    assert flat(copy).endswith("=[Brightness(level=0.9), Contrast(level=0.7), GaussianNoise(std=0.3)])")
    copy.set_params(**{kind.members: [Brightness()], "brightness__clip": False})
    assert flat(copy).endswith("=[Brightness(clip=False)])")
    with pytest.raises(ValueError, match="sharpness"):
        augment.set_params(sharpness__level=1)


def test_members_of_members_are_reached_by_name() -> None:
    copy = clone(NESTED).set_params(
        randomapply__p=0.9,
        randomapply__randaugment__n_ops=1,
        randomapply__randaugment__rotate__fill="edge",
        trivialaugment__operations=[Contrast()],
    )
    copy.set_params(trivialaugment__contrast__level=0.1)
    assert copy.get_params()["randomapply__randaugment__rotate__fill"] == "edge"
    assert flat(copy) == (
        "Sequential(steps=[RandomApply(p=0.9, steps=[RandAugment(n_ops=1, operations=[Rotate(degrees=3, fill='edge'), "
        "Invert()])]), TrivialAugment(operations=[Contrast(level=0.1)])])"
    )
    assert NESTED.get_params()["randomapply__randaugment__rotate__fill"] == "mean"


@each(SINGLE)
def test_a_level_is_linear_and_changes_nothing_else(augment: Augmentation) -> None:
    assert augment.strength is not None
    name, neutral, strongest = augment.strength
    before = augment.get_params()
    for level in (0, 0.25, 1):
        copy = augment.at_level(level)
        copy.validate()
        assert copy.get_params().pop(name) == pytest.approx(neutral + level * (strongest - neutral))
        assert {**copy.get_params(), name: 0} == {**before, name: 0}
    assert augment.get_params() == before
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=f"level must be in .* Got {wrong}"):
            augment.at_level(wrong)


def test_a_sequence_has_the_level_of_all_its_steps() -> None:
    both = Sequential([Rotate(), Sequential([Crop()])]).at_level(0.5)
    assert flat(both) == "Sequential(steps=[Rotate(degrees=15.0), Sequential(steps=[Crop(min_side=0.55)])])"
    assert repr(RandomApply([Crop()]).at_level(0.25)) == "RandomApply(p=0.25, steps=[Crop()])"
    assert repr(RandAugment().at_level(0.5)) == "RandAugment(level=0.5)"
    assert repr(TrivialAugment().at_level(0.5)) == "TrivialAugment(max_level=0.5)"
    assert (
        flat(RandomChoice([Rotate(), Invert()]).at_level(0.5))
        == "RandomChoice(choices=[Rotate(degrees=15.0), Invert()])"
    )


WRONG: dict[str, list[Any]] = {
    **{name: [-0.1, 1.5, math.nan, "much", None] for name in ("level", "max_level", "p", "fraction")},
    **{name: [-0.1, math.inf, math.nan, "much"] for name in ("std", "factor", "alpha")},
    "rate": [-0.1, 1.0, math.nan, "much"],
    "min_side": [0, 1.1, math.nan],
    "min_area": [0, 1.1, math.nan],
    "max_aspect": [0.9, math.inf, math.nan],
    "degrees": [-1, 181, math.nan],
    "quality": [0, 101, math.nan],
    "n_ops": [0, 1.5, "two"],
    "variant": ["c3", None, 2],
    "fill": ["mirror", 0],
    "clip": ["yes", None, 3],
}
MEMBERS = ("steps", "choices", "operations")


@every_kind
def test_invalid_parameters_are_named(kind: type[Augmentation]) -> None:
    for name in KINDS[kind].get_params(deep=False):
        for value in WRONG.get(name, []):
            augment = clone(KINDS[kind]).set_params(**{name: value})
            for features in (BATCH, BATCH.patches):
                message = f"The '{name}' parameter of {kind.__name__} must be .* Got {re.escape(repr(value))}"
                with pytest.raises(ValueError, match=message):
                    augment(features, seeded())
        assert name in WRONG or name in MEMBERS


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (GaussianNoise(variant="c"), ValueError, "'variant' parameter of GaussianNoise .* Got 'c'"),  # type: ignore[arg-type]
        (Sequential([Brightness(), Posterize(2)]), ValueError, "'level' parameter of Posterize .* Got 2"),
        (RandomChoice([RandomApply([Crop(0)])]), ValueError, "'min_side' parameter of Crop .* Got 0"),
        (RandAugment(operations=[Invert(2)]), ValueError, "'p' parameter of Invert .* Got 2"),
        (TrivialAugment(operations=[Invert(2)]), ValueError, "'p' parameter of Invert .* Got 2"),
        (Sequential([Brightness(), "blur"]), TypeError, "'steps' .* list of augmentations. Got 'blur'"),  # type: ignore[list-item]
        (Sequential(Brightness()), TypeError, "'steps' parameter .* Got Brightness"),
        (RandomChoice("blur"), TypeError, "'choices' parameter .* Got 'blur'"),  # type: ignore[arg-type]
        (RandomApply([Brightness]), TypeError, "'steps' .* list of augmentations. Got <class .*Brightness"),  # type: ignore[list-item]
        (RandAugment(operations=[1]), TypeError, "'operations' .* list of augmentations. Got 1"),  # type: ignore[list-item]
        (TrivialAugment(operations=Crop()), ValueError, "'operations' parameter of TrivialAugment .* Got Crop"),
    ],
)
def test_invalid_members_are_named(augment: Augmentation, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        augment(BATCH, seeded())
    with pytest.raises(error, match=message):
        augment.validate()
