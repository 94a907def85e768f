"""The finished fits of a search on disk, in JSON lines that are appended and never changed."""

import json
import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from frofa.estimators.searching.sklearn_compat import FitResult
from frofa.exceptions import CheckpointError
from frofa.utils.files import expand_home, sync_directory
from frofa.utils.json import Fail, check_fields, parse_json

FORMAT = 1
SUM = b'{"sum": "', b'", '
LENGTH = len(SUM[0]) + 16 + len(SUM[1])


class Checkpoint:
    """File whose first line says what is searched, and each other line what came out of one fit.

    It is created if absent, in a directory that exists. What `add` was given is on disk when it returns. A process that
    is killed at any moment leaves whole lines and at most one torn line at the end, which the next one cuts off.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(expand_home(path))
        self.results: dict[str, FitResult] = {}
        self.begun = False
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.path, flags, 0o666)
        try:
            _lock(self._descriptor, self.path)
        except CheckpointError:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)

    def begin(
        self,
        search: Mapping[str, str],
        scores: Mapping[str, Sequence[str] | None],
        former: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        """Read what is there of this search, or start the file; CheckpointError if the file is of anything else.

        `search` has a digest of each thing that makes the search what it is, by name; `scores` the fields of scores
        that each result has, and the names of the scores in them, None for a single number; `former` the digests that
        files of earlier versions may have instead.
        """
        self.begun = True
        header = _line({"frofa search": FORMAT, "search": dict(search)})
        content = self.path.read_bytes()
        # Lines end with a newline: what comes after the last one was being written when the process was killed.
        whole = content.rfind(b"\n") + 1
        if not whole:
            # Of a torn first line, what is there must be the beginning of ours: nobody else's file is cut off.
            if not header.startswith(content):
                raise CheckpointError(f"{self.path} is not a checkpoint of a search; it is left as it is.")
            os.ftruncate(self._descriptor, 0)
            self._append(header)
            sync_directory(self.path.parent)
            return
        lines = content[:whole].splitlines()
        self._check_header(_read(lines[0], self.path, 1), search, former)
        for number, line in enumerate(lines[1:], 2):
            entry = _read(line, self.path, number)
            check_fields(entry, {"fit": str, "result": dict}, _failing(self.path, number))
            _check_result(entry["result"], scores, _failing(self.path, number))
            self.results[entry["fit"]] = entry["result"]
        # Only when all lines have turned out to be of this search is the torn one removed.
        os.ftruncate(self._descriptor, whole)

    def add(self, results: Sequence[tuple[str, FitResult]]) -> None:
        """Append what came out of some fits, each under its key."""
        self._append(b"".join(_line({"fit": key, "result": result}) for key, result in results))
        self.results.update({key: dict(result) for key, result in results})

    def _append(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._descriptor, data) :]
        os.fsync(self._descriptor)

    def _check_header(
        self, header: dict[str, Any], search: Mapping[str, str], former: Mapping[str, str | None]
    ) -> None:
        if header.get("frofa search") != FORMAT:
            raise CheckpointError(
                f"{self.path} is not a checkpoint of a search of format {FORMAT}; it is left as it is."
            )
        before = check_fields(header, {"search": dict}, _failing(self.path, 1))["search"]
        accepted = {name: {digest, former.get(name) or digest} for name, digest in search.items()}
        if changed := [name for name, digests in accepted.items() if str(before.get(name)) not in digests]:
            raise CheckpointError(
                f"{self.path} is the checkpoint of another search, which differs in: {', '.join(changed)}. Give "
                "another path, or remove the file. (What is drawn anew in every process, such as splits "
                "or candidates without random_state, is never the same.)"
            )


def _line(entry: dict[str, Any]) -> bytes:
    try:
        text = json.dumps(entry)
    except TypeError as error:
        raise CheckpointError(f"scores must be numbers to be kept in a checkpoint: {error}") from error
    return b"%s%s%s%s\n" % (SUM[0], _sum(text), SUM[1], text[1:].encode())


def _read(line: bytes, path: Path, number: int) -> dict[str, Any]:
    text, fail = "{" + line[LENGTH:].decode(errors="replace"), _failing(path, number)
    if line[:LENGTH] != b"%s%s%s" % (SUM[0], _sum(text), SUM[1]):
        raise fail("its sum is wrong")
    return check_fields(parse_json(text, fail), {}, fail)


def _failing(path: Path, number: int) -> Fail:
    """Return what makes the error about a line."""
    what = "not a checkpoint of a search" if number == 1 else f"damaged in line {number}"
    return lambda why: CheckpointError(f"{path} is {what} ({why}); it is left as it is.")


def _check_result(result: FitResult, scores: Mapping[str, Sequence[str] | None], fail: Fail) -> None:
    """Check that a result has all that a search makes its own results of."""
    check_fields(result, {"fit_error": (str, type(None)), "n_test_samples": int}, fail)
    times: dict[str, Sequence[str] | None] = {"fit_time": None, "score_time": None}
    for field, names in {**times, **scores}.items():
        found = result.get(field)
        if names is not None and (not isinstance(found, dict) or set(found) != set(names)):
            raise fail(f"expected scores {', '.join(names)} as {field!r}")
        if not all(_is_number(value) for value in (found.values() if isinstance(found, dict) and names else [found])):
            raise fail(f"expected numbers as {field!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def _sum(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).hexdigest().encode()


def _lock(descriptor: int, path: Path) -> None:
    """Keep a second process from writing to the same file; nothing where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CheckpointError(f"{path} is in use: another search is writing to it.") from error
    except OSError:  # a file system without locks
        return
