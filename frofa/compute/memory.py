"""Memory: how much is worked on at once, and the errors that say that there is no more."""

from collections.abc import Iterator

SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""Parts of the messages of PyTorch, of its allocators on the host and of cuBLAS and cuDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory, of the host or of a GPU, is used up."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)


def rows_per_chunk(limit: int, row_size: int) -> int:
    """Count the rows that a limit holds, one at least; both are in the same unit, bytes or elements."""
    return max(1, limit // max(1, row_size))


def row_chunks(n_rows: int, limit: int, row_size: int) -> Iterator[slice]:
    """Cut rows, in order, into chunks of at most `limit` bytes or elements, but of one row at least."""
    step = rows_per_chunk(limit, row_size)
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))
