"""Closed forms and descents for linear heads: ridge paths, logistic regression for hundreds of problems at once."""
