"""Features that are read when they are used: lazy arrays, indexing, transfers to a device."""
