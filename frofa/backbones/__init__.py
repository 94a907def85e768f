"""Pretrained vision transformers: found, loaded, understood, and asked for features."""
