"""Recordings on a GPU, with a GPU that is made up: what is recorded, destroyed and given up, and when."""

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from frofa.augmentations import TokenBatch
from frofa.compute import cuda_graphs as _capture
from frofa.compute.cuda_graphs import MOST_FAILURES, Captures, Pool, Recording, Replays
from frofa.estimators import RecordingWarning
from frofa.estimators.solvers import replay as _logistic_replay
from frofa.estimators.solvers.replay import MOST_KEPT, _Shelf
from frofa.estimators.training import recorded as _record
from frofa.estimators.training.recorded import Recorded
from frofa.estimators.training.schedule import Rule

GPU = torch.device("cuda", 0)
HANDLE = (0, 1)


class Graph:
    """A CUDA graph that fails as real ones do: where another one is begun or destroyed while it is recorded."""

    recording: "Graph | None" = None
    begun = ended = destroyed = reserved = taken = 0
    log: list[str] = []

    def capture_begin(self, pool: Any, capture_error_mode: str) -> None:
        assert Graph.recording is None
        assert (pool, capture_error_mode) == (HANDLE, "thread_local")
        Graph.recording = self
        Graph.begun += 1
        Graph.reserved += Graph.taken

    def capture_end(self) -> None:
        assert Graph.recording is self
        Graph.recording = None
        Graph.ended += 1

    def replay(self) -> None:
        Graph.log.append("replay")

    def __del__(self) -> None:
        Graph.destroyed += 1
        if Graph.recording is not None:
            Graph.log.append("destroyed while another is recorded")


@pytest.fixture(autouse=True)
def captures(monkeypatch: pytest.MonkeyPatch) -> Iterator[Captures]:
    """A process in which nothing was recorded yet."""
    Graph.recording, Graph.begun, Graph.ended, Graph.destroyed, Graph.log = None, 0, 0, 0, []
    Graph.taken = 0
    fresh = Captures()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: HANDLE)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: Graph.reserved)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: Graph.log.append("emptied"))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *_: None, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *_: None, raising=False)
    for module in (_capture, _record):
        monkeypatch.setattr(module, "side_stream", nullcontext)
        monkeypatch.setattr(module, "CAPTURES", fresh)
    yield fresh
    assert gc.isenabled()


def recorded(captures: Captures, work: Callable[[], object] = lambda: None) -> Recording:
    recording = captures.record(work, GPU, Pool())
    assert recording is not None
    return recording


def fail() -> None:
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("drops", ["reference", "cycle", "thread"])
def test_nothing_is_destroyed_while_another_is_recorded(captures: Captures, drops: str) -> None:
    holder: list[Any] = [recorded(captures)]

    def work() -> None:
        if drops == "cycle":
            holder.append(holder[:])
            holder[1].append(holder[1])
            holder.clear()
            gc.collect()
        elif drops == "thread":
            in_thread(holder.clear)
        else:
            holder.clear()

    kept = recorded(captures, work)
    assert Graph.log == []
    assert Graph.destroyed == 1
    kept.replay()
    assert Graph.log == ["replay"]


def test_garbage_is_not_collected_while_something_is_recorded(captures: Captures) -> None:
    recorded(captures, lambda: Graph.log.append(str(gc.isenabled())))
    with pytest.warns(RecordingWarning):
        captures.record(fail, GPU, Pool())
    assert Graph.log == ["False"]
    gc.disable()
    try:
        recorded(captures)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_is_dropped_is_destroyed_at_once_where_nothing_is_recorded(captures: Captures) -> None:
    recording = recorded(captures)
    assert Graph.destroyed == 0
    del recording
    assert Graph.destroyed == 1


def test_threads_record_one_after_another(captures: Captures) -> None:
    barrier, inside, most = threading.Barrier(4), [0], []

    def work() -> None:
        inside[0] += 1
        most.append(inside[0])
        threading.Event().wait(0.01)
        inside[0] -= 1

    def run() -> None:
        barrier.wait(10)
        for _ in range(3):
            recorded(captures, work)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most == [1] * 12
    assert Graph.destroyed == 12


