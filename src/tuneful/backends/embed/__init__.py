"""Embeddings as backends: each message of a request is a text, each choice of the response a vector."""
