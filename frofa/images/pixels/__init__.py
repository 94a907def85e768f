"""From a decoded file to upright RGB: formats, colour, grey levels, and a bound on memory."""