def test_a_failure_is_told_once_and_a_few_in_a_row_end_it(captures: Captures) -> None:
    with pytest.warns(RecordingWarning, match=r"\(operation not permitted when stream is capturing\), and goes on"):
        assert captures.record(fail, GPU, Pool()) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):  # what succeeds shows that others may
            assert captures.record(fail, GPU, Pool()) is None
            recorded(captures)
        for _ in range(MOST_FAILURES + 5):
            assert captures.record(fail, GPU, Pool()) is None
    assert Graph.begun == Graph.ended == 5 + MOST_FAILURES
    assert captures.record(lambda: None, GPU, Pool()) is None


@pytest.mark.filterwarnings("ignore::frofa.estimators.RecordingWarning")
def test_the_allocator_is_told_of_failures_that_it_does_not_know(
    captures: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *given: told.append(("end", *given)))
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *given: told.append(("release", *given)))
    captures.record(fail, GPU, Pool())
    assert told == [("end", 0, HANDLE), ("release", 0, HANDLE)]
    assert Graph.destroyed == 0  # PyTorch asks the graph whether it is being recorded

    def known(*_: Any) -> None:
        raise RuntimeError("not currently recording to mempool_id")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", known)
    captures.record(fail, GPU, Pool())
    assert len(told) == 2
    assert Graph.destroyed == 1


def test_too_little_memory_is_for_the_caller(captures: Captures) -> None:
    def work() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    for _ in range(MOST_FAILURES + 1):
        with pytest.raises(torch.OutOfMemoryError):
            captures.record(work, GPU, Pool())
    recorded(captures)


def test_errors_of_other_kinds_are_not_hidden(captures: Captures) -> None:
    with pytest.raises(ZeroDivisionError):
        captures.record(lambda: 1 / 0, GPU, Pool())
    recorded(captures)


def test_memory_is_given_back_while_nothing_is_recorded(captures: Captures) -> None:
    thread = threading.Thread(target=captures.empty_cache)

    def work() -> None:
        thread.start()
        thread.join(0.05)
        Graph.log.append("recorded")

    recorded(captures, work)
    thread.join(10)
    assert Graph.log == ["recorded", "emptied"]


def rule() -> Rule:
    return Rule(*torch.tensor([[0.1], [0.0], [0.9], [1.0]]))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.filterwarnings("ignore::frofa.estimators.RecordingWarning")
def test_a_step_that_cannot_be_recorded_goes_on_as_it_is(fails: bool) -> None:
    seen: list[float] = []

    def step(batch: TokenBatch, rule: Rule) -> None:
        if fails and Graph.recording is not None:
            fail()
        seen.append(float(batch.patches[0, 0, 0]) + float(rule.lr[0]))

    take = Recorded(step, ())
    for i in range(8):
        batch, now = TokenBatch(torch.full((1, 1, 1), float(i))), rule()
        now.lr.fill_(i / 10)
        take(batch, now)
    if fails:
        assert seen == pytest.approx([1.1 * i for i in range(8)])
        assert Graph.begun == 1
    else:
        assert seen == pytest.approx([0, 1.1, 2.2, 3.3])  # the last one while it is recorded
        assert Graph.log == ["emptied"] + ["replay"] * 5
        assert float(take.batch.patches) == 7
        assert float(take.rule.lr) == pytest.approx(0.7)


class Worker:
    """Two works, as a solver has them."""

    def __init__(self, *, fails: bool) -> None:
        self.fails, self.done = fails, [0, 0]

    def first(self) -> None:
        self.done[0] += 1

    def second(self) -> None:
        if self.fails and Graph.recording is not None:
            fail()
        self.done[1] += 1


def test_works_are_recorded_at_the_second_call() -> None:
    replay, worker = Replays(GPU, Pool()), Worker(fails=False)
    for _ in range(4):
        replay(worker.first)
    replay(worker.second)
    assert worker.done == [2, 1]  # as it is, and while it is recorded
    assert Graph.log == ["replay"] * 3
    del replay
    assert Graph.destroyed == 1


