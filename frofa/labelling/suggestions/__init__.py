"""Suggestions of images to label next: coverage, uncertainty, both, and the strategies of others."""
