"""Names of images in a store: found by key, the latest first, with labels; merged, damaged, and not there."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frofa import FeatureStore, FrozenFeatureExtractor
from frofa.encoders import FunctionEncoder
from frofa.store.keys import as_keys, to_hex
from frofa.store.names import MAX_TABLES, ImageNames, Named

KEYS = [f"{i:02x}" * 20 for i in range(40)]


def test_names_are_found_by_key_the_latest_place_first(tmp_path: Path) -> None:
    names = ImageNames(tmp_path / "names")
    assert names.find(KEYS[:2]) == [[], []]
    first, moved = Named("/a/1.png", "cat"), Named("/b/1.png", "cat")
    assert names.remember(KEYS[:2], [first, Named("/a/caf\udce9\n.png", "")]) == 2
    assert names.remember(KEYS[:1], [moved]) == 1
    assert names.remember(KEYS[:2], [first, Named("/a/caf\udce9\n.png", "")]) == 0
    assert ImageNames(tmp_path / "names").find([KEYS[1], KEYS[0], KEYS[5]]) == [
        [Named("/a/caf\udce9\n.png", "")],
        [moved, first],
        [],
    ]


def test_a_label_that_changes_back_is_the_latest(tmp_path: Path) -> None:
    names = ImageNames(tmp_path / "names")
    for label in ("cat", "dög", "cat"):
        assert names.remember(KEYS[:1], [Named("/1.png", label)]) == 1
    assert names.find(KEYS[:1]) == [[Named("/1.png", "cat")]]
    assert to_hex(names.labelled(["cat", "bird"])) == KEYS[:1]
    assert not len(names.labelled(["dög"]))
    assert names.all_labels() == ["cat", "dög"]


def test_a_label_is_not_forgotten_by_who_does_not_know_it(tmp_path: Path) -> None:
    names = ImageNames(tmp_path / "names")
    assert names.remember(KEYS[:1], [Named("/1.png", "")]) == 1
    assert names.remember(KEYS[:1], [Named("/1.png", "cat")]) == 1
    assert names.remember(KEYS[:1], [Named("/1.png", "")]) == 0
    assert names.find(KEYS[:1]) == [[Named("/1.png", "cat")]]


def test_many_tables_become_one_and_lose_nothing(tmp_path: Path) -> None:
    names = ImageNames(tmp_path / "names")
    for i, key in enumerate(KEYS):
        names.remember([key], [Named(f"/{i}.png", str(i % 3))])
        assert len(list((tmp_path / "names").glob("*.records.npy"))) <= MAX_TABLES
    assert names.find(KEYS) == [[Named(f"/{i}.png", str(i % 3))] for i in range(len(KEYS))]
    assert sorted(to_hex(names.labelled(["1"]))) == KEYS[1::3]


def test_keys_with_one_prefix_are_told_apart(tmp_path: Path) -> None:
    keys = as_keys(["ab" * 20, "ab" * 8 + "cd" * 12])
    names = ImageNames(tmp_path / "names")
    names.remember(keys, [Named("/1", ""), Named("/2", "")])
    assert [[one.path for one in found] for found in names.find(keys)] == [["/1"], ["/2"]]


@pytest.mark.parametrize("kind", ["records", "text"])
def test_damaged_names_are_no_names(kind: str, tmp_path: Path) -> None:
    names = ImageNames(tmp_path / "names")
    names.remember(KEYS[:1], [Named("/1.png", "cat")])
    [file] = (tmp_path / "names").glob(f"*.{kind}.npy")
    data = bytearray(file.read_bytes())
    data[-7] ^= 1
    file.write_bytes(data)
    assert ImageNames(tmp_path / "names").find(KEYS[:1]) == [[]]
    file.write_bytes(data[:-3])
    assert ImageNames(tmp_path / "names").find(KEYS[:1]) == [[]]


def test_models_are_known_by_spec(tmp_path: Path) -> None:
    names = ImageNames(tmp_path / "names")
    assert names.model("0" * 40) is None
    names.remember_model("0" * 40, "local-dir:/x")
    names.remember_model("0" * 40, "local-dir:/y")
    assert names.model("0" * 40) == "local-dir:/y"
    (tmp_path / "names" / f"{'0' * 40}.json").write_text("{}")
    assert names.model("0" * 40) is None


def test_a_run_remembers_files_with_their_labels(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((8, 8, 3), 90 * i, np.uint8)).save(path)
    extractor = FrozenFeatureExtractor(store=tmp_path / "store")
    in_memory = Image.new("RGB", (9, 9))
    found = extractor.extract([*paths, in_memory], ["x", "y", None, "z"])
    names = FeatureStore(tmp_path / "store").image_names()
    expected = [[Named(str(path), label)] for path, label in zip(paths, ["x", "y", ""], strict=True)]
    assert found.keys is not None
    assert names.find(found.keys) == [*expected, []]
    assert names.model(extractor.feature_spec().digest) == "frofa/vit_tiny_tin200"


def test_a_custom_encoder_does_not_need_names(tmp_path: Path) -> None:
    encoder = FunctionEncoder(lambda batch: np.ones((len(batch), 2), np.float32), "v1")
    FrozenFeatureExtractor(encoder, store=tmp_path / "store").transform([np.zeros(3), np.ones(3)])
