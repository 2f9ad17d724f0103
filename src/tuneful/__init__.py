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
    from tuneful import finetune, testing
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
        CodeError,
        CodeExecutionError,
        CodeInterpreterError,
        CompileError,
        ConstraintError,
        ContextWindowExceededError,
        DataError,
        EvaluationError,
        ExitError,
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
        ProposalError,
        RetrieverError,
        SignatureError,
        StateError,
        ToolError,
        ToolTimeoutError,
        TrainingError,
        TrainingStopped,
        TunefulError,
        UsageError,
        WorkerLostError,
    )
    from tuneful.evaluate import metrics
    from tuneful.evaluate.duplicates import DuplicateRowsWarning, find_duplicates
    from tuneful.evaluate.evaluate import Evaluate
    from tuneful.evaluate.power import rows_needed
    from tuneful.evaluate.result import EvaluationResult
    from tuneful.evaluate.score import Score
    from tuneful.finetune.local_trainer import LocalTrainer
    from tuneful.finetune.lora import LoRA
    from tuneful.finetune.openai_trainer import OpenAITrainer
    from tuneful.finetune.training_set import TrainingSet
    from tuneful.finetune.tuned_model import TunedModel
    from tuneful.modules.best_of_n import BestOfN
    from tuneful.modules.chain_of_thought import ChainOfThought
    from tuneful.modules.code_act import CodeAct
    from tuneful.modules.ensemble import EnsembledProgram
    from tuneful.modules.hybrid import Hybrid
    from tuneful.modules.majority import majority
    from tuneful.modules.multi_chain_comparison import MultiChainComparison
    from tuneful.modules.parallel import Parallel
    from tuneful.modules.program_of_thought import ProgramOfThought
    from tuneful.modules.react import ReAct
    from tuneful.modules.refine import Refine
    from tuneful.modules.rerank import Rerank
    from tuneful.modules.retrieve import Retrieve
    from tuneful.modules.rlm import RLM
    from tuneful.modules.self_consistency import SelfConsistency
    from tuneful.optimize.better_together import BetterTogether
    from tuneful.optimize.compiling import compile
    from tuneful.optimize.objectives import Objectives
    from tuneful.optimize.recipes.autoprompt import AutoPrompt
    from tuneful.optimize.recipes.bootstrap_few_shot import BootstrapFewShot
    from tuneful.optimize.recipes.bootstrap_finetune import BootstrapFinetune
    from tuneful.optimize.recipes.bootstrap_optuna import BootstrapFewShotWithOptuna
    from tuneful.optimize.recipes.bootstrap_random_search import BootstrapFewShotWithRandomSearch, BootstrapRS
    from tuneful.optimize.recipes.copro import COPRO
    from tuneful.optimize.recipes.ensemble import Ensemble
    from tuneful.optimize.recipes.gepa import GEPA
    from tuneful.optimize.recipes.infer_rules import InferRules
    from tuneful.optimize.recipes.knn_few_shot import KNNFewShot
    from tuneful.optimize.recipes.labeled_few_shot import LabeledFewShot
    from tuneful.optimize.recipes.mipro_v2 import MIPROv2
    from tuneful.optimize.recipes.simba import SIMBA
    from tuneful.optimize.recipes.tune import Tune
    from tuneful.optimize.recompile import recompile
    from tuneful.optimize.report import CompileReport
    from tuneful.optimize.teleprompter import Teleprompter
    from tuneful.program.constraint import Assert, Suggest
    from tuneful.program.demos.knn import KNN
    from tuneful.program.lm import LM
    from tuneful.program.module import Module
    from tuneful.program.parameter import Choice, Integer, Parameter, Real
    from tuneful.program.predict import Predict
    from tuneful.program.running.runtime import configure, context, inspect_history, settings, track_usage
    from tuneful.program.tools.tool import Tool
    from tuneful.program.tools.tool_calls import ToolCalls
    from tuneful.program.trace import Trace
    from tuneful.program.vectors.colbert import ColBERTv2
    from tuneful.program.vectors.embedder import Embedder
    from tuneful.program.vectors.reranker import Reranker
    from tuneful.program.watching.callback import BaseCallback, Callback, current_call_id
    from tuneful.program.watching.compile_progress import CompileProgress
    from tuneful.program.watching.events import (
        FieldEnded,
        FieldPiece,
        FieldStarted,
        Finished,
        ReasoningPiece,
        Retracted,
    )
    from tuneful.program.watching.streaming import streamify
    from tuneful.retrieval.bm25 import BM25
    from tuneful.retrieval.dense import Dense
    from tuneful.retrieval.late_interaction import LateInteraction
    from tuneful.retrieval.tantivy import TantivyBM25
    from tuneful.sandbox.interpreter import Execution, Interpreter
    from tuneful.sandbox.monty import MontyInterpreter
    from tuneful.sandbox.python import PythonInterpreter
    from tuneful.spec.code import Code, Reasoning
    from tuneful.spec.document import Citation, Citations, Document
    from tuneful.spec.example import Example
    from tuneful.spec.fields import InputField, OutputField
    from tuneful.spec.history import History
    from tuneful.spec.media import Audio, File, Image
    from tuneful.spec.passage import Passage
    from tuneful.spec.prediction import Completions, Prediction
    from tuneful.spec.signature import Signature, ensure_signature, make_signature
    from tuneful.spec.tool_calls import ToolCall
    from tuneful.spec.trajectory import Trajectory

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
        "AdapterParseError", "BudgetExceeded", "CacheMissError", "CodeError", "CodeExecutionError",
        "CodeInterpreterError", "CompileError", "ConstraintError", "ContextWindowExceededError", "DataError",
        "EvaluationError", "ExitError", "InputError", "LMAuthError", "LMError", "LMInvalidRequestError",
        "LMRateLimitError", "LMServerError", "LMTimeoutError", "LMTransportError", "MetricError", "MissingExtraError",
        "NotConfiguredError", "ProposalError", "RetrieverError", "SignatureError", "StateError", "ToolError",
        "ToolTimeoutError", "TrainingError", "TrainingStopped", "TunefulError", "UsageError", "WorkerLostError",
    ),
    "tuneful.evaluate.duplicates": ("DuplicateRowsWarning", "find_duplicates"),
    "tuneful.evaluate.evaluate": ("Evaluate",),
    "tuneful.evaluate.power": ("rows_needed",),
    "tuneful.evaluate.result": ("EvaluationResult",),
    "tuneful.evaluate.score": ("Score",),
    "tuneful.finetune.local_trainer": ("LocalTrainer",),
    "tuneful.finetune.lora": ("LoRA",),
    "tuneful.finetune.openai_trainer": ("OpenAITrainer",),
    "tuneful.finetune.training_set": ("TrainingSet",),
    "tuneful.finetune.tuned_model": ("TunedModel",),
    "tuneful.modules.best_of_n": ("BestOfN",),
    "tuneful.modules.chain_of_thought": ("ChainOfThought",),
    "tuneful.modules.code_act": ("CodeAct",),
    "tuneful.modules.ensemble": ("EnsembledProgram",),
    "tuneful.modules.hybrid": ("Hybrid",),
    "tuneful.modules.majority": ("majority",),
    "tuneful.modules.multi_chain_comparison": ("MultiChainComparison",),
    "tuneful.modules.parallel": ("Parallel",),
    "tuneful.modules.program_of_thought": ("ProgramOfThought",),
    "tuneful.modules.react": ("ReAct",),
    "tuneful.modules.refine": ("Refine",),
    "tuneful.modules.rerank": ("Rerank",),
    "tuneful.modules.retrieve": ("Retrieve",),
    "tuneful.modules.rlm": ("RLM",),
    "tuneful.modules.self_consistency": ("SelfConsistency",),
    "tuneful.optimize.better_together": ("BetterTogether",),
    "tuneful.optimize.compiling": ("compile",),
    "tuneful.optimize.objectives": ("Objectives",),
    "tuneful.optimize.recipes.autoprompt": ("AutoPrompt",),
    "tuneful.optimize.recipes.bootstrap_few_shot": ("BootstrapFewShot",),
    "tuneful.optimize.recipes.bootstrap_finetune": ("BootstrapFinetune",),
    "tuneful.optimize.recipes.bootstrap_optuna": ("BootstrapFewShotWithOptuna",),
    "tuneful.optimize.recipes.bootstrap_random_search": ("BootstrapFewShotWithRandomSearch", "BootstrapRS"),
    "tuneful.optimize.recipes.copro": ("COPRO",),
    "tuneful.optimize.recipes.ensemble": ("Ensemble",),
    "tuneful.optimize.recipes.gepa": ("GEPA",),
    "tuneful.optimize.recipes.infer_rules": ("InferRules",),
    "tuneful.optimize.recipes.knn_few_shot": ("KNNFewShot",),
    "tuneful.optimize.recipes.labeled_few_shot": ("LabeledFewShot",),
    "tuneful.optimize.recipes.mipro_v2": ("MIPROv2",),
    "tuneful.optimize.recipes.simba": ("SIMBA",),
    "tuneful.optimize.recipes.tune": ("Tune",),
    "tuneful.optimize.recompile": ("recompile",),
    "tuneful.optimize.report": ("CompileReport",),
    "tuneful.optimize.teleprompter": ("Teleprompter",),
    "tuneful.program.constraint": ("Assert", "Suggest"),
    "tuneful.program.demos.knn": ("KNN",),
    "tuneful.program.lm": ("LM",),
    "tuneful.program.module": ("Module",),
    "tuneful.program.parameter": ("Choice", "Integer", "Parameter", "Real"),
    "tuneful.program.predict": ("Predict",),
    "tuneful.program.running.runtime": ("configure", "context", "inspect_history", "settings", "track_usage"),
    "tuneful.program.tools.tool": ("Tool",),
    "tuneful.program.tools.tool_calls": ("ToolCalls",),
    "tuneful.program.trace": ("Trace",),
    "tuneful.program.vectors.colbert": ("ColBERTv2",),
    "tuneful.program.vectors.embedder": ("Embedder",),
    "tuneful.program.vectors.reranker": ("Reranker",),
    "tuneful.program.watching.callback": ("BaseCallback", "Callback", "current_call_id"),
    "tuneful.program.watching.compile_progress": ("CompileProgress",),
    "tuneful.program.watching.events": (
        "FieldEnded", "FieldPiece", "FieldStarted", "Finished", "ReasoningPiece", "Retracted",
    ),
    "tuneful.program.watching.streaming": ("streamify",),
    "tuneful.retrieval.bm25": ("BM25",),
    "tuneful.retrieval.dense": ("Dense",),
    "tuneful.retrieval.late_interaction": ("LateInteraction",),
    "tuneful.retrieval.tantivy": ("TantivyBM25",),
    "tuneful.sandbox.interpreter": ("Execution", "Interpreter"),
    "tuneful.sandbox.monty": ("MontyInterpreter",),
    "tuneful.sandbox.python": ("PythonInterpreter",),
    "tuneful.spec.code": ("Code", "Reasoning"),
    "tuneful.spec.document": ("Citation", "Citations", "Document"),
    "tuneful.spec.example": ("Example",),
    "tuneful.spec.fields": ("InputField", "OutputField"),
    "tuneful.spec.history": ("History",),
    "tuneful.spec.media": ("Audio", "File", "Image"),
    "tuneful.spec.passage": ("Passage",),
    "tuneful.spec.prediction": ("Completions", "Prediction"),
    "tuneful.spec.signature": ("Signature", "ensure_signature", "make_signature"),
    "tuneful.spec.tool_calls": ("ToolCall",),
    "tuneful.spec.trajectory": ("Trajectory",),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {"finetune": "tuneful.finetune", "metrics": "tuneful.evaluate.metrics", "testing": "tuneful.testing"}

