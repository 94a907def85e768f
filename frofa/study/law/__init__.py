"""Accuracy as a function of a backbone's weights, how many of them are left, and labels: measured, fitted, foretold."""
