"""What a search may say or raise that is its own."""


class BatchFallbackWarning(UserWarning):
    """Fits of a search could not be trained together and were done in the ordinary way."""


class CheckpointError(ValueError):
    """A checkpoint is of another search, is damaged, or cannot tell one search from another."""