__all__ = [
    "BM25", "COPRO", "GEPA", "KNN", "LM", "RLM", "SIMBA", "Adapter", "AdapterParseError", "Assert", "Audio",
    "AutoPrompt", "BaseCallback", "Batch", "BestOfN", "BetterTogether", "BootstrapFewShot",
    "BootstrapFewShotWithOptuna", "BootstrapFewShotWithRandomSearch", "BootstrapFinetune", "BootstrapRS", "Budget",
    "BudgetExceeded", "Cache", "CacheMissError", "Callback", "ChainOfThought", "ChatAdapter", "Choice", "Citation",
    "Citations", "Code", "CodeAct", "CodeError", "CodeExecutionError", "CodeInterpreterError", "ColBERTv2",
    "CompactAdapter", "CompileError", "CompileProgress", "CompileReport", "Completions", "ConstraintError",
    "ContextWindowExceededError", "DataError", "Dense", "Document", "DuplicateRowsWarning", "Embedder", "Ensemble",
    "EnsembledProgram", "Evaluate", "EvaluationError", "EvaluationResult", "Example", "Execution", "ExitError",
    "FallbackAdapter", "FieldEnded", "FieldPiece", "FieldStarted", "File", "Finished", "History", "Hybrid", "Image",
    "InferRules", "InputError", "InputField", "Integer", "Interpreter", "JSONAdapter", "KNNFewShot", "LMAuthError",
    "LMError", "LMInvalidRequestError", "LMRateLimitError", "LMServerError", "LMTimeoutError", "LMTransportError",
    "LabeledFewShot", "LateInteraction", "LoRA", "LocalTrainer", "MIPROv2", "MetricError", "MissingExtraError",
    "Module", "MontyInterpreter", "MultiChainComparison", "NotConfiguredError", "Objectives", "OpenAITrainer",
    "OutputField", "Parallel", "Parameter", "Passage", "Predict", "Prediction", "Price", "ProgramOfThought",
    "ProposalError", "PythonInterpreter", "ReAct", "Real", "Reasoning", "ReasoningPiece", "Refine", "Rerank",
    "Reranker", "Retracted", "Retrieve", "RetrieverError", "Score", "SelfConsistency", "Signature",
    "SignatureError", "StateError", "Suggest", "TantivyBM25", "Teleprompter", "Tool", "ToolCall",
    "ToolCallingAdapter", "ToolCalls", "ToolError", "ToolTimeoutError", "Trace", "TrainingError", "TrainingSet",
    "TrainingStopped", "Trajectory", "Tune", "TunedModel", "TunefulError", "TwoStepAdapter", "UsageError",
    "WorkerLostError", "XMLAdapter", "compile", "configure", "context", "current_call_id", "ensure_signature",
    "find_duplicates", "finetune", "inspect_history", "majority", "make_signature", "metrics", "recompile",
    "rows_needed", "settings", "streamify", "testing", "track_usage",
]  # fmt: skip


#: What to write instead of names that there are not.
_INSTEAD = {"load": " A saved program is values and no code: make it anew, and call its `load`: Program().load(path)."}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        found: Any = importlib.import_module(_MODULES[name])
    elif name in _HOME_OF:
        found = getattr(importlib.import_module(_HOME_OF[name]), name)
    else:
        from tuneful.errors import nearest

        advice = _INSTEAD.get(name) or nearest(name, __all__)
        raise AttributeError(f"tuneful has no `{name}`.{advice}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
