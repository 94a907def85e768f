"""The error of the readers of archives."""


class DamagedArchiveError(ValueError):
    """An archive is damaged, or is none: the message is what comes after its name and "is"."""
