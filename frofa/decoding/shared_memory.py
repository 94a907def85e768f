"""Memory that processes share and that no crash can leave behind: it has no name, or dies with its last user."""

import contextlib
import mmap
import os
import tempfile
import uuid
from typing import TypeAlias

Handle: TypeAlias = "int | str"
"""Opens the memory in another process: an inherited file descriptor; on Windows, a tag."""


class SharedMemory:
    """Memory to share with child processes, which must inherit `inherited`; its size is given later."""

    def __init__(self) -> None:
        self.handle: Handle
        if os.name == "nt":
            self.handle = f"frofa-{uuid.uuid4()}"
            self.inherited: tuple[int, ...] = ()
        else:
            self.handle = _anonymous_file()
            self.inherited = (self.handle,)
        self._mapped: list[mmap.mmap] = []

    def allocate(self, size: int) -> mmap.mmap:
        """Make zeroed memory of so many bytes; to be called once."""
        if isinstance(self.handle, int):
            os.truncate(self.handle, size)
        self._mapped.append(map_shared(self.handle, size))
        return self._mapped[0]

    def close(self) -> None:
        """Let go of the memory; it goes itself with the last array on it."""
        # Mapped memory outlives its descriptor.
        for descriptor in self.inherited:
            os.close(descriptor)
        self.inherited = ()
        for mapped in self._mapped:
            with contextlib.suppress(BufferError):  # arrays still look at it, and it goes with them
                mapped.close()
        self._mapped.clear()


def map_shared(handle: Handle, size: int) -> mmap.mmap:
    """Map the memory of a `SharedMemory` of this or the parent process."""
    if isinstance(handle, str):
        return mmap.mmap(-1, size, tagname=handle)  # type: ignore[call-arg] # Windows alone has it
    return mmap.mmap(handle, size)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):  # Linux; unlike /dev/shm, no container makes it small
        return os.memfd_create("frofa")
    descriptor, path = tempfile.mkstemp(prefix="frofa-")
    os.unlink(path)  # noqa: PTH108 (a name is all that goes)
    return descriptor
