"""Blends of a probe and token heads, by what they make of samples that they have not seen."""
