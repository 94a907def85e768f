"""Memory that runs out, told by whatever error says so."""

SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")
"""What the messages of PyTorch, of its allocators on the host and of cuBLAS and cuDNN have in common."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory, of the host or of a GPU, is used up."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)
