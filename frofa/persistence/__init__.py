"""Saved models as JSON and safetensors: nothing in a file is ever run."""

from frofa.persistence.saving import load, save

__all__ = ["load", "save"]
