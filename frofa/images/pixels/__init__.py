"""Upright RGB out of a decoded file: formats, colour, grey levels, and a bound on memory."""
