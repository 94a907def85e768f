"""Samples: a digest of some blocks of a file, which costs three reads at most, and in which most changes show."""

from collections.abc import Iterator
from hashlib import blake2b

BLOCK_BYTES = 2**12
"""Bytes of each of the three blocks, the first, middle and last; a file of no more than three is taken whole."""
SAMPLE_BYTES = 16


def sample(content: bytes) -> bytes:
    """Digest the blocks of a file's content."""
    return _digest(memoryview(content)[start:end] for start, end in _blocks(len(content)))


def sample_file(path: str, size: int) -> bytes:
    """Digest the blocks of a file of this size, of which only these are read; OSError if it cannot be."""

    def read() -> Iterator[bytes]:
        for start, end in _blocks(size):
            file.seek(start)
            yield file.read(end - start)

    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 (of each of many files)
        return _digest(read())


def _blocks(size: int) -> list[tuple[int, int]]:
    if size <= 3 * BLOCK_BYTES:
        return [(0, size)]
    return [(start, start + BLOCK_BYTES) for start in (0, (size - BLOCK_BYTES) // 2, size - BLOCK_BYTES)]


def _digest(blocks: Iterator[bytes | memoryview]) -> bytes:
    digest = blake2b(digest_size=SAMPLE_BYTES, person=b"frofa-sample")
    for block in blocks:
        digest.update(block)
    return digest.digest()
