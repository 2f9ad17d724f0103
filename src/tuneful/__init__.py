"""tuneful: program language models, do not prompt them.

    import tuneful as tf

    tf.configure(lm=tf.LM("local/smollm2"))
    answer = tf.ChainOfThought("question -> answer")
    answer(question="How many legs do two spiders have?").answer

Every public name is loaded when it is first used (PEP 562); importing the package does nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneful import testing
    from tuneful.adapters.base import Adapter
    from tuneful.adapters.chat import ChatAdapter
    from tuneful.adapters.compact import CompactAdapter
    from tuneful.adapters.fallback import FallbackAdapter
    from tuneful.adapters.json import JSONAdapter
    from tuneful.adapters.tool_calling import ToolCallingAdapter
    from tuneful.adapters.two_step import TwoStepAdapter
    from tuneful.adapters.xml import XMLAdapter
    from tuneful.backends.batch.settings import Batch
    from tuneful.backends.budget import Budget
    from tuneful.backends.cache import Cache
    from tuneful.backends.models import Price
    from tuneful.errors import (
        AdapterParseError,
        BudgetExceeded,
        CacheMissError,
        CompileError,
        ContextWindowExceededError,
        DataError,
        EvaluationError,
        InputError,
        LMAuthError,
        LMError,
        LMInvalidRequestError,
        LMRateLimitError,
        LMServerError,
        LMTimeoutError,
        LMTransportError,
        MetricError,
        MissingExtraError,
        NotConfiguredError,
        SignatureError,
        StateError,
        TunefulError,
        UsageError,
    )
    from tuneful.evaluate import metrics
    from tuneful.evaluate.evaluate import Evaluate
    from tuneful.evaluate.result import EvaluationResult
    from tuneful.evaluate.score import Score
    from tuneful.modules.chain_of_thought import ChainOfThought
    from tuneful.modules.majority import majority
    from tuneful.modules.retrieve import Retrieve
    from tuneful.optimize.recipes.bootstrap_few_shot import BootstrapFewShot
    from tuneful.optimize.recipes.labeled_few_shot import LabeledFewShot
    from tuneful.optimize.teleprompter import Teleprompter
    from tuneful.program.callback import BaseCallback, Callback
    from tuneful.program.embedder import Embedder
    from tuneful.program.events import (
        FieldEnded,
        FieldPiece,
        FieldStarted,
        Finished,
        ReasoningPiece,
        Retracted,
    )
    from tuneful.program.lm import LM
    from tuneful.program.module import Module
    from tuneful.program.parameter import Choice, Integer, Parameter, Real
    from tuneful.program.predict import Predict
    from tuneful.program.runtime import configure, context, inspect_history, settings, track_usage
    from tuneful.program.streaming import streamify
    from tuneful.program.trace import Trace
    from tuneful.retrieval.bm25 import BM25
    from tuneful.spec.example import Example
    from tuneful.spec.fields import InputField, OutputField
    from tuneful.spec.media import Audio, File, Image
    from tuneful.spec.prediction import Completions, Prediction
    from tuneful.spec.signature import Signature, ensure_signature, make_signature

__version__ = "0.1.0"

_HOMES = {
    "tuneful.adapters.base": ("Adapter",),
    "tuneful.adapters.chat": ("ChatAdapter",),
    "tuneful.adapters.compact": ("CompactAdapter",),
    "tuneful.adapters.fallback": ("FallbackAdapter",),
    "tuneful.adapters.json": ("JSONAdapter",),
    "tuneful.adapters.tool_calling": ("ToolCallingAdapter",),
    "tuneful.adapters.two_step": ("TwoStepAdapter",),
    "tuneful.adapters.xml": ("XMLAdapter",),
    "tuneful.backends.batch.settings": ("Batch",),
    "tuneful.backends.budget": ("Budget",),
    "tuneful.backends.cache": ("Cache",),
    "tuneful.backends.models": ("Price",),
    "tuneful.errors": (
        "AdapterParseError", "BudgetExceeded", "CacheMissError", "CompileError", "ContextWindowExceededError",
        "DataError", "EvaluationError", "InputError", "LMAuthError", "LMError", "LMInvalidRequestError",
        "LMRateLimitError", "LMServerError", "LMTimeoutError", "LMTransportError", "MetricError", "MissingExtraError",
        "NotConfiguredError", "SignatureError", "StateError", "TunefulError", "UsageError",
    ),
    "tuneful.evaluate.evaluate": ("Evaluate",),
    "tuneful.evaluate.result": ("EvaluationResult",),
    "tuneful.evaluate.score": ("Score",),
    "tuneful.modules.chain_of_thought": ("ChainOfThought",),
    "tuneful.modules.majority": ("majority",),
    "tuneful.modules.retrieve": ("Retrieve",),
    "tuneful.optimize.recipes.bootstrap_few_shot": ("BootstrapFewShot",),
    "tuneful.optimize.recipes.labeled_few_shot": ("LabeledFewShot",),
    "tuneful.optimize.teleprompter": ("Teleprompter",),
    "tuneful.program.callback": ("BaseCallback", "Callback"),
    "tuneful.program.embedder": ("Embedder",),
    "tuneful.program.events": (
        "FieldEnded", "FieldPiece", "FieldStarted", "Finished", "ReasoningPiece", "Retracted",
    ),
    "tuneful.program.lm": ("LM",),
    "tuneful.program.module": ("Module",),
    "tuneful.program.parameter": ("Choice", "Integer", "Parameter", "Real"),
    "tuneful.program.predict": ("Predict",),
    "tuneful.program.runtime": ("configure", "context", "inspect_history", "settings", "track_usage"),
    "tuneful.program.streaming": ("streamify",),
    "tuneful.program.trace": ("Trace",),
    "tuneful.retrieval.bm25": ("BM25",),
    "tuneful.spec.example": ("Example",),
    "tuneful.spec.fields": ("InputField", "OutputField"),
    "tuneful.spec.media": ("Audio", "File", "Image"),
    "tuneful.spec.prediction": ("Completions", "Prediction"),
    "tuneful.spec.signature": ("Signature", "ensure_signature", "make_signature"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {"metrics": "tuneful.evaluate.metrics", "testing": "tuneful.testing"}

__all__ = [
    "BM25", "LM", "Adapter", "AdapterParseError", "Audio", "BaseCallback", "Batch", "BootstrapFewShot", "Budget",
    "BudgetExceeded", "Cache", "CacheMissError", "Callback", "ChainOfThought", "ChatAdapter", "Choice",
    "CompactAdapter", "CompileError", "Completions", "ContextWindowExceededError", "DataError", "Embedder", "Evaluate",
    "EvaluationError", "EvaluationResult", "Example", "FallbackAdapter", "FieldEnded", "FieldPiece", "FieldStarted",
    "File", "Finished", "Image", "InputError", "InputField", "Integer", "JSONAdapter", "LMAuthError", "LMError",
    "LMInvalidRequestError", "LMRateLimitError", "LMServerError", "LMTimeoutError", "LMTransportError",
    "LabeledFewShot", "MetricError", "MissingExtraError", "Module", "NotConfiguredError", "OutputField", "Parameter",
    "Predict", "Prediction", "Price", "Real", "ReasoningPiece", "Retracted", "Retrieve", "Score", "Signature",
    "SignatureError", "StateError", "Teleprompter", "ToolCallingAdapter", "Trace", "TunefulError", "TwoStepAdapter",
    "UsageError", "XMLAdapter", "configure", "context", "ensure_signature", "inspect_history", "majority",
    "make_signature", "metrics", "settings", "streamify", "testing", "track_usage",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found: Any = importlib.import_module(_MODULES[name])
    elif name in _HOME_OF:
        found = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        from tuneful.errors import nearest

        raise AttributeError(f"tuneful has no `{name}`.{nearest(name, __all__)}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
