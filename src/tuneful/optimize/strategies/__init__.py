"""Strategies that several recipes share: pure functions over JSON state."""
