"""Classifiers that say what they do not know: sets of labels with a guarantee, novelty, abstention."""
