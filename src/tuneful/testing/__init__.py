"""Public test doubles: models that answer by script, for tests of programs that need no network and no model."""

from tuneful.testing.scripted import DummyLM, ScriptedLM

__all__ = ["DummyLM", "ScriptedLM"]
