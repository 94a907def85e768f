"""Approximate search among millions: lists, codes, and how wide to look."""
