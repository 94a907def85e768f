"""Tar and zip archives read in place, image by image, with their labels."""
