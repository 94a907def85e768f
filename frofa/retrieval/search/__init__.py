"""Searches of a store for people: by words and images, with names, contact sheets and pages."""
