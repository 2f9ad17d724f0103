"""Texts as vectors, and rankings of passages."""
