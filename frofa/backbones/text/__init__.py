"""Text towers: what turns tokens into vectors in the space of an image tower."""
