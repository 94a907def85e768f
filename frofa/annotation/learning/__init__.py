"""Learning while images are labelled; it needs PyTorch, and is imported late."""
