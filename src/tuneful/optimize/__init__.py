"""Teleprompters: programs in, better programs out. One loop runs them all; each recipe only asks and is told."""
