"""Threads on a machine that others use too: asleep while they wait, and no more of them than there are processors."""

import math
import os
from pathlib import Path

SPINS = "1000"
"""Turns of a waiting thread before it sleeps, some 10 to 50 microseconds (``benchmarks/busy_machine.py``)."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""A control group's limit: microseconds of processor time (or ``max``) in each period, and the period."""

QUOTA_V1 = Path("/sys/fs/cgroup/cpu")
"""The directory where version 1 of control groups keeps the two numbers, a file each."""


def prepare_threads() -> None:
    """Set the environment variables by which OpenMP and OpenBLAS decide how threads wait, and how many there are.

    OpenMP's threads spin for milliseconds between two parallel loops, OpenBLAS's for some 30 ms after each product.
    Where another process wants the processor, they keep it from the very threads they wait for: `frofa demo` took
    twenty times its time beside one. To sleep at once costs a third of its speed where it is alone; some microseconds
    of spinning before cost neither (``benchmarks/busy_machine.py``). Neither library counts a container's quota of
    processor time, so that there are more threads than can run.

    What is set already stays, as does whatever was loaded before.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # GNU's OpenMP, which PyTorch's wheels for Linux hold
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # sleep after 2**4 cycles, the shortest that there is
    quota = processor_quota()
    if quota is not None and quota < (os.cpu_count() or 1):
        for library in ("OMP", "OPENBLAS", "MKL"):
            os.environ.setdefault(f"{library}_NUM_THREADS", str(quota))


def processor_quota() -> int | None:
    """Read the limit of this process's control group, in processors and rounded up; None without a limit."""
    try:
        # Version 2 of control groups, and where that is not there, version 1.
        limit, period = QUOTA.read_text().split()
    except (OSError, ValueError):
        try:
            limit, period = ((QUOTA_V1 / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    return math.ceil(int(limit) / int(period)) if limit.isdecimal() and int(limit) > 0 else None
