"""What ``frofa demo`` takes beside a process that keeps every core busy, against its time alone.

Runs alternate, so that the machine's own drift cancels; the ratio is of medians. Two who want all of a machine get half
of it each, so that 2 is the least; threads that spin while they wait make it twenty. Bar: at most 3.

The same with one thread (``OMP_NUM_THREADS=1``) and, where the system has `taskset`, on one core.

Usage: python benchmarks/busy_machine.py [--runs N] [--out FILE.json]
Prints one line of JSON a measurement.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import frofa

DEMO = [sys.executable, "-m", "frofa", "demo", "--seeds", "1"]
SPIN = [sys.executable, "-c", "while True: pass"]


@contextmanager
def busy_cores() -> Iterator[None]:
    others = [subprocess.Popen(SPIN) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def run(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds that a command takes, by the clock and of the processor."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(command, check=True, capture_output=True, cwd=directory, env=os.environ | environment)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(name: str, command: list[str], environment: dict[str, str], runs: int) -> dict[str, Any]:
    alone, beside = [], []
    for _ in range(runs):
        alone.append(run(command, environment))
        with busy_cores():
            beside.append(run(command, environment))
    record: dict[str, Any] = {"measurement": name, "cores": os.cpu_count(), "runs": runs}
    for label, found in (("alone", alone), ("beside", beside)):
        for unit, values in zip(("seconds", "processor_seconds"), zip(*found, strict=True), strict=True):
            record[f"{unit}_{label}"] = round(statistics.median(values), 2)
    record["ratio"] = round(record["seconds_beside"] / record["seconds_alone"], 2)
    print(json.dumps(record), flush=True)
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    records = [
        measure("all cores", DEMO, {}, args.runs),
        measure("one thread", DEMO, {"OMP_NUM_THREADS": "1"}, args.runs),
    ]
    if shutil.which("taskset"):
        records.append(measure("one core", ["taskset", "--cpu-list", "0", *DEMO], {}, args.runs))
    if args.out:
        versions = {"frofa": frofa.__version__, "python": platform.python_version()}
        args.out.write_text(json.dumps({**versions, "measurements": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()