@pytest.mark.filterwarnings("ignore::frofa.estimators.RecordingWarning")
def test_works_of_which_one_cannot_be_recorded_go_on_as_they_are() -> None:
    replay, worker = Replays(GPU, Pool()), Worker(fails=True)
    for _ in range(4):
        replay(worker.second)
        replay(worker.first)
    assert worker.done == [4, 4]
    assert Graph.begun == 1


def test_nothing_is_recorded_on_a_cpu() -> None:
    replay, worker = Replays(torch.device("cpu"), None), Worker(fails=False)
    for _ in range(4):
        replay(worker.first)
    assert (worker.done, Graph.begun) == ([4, 0], 0)


@dataclass(eq=False)
class Sized:
    """Recordings for problems of a shape, of a known size."""

    blocks: Any
    nbytes: int = 0

    def adopt(self, blocks: Any) -> None:
        self.blocks = blocks


def problem(n: int) -> Any:
    return SimpleNamespace(tensors=lambda: [torch.empty(n)])


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Any:
    """With room for 100 bytes."""
    monkeypatch.setattr(_logistic_replay, "_Replayed", lambda blocks, _: Sized(blocks))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=10_000))
    return _Shelf(GPU)


def put(shelf: Any, n: int, nbytes: int) -> None:
    replayed = shelf.take(problem(n))
    replayed.nbytes = nbytes
    shelf.keep(replayed)


def shapes(shelf: Any) -> list[int]:
    return [shape[0] for (shape,) in shelf.kept]


def test_what_is_kept_fits_into_so_many_bytes(shelf: Any) -> None:
    for n, nbytes in enumerate([40, 30, 30]):
        put(shelf, n, nbytes)
    assert shapes(shelf) == [0, 1, 2]
    put(shelf, 0, 41)  # the last one that was used, so that the one before goes
    assert shapes(shelf) == [2, 0]
    put(shelf, 3, 101)
    assert shapes(shelf) == []


def test_the_memory_of_recordings_counts_and_is_let_go(shelf: Any) -> None:
    pool, replay = shelf.pool, Replays(GPU, shelf.pool)
    put(shelf, 0, 30)
    for Graph.taken, work in ((50, Worker(fails=False).first), (20, Worker(fails=False).second)):
        for _ in range(3):
            replay(work)
    assert pool.nbytes == 70
    put(shelf, 1, 10)
    assert shapes(shelf) == [1]
    put(shelf, 2, 31)
    assert shapes(shelf) == []
    assert shelf.pool is not pool


def test_few_recordings_are_kept(shelf: Any) -> None:
    for n in range(MOST_KEPT + 3):
        put(shelf, n, 0)
    assert shapes(shelf) == list(range(3, MOST_KEPT + 3))


def test_threads_do_not_share_recordings(monkeypatch: pytest.MonkeyPatch, shelf: Any) -> None:
    monkeypatch.setattr(_logistic_replay, "_SHELVES", {GPU: [shelf]})
    with _logistic_replay._shelf(GPU) as first, _logistic_replay._shelf(GPU) as second:
        assert first is shelf
        assert second.pool is not shelf.pool
    assert {GPU: [second, first]} == _logistic_replay._SHELVES


def test_generators_are_those_before_where_a_recording_fails(
    captures: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, renewed = Generator().manual_seed(3), []
    monkeypatch.setattr(Graph, "register_generator_state", lambda *_: None, raising=False)
    monkeypatch.setattr(_capture, "_renew", lambda generator, state: renewed.append((generator, state)))
    before = generator.get_state()

    def work() -> Tensor:
        drawn = torch.rand(1, generator=generator)
        fail()
        return drawn

    with pytest.warns(RecordingWarning):
        captures.record(work, GPU, Pool(), [generator])
    [(which, state)] = renewed
    assert which is generator
    assert torch.equal(state, before)
