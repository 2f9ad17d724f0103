"""Queries -> passages. Knows nothing of language models or modules."""
