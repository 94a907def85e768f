"""One decoding process: started, asked, and named where it dies."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from frofa.decoding.task import DecodeTask
from frofa.decoding.worker import DecodeRequest, Noted, WorkerSetup
from frofa.exceptions import DecodingProcessError
from frofa.images.items import describe

PROGRAM = "from frofa.decoding.worker import main; main()"


class DecodingProcess:
    """A process of `frofa.decoding.worker`, as the parent sees it.

    In `positions`, int64 (n_processes,), each process notes the image that it reads. The file descriptors `inherited`
    are those of shared memory.
    """

    def __init__(self, setup: WorkerSetup, positions: npt.NDArray[np.int64], inherited: tuple[int, ...]):
        self._positions, self._number = positions, setup.number
        # The path of this process, so that imports find the same packages; one thread each, since there are many.
        path = [entry for entry in sys.path if isinstance(entry, str)]
        code = f"import sys; sys.path[:] = {path!r}; {PROGRAM}"
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        options: dict[str, Any] = {} if os.name == "nt" else {"pass_fds": inherited, "start_new_session": True}
        self._process = subprocess.Popen(  # a session of its own: Ctrl-C reaches the parent alone
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **one_thread},
            **options,
        )
        self._unsent: list[WorkerSetup] = [setup]

    def ask(self, request: DecodeRequest) -> tuple[list[Any], list[Noted]]:
        """Send a request; wait for its results and for the warnings on the way.

        If the process dies, it is a DecodingProcessError.
        """
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None and replies is not None  # noqa: PT018 (they are pipes)
        # No image yet: a death before the first one is not put on one of the request before.
        self._positions[self._number] = -1
        try:
            for message in (*self._unsent, request):
                pickle.dump(message, requests)
            self._unsent.clear()
            requests.flush()
            answer: tuple[list[Any], list[Noted]] = pickle.load(replies)  # noqa: S301 (from our own process)
            return answer
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
            raise self._died(request.tasks) from error

    def _died(self, tasks: Sequence[DecodeTask]) -> DecodingProcessError:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # it lives, but what it says makes no sense
            self._process.kill()
            code = self._process.wait()
        # The worker noted which image it was at; -1 is none of this request, which names all of its images then.
        position = int(self._positions[self._number])
        reading = [task for task in tasks if task.position == position] or tasks
        named = "; ".join(f"{describe(task.item)} (position {task.position})" for task in reading)
        return DecodingProcessError(
            f"a decoding process {_end(code)} while it read {named}. Images before it are kept where there is a store; "
            "decode='thread' needs no processes, and fewer n_jobs take less memory."
        )

    def kill(self) -> None:
        """Kill the process, whatever it is doing, and do not wait."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process, and wait until it is gone."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # what was not sent has nobody to go to
                pipe.close()


def can_start() -> bool:
    """Tell whether this interpreter can start another one: programs that embed or freeze Python cannot."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
    memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
    return f"was killed by signal {-code} ({name}{memory})"
