"""Labelling images on a page that trains while they are labelled."""
