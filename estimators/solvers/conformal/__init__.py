"""Conformal prediction as arithmetic: scores of labels, ranks among those of other samples, and fits without each."""
