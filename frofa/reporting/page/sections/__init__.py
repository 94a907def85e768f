"""Sections of a report page, each from facts to HTML."""
