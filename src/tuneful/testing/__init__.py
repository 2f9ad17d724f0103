"""Public tools for tests: models with scripted or simulated answers, and the laws that adapters and modules keep."""

from tuneful.testing.check_adapter import check_adapter
from tuneful.testing.check_module import ModuleRow, check_module
from tuneful.testing.scripted import DummyLM, ScriptedLM, calls
from tuneful.testing.simulated import Landscape, SimulatedLM

__all__ = ["DummyLM", "Landscape", "ModuleRow", "ScriptedLM", "SimulatedLM", "calls", "check_adapter", "check_module"]
