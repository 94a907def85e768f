"""Text for messages."""


def one_line(error: object, longest: int = 300) -> str:
    """The text of an error in one line, without its last full stop, cut where it is long."""
    text = " ".join(str(error).split()).rstrip(".")
    text = text or type(error).__name__
    return text if len(text) <= longest else f"{text[:longest]}..."
