"""The labelling page, served to this machine alone."""
