"""Checkpoints of `transformers` in this process."""
