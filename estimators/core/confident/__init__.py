"""Calibrated probabilities and novelty: knowledge of heads about their own predictions."""
