"""Heads on tokens by the hundred: plans are grouped by shape, cut to what memory holds, and trained together."""

import gc
import threading
import traceback
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from frofa.compute.cuda_graphs import CAPTURES
from frofa.compute.devices import keep_freed_memory, one_thread_each
from frofa.compute.memory import is_out_of_memory
from frofa.estimators.batched.chunks import chunks_of, free_memory, split
from frofa.estimators.tokens.lazy import Tokens
from frofa.estimators.tokens.padding import PaddedTokens
from frofa.estimators.training.loop import ValidationSet, train
from frofa.estimators.training.parameters import Params
from frofa.estimators.training.plan import HeadPlan, LabelledRows, Trained
from frofa.estimators.training.streams import Streams

Outcome = Trained | Exception


def fit_plans(
    tokens: Tokens,
    plans: Sequence[HeadPlan],
    *,
    on_step: Callable[[int], object] = lambda _: None,
    on_done: Callable[[int], object] = lambda _: None,
) -> list[Outcome]:
    """Train the heads of all plans; what a head's training raises is in its place, and harms no other.

    Tokens (n, P + N, C) are floating point, on the device to train on; no head holds a copy. `on_step` is called after
    each step with the number of heads that took it, `on_done` with the number of heads that are done.
    """
    work = _TrainingQueue(tokens, plans, on_step)
    n_workers = 1
    if tokens.device.type == "cpu":
        keep_freed_memory()
        n_workers = torch.get_num_threads()
    chunks = deque(chunks_of(tokens, plans, free_memory(tokens.device), n_workers))
    n_workers = min(n_workers, len(chunks))
    if n_workers > 1:
        _run_in_threads(work, chunks, n_workers, on_done)
    while chunks:
        done, left = work.attempt(chunks.popleft())
        chunks.extendleft(reversed(left))
        on_done(done)
    return work.results


def _run_in_threads(
    work: "_TrainingQueue", chunks: deque[list[int]], n_workers: int, on_done: Callable[[int], object]
) -> None:
    """Let each thread train other heads: threads that share an operation wait for each other at every one."""
    with (
        one_thread_each(n_workers),
        ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        # Chunks are handed over one a thread: parts of one that failed are then the next to be tried.
        running: set[Future[tuple[int, list[list[int]]]]] = set()
        try:
            while chunks or running:
                while chunks and len(running) < n_workers:
                    running.add(pool.submit(work.attempt, chunks.popleft()))
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    done, left = future.result()
                    chunks.extendleft(reversed(left))
                    on_done(done)
        except BaseException:
            work.stop.set()
            raise


class _StoppedError(Exception):
    """Training stops as another thread was interrupted."""


class _TrainingQueue:
    """The results so far, and the means to get more, from several threads at once."""

    def __init__(self, tokens: Tokens, plans: Sequence[HeadPlan], on_step: Callable[[int], object]):
        self.tokens, self.plans, self.on_step = tokens, plans, on_step
        self.results: list[Outcome] = [RuntimeError("not trained")] * len(plans)
        self.limit = max(1, len(plans))  # heads at a time: fewer once memory has run out
        self.lock, self.stop = threading.Lock(), threading.Event()

    def _tick(self, n_heads: int) -> None:
        if self.stop.is_set():
            raise _StoppedError
        with self.lock:
            self.on_step(n_heads)

    def attempt(self, chunk: list[int]) -> tuple[int, list[list[int]]]:
        """Train some heads; return how many are done, and those that are to be tried in smaller parts."""
        # Chunks were made before memory ran out somewhere else.
        if len(chunk) > self.limit:
            return 0, split(chunk, self.limit)
        try:
            trained = _train_together(self.tokens, [self.plans[i] for i in chunk], self._tick)
        except Exception as error:
            if self.stop.is_set():
                raise
            if error.__traceback__ is not None:
                traceback.clear_frames(error.__traceback__)  # they hold the tensors that there was no memory for
            failure = error
        else:
            for i, one in zip(chunk, trained, strict=True):
                self.results[i] = one
            return len(chunk), []
        # A head alone fails for good; of several, the others are not to suffer from one of them.
        if len(chunk) == 1:
            self.results[chunk[0]] = failure
            return 1, []
        half = -(-len(chunk) // 2)
        if is_out_of_memory(failure):
            self.limit = min(self.limit, half)
            gc.collect()  # a recorded step and what it belongs to refer to each other
            if self.tokens.device.type == "cuda":
                CAPTURES.empty_cache()
        return 0, split(chunk, half)


def _train_together(tokens: Tokens, plans: list[HeadPlan], on_step: Callable[[int], object]) -> list[Outcome]:
    # All plans of a chunk have one shape, so that the first one's model stands for all.
    trained, n_iter = train(
        _initial(tokens, plans),
        plans[0].model,
        Streams(tokens, plans),
        [plan.schedule for plan in plans],
        validation=_validation(tokens, plans),
        patience=[plan.patience for plan in plans],
        on_step=on_step,
        watch=[plan.watch for plan in plans],
    )
    on_host = {name: value.cpu().numpy() for name, value in trained.items()}
    return [
        _outcome({name: value[i].copy() for name, value in on_host.items()}, steps, plan)
        for i, (steps, plan) in enumerate(zip(n_iter, plans, strict=True))
    ]


def _outcome(weights: dict[str, npt.NDArray[np.float32]], n_iter: int, plan: HeadPlan) -> Outcome:
    if all(np.isfinite(value).all() for value in weights.values()):
        return Trained(weights, n_iter)
    return ValueError(f"training diverged (weights are not finite): lower lr. Got lr={plan.schedule.lr}.")


def _initial(tokens: Tokens, plans: list[HeadPlan]) -> Params:
    """Initial parameters of all heads; those that start alike are made once."""
    starts = [plan.model.start(plan.seeds[0]) for plan in plans]
    made: dict[Hashable, Params] = {}
    for start, plan in zip(starts, plans, strict=True):
        if start not in made:
            generator = Generator().manual_seed(plan.seeds[0])
            made[start] = plan.model.initial(tokens.shape[2], plan.n_classes, generator)
    # One row for each different start, on the device, then one for each head.
    which = torch.tensor([list(made).index(start) for start in starts], device=tokens.device)
    names = made[starts[0]]
    return {name: torch.stack([one[name] for one in made.values()]).to(tokens.device)[which] for name in names}


def _validation(tokens: Tokens, plans: list[HeadPlan]) -> list[ValidationSet] | None:
    """Validation samples of each head, equal ones once; None where heads have none, as all or none of them have."""
    parts = [plan.all_views(plan.validation, len(tokens)) for plan in plans if plan.validation is not None]
    made = {key: _labelled(tokens, part) for key, part in {part.key(): part for part in parts}.items()}
    return [made[part.key()] for part in parts] or None


def _labelled(tokens: Tokens, part: LabelledRows) -> ValidationSet:
    rows, codes, weights = (torch.as_tensor(x, device=tokens.device) for x in (part.rows, part.codes, part.weights))
    if isinstance(tokens, PaddedTokens):
        batch = tokens.batch(rows, tokens.shape_of(part.rows))
        return ValidationSet(batch.patches, codes, weights, mask=batch.mask)
    return ValidationSet(cast(Tensor, tokens), codes, weights, rows)
