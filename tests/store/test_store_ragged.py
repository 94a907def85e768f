"""Ragged tokens in a store: whole or not there, whoever is killed, and whoever writes beside."""

import signal
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from store_helpers import SPEC, STEP, Child, Faults, forks, full_once, keys, kill

from frofa import FeatureStore, RaggedTokens
from frofa.cli import main
from frofa.decoding.views import PLAIN, ImageView
from frofa.exceptions import StoreError
from frofa.extraction.sinks import Lack, Share, StoreSink
from frofa.images.reading import content
from frofa.store import FeatureSpec
from frofa.store.ragged import PAGE, RaggedStore, grid_spec, page_spec

pytestmark = [pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")]
N, CHANNELS = 10, 3


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is a commit; nothing is synced, for speed."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("frofa.store.writer.COMMIT_SECONDS", 0.0)
    monkeypatch.setattr("frofa.store.disk.table.LOOSE_ROWS", 0)


def tokens(numbers: Iterable[int], dtype: Any = np.float32) -> RaggedTokens:
    """Of image i, what i determines: 1 to 60 tokens."""
    images = list(numbers)
    grids = np.array([[1 + i % 5, 1 + 4 * i % 12] for i in images]).reshape(-1, 2)
    values = [np.arange(h * w * CHANNELS).reshape(-1, CHANNELS) + i for i, (h, w) in zip(images, grids, strict=True)]
    return RaggedTokens(np.concatenate([np.zeros((0, CHANNELS)), *values]).astype(dtype), grids)


def write(path: Path, report: Any = lambda _: None, numbers: Iterable[int] = range(N), batch: int = 3) -> None:
    """Write what is missing, as an extraction does, and report how many images are done."""
    store = RaggedStore(FeatureStore(path))
    wanted = list(numbers)
    absent = set(store.missing(SPEC, keys(wanted)))
    left = [i for i in wanted if keys([i])[0] in absent]
    done = len(wanted) - len(left)

    def committed(number: int) -> None:
        nonlocal done
        done += number
        report(done)

    with store.writer(SPEC, committed) as writer:
        for start in range(0, len(left), batch):
            part = left[start : start + batch]
            writer.add(keys(part), tokens(part))


def assert_holds(path: Path, numbers: Iterable[int]) -> None:
    store, wanted = RaggedStore(FeatureStore(path)), list(numbers)
    assert store.missing(SPEC, keys(wanted)) == []
    if wanted:
        assert store.features(SPEC, keys(wanted)).equals(tokens(wanted))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_what_is_written_is_read(tmp_path: Path, dtype: str) -> None:
    store, spec = RaggedStore(FeatureStore(tmp_path / "store")), replace(SPEC, dtype=dtype)
    images = tokens(range(N), np.float16 if dtype == "float16" else np.float32)
    with store.writer(spec) as writer:
        writer.add(keys(range(N)), images)
    order = [3, 0, 3, 9]
    expected = images[order]
    if dtype == "bfloat16":
        rounded = torch.from_numpy(expected.values).to(torch.bfloat16).float().numpy()
        expected = RaggedTokens(rounded, expected.grids)
    assert store.features(spec, keys(order)).equals(expected)
    assert len(store.features(spec)) == N


def test_reading_in_small_parts_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "store")
    monkeypatch.setattr("frofa.store.ragged.PAGES_BYTES", 2 * PAGE * CHANNELS * 4)
    assert_holds(tmp_path / "store", range(N))


def test_knows_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "store"
    assert RaggedStore(FeatureStore(path)).missing(SPEC, keys([1, 2, 1])) == keys([1, 2])
    write(path, numbers=range(4))
    store = RaggedStore(FeatureStore(path))
    assert store.missing(SPEC, keys([9, 2, 5, 9])) == keys([9, 5])
    with pytest.raises(KeyError, match="1 of 2 keys are not in"):
        store.features(SPEC, keys([2, 9]))


