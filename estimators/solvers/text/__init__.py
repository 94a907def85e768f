"""Discriminants that start from what words say of the classes."""
