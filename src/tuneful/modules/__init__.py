"""Modules that users compose. Each is declared by a signature and written once, asynchronously."""