def test_files_are_those_of_a_store(tmp_path: Path) -> None:
    """All that a store does with features, it does with these."""
    path = tmp_path / "store"
    write(path, numbers=range(6))
    write(path, numbers=range(3, N))
    store = FeatureStore(path)
    n_pages = sum(-(-size // PAGE) for size in tokens(range(N)).sizes)
    assert {info.spec.output: info.n_images for info in store.info() if info.spec is not None} == {
        page_spec(SPEC).output: n_pages,
        grid_spec(SPEC).output: N,
    }
    assert {info.unit for info in store.info()} == {"pages of images", "grids of images"}
    store.compact()
    assert store.verify() == []
    assert_holds(path, range(N))


def test_its_images_are_found_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    spec = replace(SPEC, output="tokens")
    store, other = FeatureStore(tmp_path / "store"), replace(spec, weights="others")
    assert "under any spec" in str(store.explain(image, spec))
    with RaggedStore(store).writer(spec) as writer:
        writer.add([content(image)[1], content(tmp_path / "a.png")[1]], tokens([33, 7]))
    for asked in (spec, page_spec(spec), grid_spec(spec)):
        assert store.explain(image, asked).hit
    assert store.explain(image, other).differences == {page_spec(spec).digest: {"weights": ("others", spec.weights)}}
    assert main(["store", "explain", "--store", str(store.path), str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out.startswith("hit: ")
    assert main(["store", "info", "--store", str(store.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"{page_spec(spec).digest}  ") and " pages of images, " in line for line in lines)
    assert lines[-1] == f"{store.path}: 2 specs, features of 2 images"


@pytest.mark.parametrize("kept", [page_spec, grid_spec])
def test_pages_and_grids_are_kept_together(tmp_path: Path, kept: Callable[[FeatureSpec], FeatureSpec]) -> None:
    store, other = RaggedStore(FeatureStore(tmp_path / "store")), replace(SPEC, weights="others")
    for spec in (SPEC, other):
        with store.writer(spec) as writer:
            writer.add(keys(range(N)), tokens(range(N)))
    FeatureStore(tmp_path / "store").gc([kept(SPEC).digest])
    assert set(store.store.specs()) == {page_spec(SPEC).digest, grid_spec(SPEC).digest}
    assert_holds(tmp_path / "store", range(N))


def test_tokens_do_not_meet_those_of_images_of_one_size(tmp_path: Path) -> None:
    path = tmp_path / "store"
    write(path)
    assert FeatureStore(path).missing(SPEC, keys(range(N))) == keys(range(N))


@forks
def test_killed_at_any_call_of_the_system(tmp_path: Path) -> None:
    for at in range(1, 10_000, STEP):
        path = tmp_path / f"store-{at}"

        def act(report: Any, at: int = at, path: Path = path) -> None:
            Faults(at, kill)
            write(path, report)

        status, reported, error = Child(act).wait()
        if status == 0:
            break
        assert status == -signal.SIGKILL, error
        assert FeatureStore(path).verify() == []
        there = N - len(RaggedStore(FeatureStore(path)).missing(SPEC, keys(range(N))))
        assert there >= max([0, *reported])
        assert_holds(path, range(there))
        write(path)
        assert_holds(path, range(N))
    assert at > 10


@forks
def test_killed_between_pages_and_grids(tmp_path: Path) -> None:
    path = tmp_path / "store"
    write(path, numbers=range(3))

    def act(_: Any) -> None:
        store = RaggedStore(FeatureStore(path))
        writer = store.writer(SPEC)
        writer._grids.commit = lambda: kill(None)  # type: ignore[method-assign, arg-type]
        writer.add(keys(range(3, N)), tokens(range(3, N)))

    assert Child(act).wait()[0] == -signal.SIGKILL
    assert len(FeatureStore(path).features(page_spec(SPEC))) > len(FeatureStore(path).features(grid_spec(SPEC))) * 2
    assert RaggedStore(FeatureStore(path)).missing(SPEC, keys(range(N))) == keys(range(3, N))
    write(path)
    assert_holds(path, range(N))


@forks
def test_a_disk_that_is_full_for_a_moment_leaves_no_image_without_pages(tmp_path: Path) -> None:
    for at in range(1, 10_000, STEP):
        path = tmp_path / f"store-{at}"

        def act(report: Any, at: int = at, path: Path = path) -> None:
            Faults(at, full_once, removals=False)
            write(path, report)

        status, _, error = Child(act).wait()
        if status == 0:
            break
        assert "No space left" in error
        store = RaggedStore(FeatureStore(path))
        absent = set(store.missing(SPEC, keys(range(N))))
        grids = FeatureStore(path).missing(grid_spec(SPEC), keys(range(N)))
        assert absent == set(grids)
        assert_holds(path, [i for i in range(N) if keys([i])[0] not in absent])
        write(path)
        assert_holds(path, range(N))
    assert at > 10


@forks
def test_two_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "store"
    others = [Child(partial(write, path, numbers=range(n, N), batch=1)) for n in (0, 4)]
    write(path, numbers=range(7))
    assert [other.wait()[0] for other in others] == [0, 0]
    assert_holds(path, range(N))
    store = FeatureStore(path)
    store.compact()
    assert len(store.features(grid_spec(SPEC))) == N
    assert_holds(path, range(N))


def test_a_lost_page_is_an_error_that_says_so_and_is_extracted_again(tmp_path: Path) -> None:
    path = tmp_path / "store"
    write(path, batch=N)
    [shard] = (path / page_spec(SPEC).digest / "shards").iterdir()
    data = bytearray((shard / "features.npy").read_bytes())
    data[-1] ^= 1  # in the last page of the last image
    (shard / "features.npy").write_bytes(data)
    FeatureStore(path).repair()
    store = RaggedStore(FeatureStore(path))
    lost = store.missing(SPEC, keys(range(N)))
    assert lost == keys([N - 1])
    with pytest.raises(StoreError, match=rf"lacks 1 pages of the tokens of 1 images .* {lost[0]}: extract"):
        store.features(SPEC, keys(range(N)))
    assert store.features(SPEC, keys(range(N - 1))).equals(tokens(range(N - 1)))
    write(path)
    assert_holds(path, range(N))


def plain(positions: list[int]) -> list[ImageView]:
    return [ImageView(position, PLAIN) for position in positions]


def test_an_extraction_s_sink_writes_what_is_lacking(tmp_path: Path) -> None:
    path = tmp_path / "store"
    write(path, numbers=range(3))
    store = RaggedStore(FeatureStore(path))
    lacking = dict.fromkeys(store.missing(SPEC, keys(range(N))))
    with store.writer(SPEC, automatic=False) as writer:
        sink = StoreSink(dict(enumerate(keys(range(N)))), [Lack(Share(0), lacking, writer)])
        n_done = sink(plain([2, 5, 1, 7]), [tokens([2, 5, 1, 7])])
        n_done += sink(plain([3, 4]), [tokens([3, 4])])
        n_done += sink(plain([0, 6, 8, 9]), [tokens([0, 6, 8, 9])])
        with pytest.raises(ValueError, match="different shapes"):
            sink(plain([0]), [RaggedTokens(np.zeros((1, 7), np.float32), np.array([[1, 1]]))])
        n_done += sink.commit()
    assert n_done == N
    assert sink.n_added == [7]
    assert_holds(path, range(N))


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    store = RaggedStore(FeatureStore(tmp_path / "store"))
    with store.writer(SPEC) as writer:
        with pytest.raises(ValueError, match="Got 3 keys, 2 images"):
            writer.add(keys(range(3)), tokens(range(2)))
        with pytest.raises(ValueError, match="expected features of float32"):
            writer.add(keys(range(2)), tokens(range(2), np.float16))
    assert store.missing(SPEC, keys(range(3))) == keys(range(3))
