"""Saved models as JSON and safetensors: nothing in a file is ever run."""
