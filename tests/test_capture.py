"""Recordings on a GPU, with a GPU that is made up: what is recorded, destroyed and given up, and when."""

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from frofa import _capture
from frofa._capture import MOST_FAILURES, Captures, Recording
from frofa.augmentations import TokenBatch
from frofa.estimators import _record
from frofa.estimators._logistic_replay import MOST_KEPT, _Kept
from frofa.estimators._record import Recorded, Replays
from frofa.estimators._schedule import Rule
from frofa.exceptions import RecordingWarning

GPU = torch.device("cuda", 0)
POOL = (0, 1)


class Graph:
    """A CUDA graph that fails as real ones do: where another one is begun or destroyed while it is recorded."""

    recording: "Graph | None" = None
    begun = ended = destroyed = 0
    log: list[str] = []

    def capture_begin(self, pool: Any, capture_error_mode: str) -> None:
        assert Graph.recording is None
        assert (pool, capture_error_mode) == (POOL, "thread_local")
        Graph.recording = self
        Graph.begun += 1

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
    fresh = Captures()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: Graph.log.append("emptied"))
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *_: None, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *_: None, raising=False)
    for module in (_capture, _record):
        monkeypatch.setattr(module, "side_stream", nullcontext)
        monkeypatch.setattr(module, "CAPTURES", fresh)
        monkeypatch.setattr(module, "new_pool", lambda: POOL)
    yield fresh
    assert gc.isenabled()


def recorded(captures: Captures, work: Callable[[], object] = lambda: None) -> Recording:
    recording = captures.record(work, GPU, POOL)
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
        captures.record(fail, GPU, POOL)
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
        assert captures.record(fail, GPU, POOL) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):  # what succeeds shows that others may
            assert captures.record(fail, GPU, POOL) is None
            recorded(captures)
        for _ in range(MOST_FAILURES + 5):
            assert captures.record(fail, GPU, POOL) is None
    assert Graph.begun == Graph.ended == 5 + MOST_FAILURES
    assert captures.record(lambda: None, GPU, POOL) is None


@pytest.mark.filterwarnings("ignore::frofa.exceptions.RecordingWarning")
def test_the_allocator_is_told_of_failures_that_it_does_not_know(
    captures: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda *given: told.append(("end", *given)))
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda *given: told.append(("release", *given)))
    captures.record(fail, GPU, POOL)
    assert told == [("end", 0, POOL), ("release", 0, POOL)]
    assert Graph.destroyed == 0  # PyTorch asks the graph whether it is being recorded

    def known(*_: Any) -> None:
        raise RuntimeError("not currently recording to mempool_id")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", known)
    captures.record(fail, GPU, POOL)
    assert len(told) == 2
    assert Graph.destroyed == 1


def test_too_little_memory_is_for_the_caller(captures: Captures) -> None:
    def work() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    for _ in range(MOST_FAILURES + 1):
        with pytest.raises(torch.OutOfMemoryError):
            captures.record(work, GPU, POOL)
    recorded(captures)


def test_errors_of_other_kinds_are_not_hidden(captures: Captures) -> None:
    with pytest.raises(ZeroDivisionError):
        captures.record(lambda: 1 / 0, GPU, POOL)
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
@pytest.mark.filterwarnings("ignore::frofa.exceptions.RecordingWarning")
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
    replay, worker = Replays(GPU), Worker(fails=False)
    for _ in range(4):
        replay(worker.first)
    replay(worker.second)
    assert worker.done == [2, 1]  # as it is, and while it is recorded
    assert Graph.log == ["replay"] * 3
    del replay
    assert Graph.destroyed == 1


@pytest.mark.filterwarnings("ignore::frofa.exceptions.RecordingWarning")
def test_works_of_which_one_cannot_be_recorded_go_on_as_they_are() -> None:
    replay, worker = Replays(GPU), Worker(fails=True)
    for _ in range(4):
        replay(worker.second)
        replay(worker.first)
    assert worker.done == [4, 4]
    assert Graph.begun == 1


def test_nothing_is_recorded_on_a_cpu() -> None:
    replay, worker = Replays(torch.device("cpu")), Worker(fails=False)
    for _ in range(4):
        replay(worker.first)
    assert (worker.done, Graph.begun, replay.nbytes) == ([4, 0], 0, 0)


class Sized:
    """Something to keep of a known size."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


def test_what_is_kept_fits_into_so_many_bytes() -> None:
    kept: Any = _Kept()
    for i, size in enumerate([40, 30, 30]):
        kept.keep((i,), Sized(size), 100)
    assert len(kept) == 3
    assert kept.take((0,)).nbytes == 40
    assert kept.take((0,)) is None
    kept.keep((0,), Sized(41), 100)  # the last one that was used; the others come before it
    assert [kept.take((i,)) is None for i in range(3)] == [False, True, False]
    kept.keep((3,), Sized(50), 100)
    kept.keep((4,), Sized(101), 100)
    assert len(kept) == 0
    for i in range(MOST_KEPT + 3):
        kept.keep((i,), Sized(0), 100)
    assert len(kept) == MOST_KEPT
    kept.keep((MOST_KEPT,), Sized(1), 100)
    assert len(kept) == MOST_KEPT


def test_what_is_kept_counts_the_memory_of_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_record, "pool_bytes", lambda pool: 1000 if pool == POOL else 0)
    replay, worker = Replays(GPU), Worker(fails=False)
    assert replay.nbytes == 0
    for _ in range(2):
        replay(worker.first)
    assert replay.nbytes == 1000


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
        captures.record(work, GPU, POOL, [generator])
    [(which, state)] = renewed
    assert which is generator
    assert torch.equal(state, before)
