"""Scores of novelty, from features of known samples alone, and what they mean: shares of known samples."""
