"""Tokenizers: text to the numbers that a text tower reads."""
