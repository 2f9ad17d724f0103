"""One case for each public module: what `check_module` is given. Add a row for a new module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tuneful as tf


class Case(NamedTuple):
    module: tf.Module
    inputs: dict[str, Any]
    answers: Any
    settings: dict[str, Any] = {}  # noqa: RUF012 (nobody changes it)


THOUGHT = {"reasoning": "They are added.", "answer": "4"}
WRONG = {"reasoning": "They are put side by side.", "answer": "22"}
QUESTION = {"question": "2+2?"}


class TwoSteps(tf.Module):
    """A program of one's own, with a plain `forward`."""

    def __init__(self) -> None:
        self.query = tf.ChainOfThought("question -> query")
        self.retrieve = tf.Retrieve(k=1)
        self.answer = tf.ChainOfThought("context: list[str], question -> answer")

    def forward(self, question: str) -> Any:
        passages = self.retrieve(self.query(question=question).query).passages
        return self.answer(context=list(passages), question=question)


def known(query: str, k: int) -> list[str]:
    return [f"{query} is known."] * k


def is_four(args: dict[str, Any], prediction: Any) -> bool:
    """Whether the answer begins with a 4."""
    return prediction.answer.startswith("4")


def _refine() -> Case:
    advice = {"discussion": "It was not added.", "advice": {"module.predict": "Add them."}}
    module = tf.Refine(tf.ChainOfThought("question -> answer"), N=3, reward_fn=is_four, threshold=1)
    return Case(module, QUESTION, [WRONG, advice, THOUGHT])


def _best_of_n() -> Case:
    module = tf.BestOfN(tf.ChainOfThought("question -> answer"), N=3, reward_fn=is_four, threshold=1)
    return Case(module, QUESTION, [WRONG, THOUGHT])


def _comparison() -> Case:
    module = tf.MultiChainComparison("question -> answer", M=2)
    return Case(module, {**QUESTION, "completions": [WRONG, THOUGHT]}, [{"rationale": "Added.", "answer": "4"}])


def _ensemble() -> Case:
    members = [tf.Predict("question -> answer"), tf.ChainOfThought("question -> answer")]
    return Case(tf.EnsembledProgram(members), QUESTION, [{"answer": "4"}, THOUGHT])


def population(city: str) -> int:
    """How many people live in a city."""
    return 291940


def _react() -> Case:
    calls = [("population", {"city": "Bergen"}), ("submit", {"answer": 291940})]
    answers = [{"next_thought": "t", "next_tool_name": name, "next_tool_args": args} for name, args in calls]
    return Case(tf.ReAct("question -> answer: int", tools=[population]), {"question": "How many?"}, answers)


def _program_of_thought() -> Case:
    answers = [{"code": "submit(answer=1/0)"}, {"code": "print(6 * 7)"}, {"answer": 42}]
    return Case(tf.ProgramOfThought("question -> answer: int"), {"question": "6 times 7?"}, answers)


def _code_act() -> Case:
    answers = [
        {"next_thought": "t", "code": "people = population('Bergen')"},
        {"next_thought": "t", "code": "submit(answer=people)"},
    ]
    return Case(tf.CodeAct("question -> answer: int", tools=[population]), {"question": "How many?"}, answers)


def _rlm() -> Case:
    code = "submit(answer=llm_query('What is in ' + text[:5] + '?'))"
    answers = [{"next_thought": "t", "code": code}, {"answer": "a fish"}]
    return Case(tf.RLM("text -> answer"), {"text": "a fish " * 1_000}, answers)


def _rerank() -> Case:
    return Case(tf.Rerank(lambda query, k: ["one", "two"]), {"query": "x", "k": 1}, [{"order": [2, 1]}])


CASES: dict[str, Callable[[], Case]] = {
    "Predict": lambda: Case(tf.Predict("question -> answer"), QUESTION, [{"answer": "4"}]),
    "ChainOfThought": lambda: Case(tf.ChainOfThought("question -> answer"), QUESTION, [THOUGHT]),
    "MultiChainComparison": _comparison,
    "SelfConsistency": lambda: Case(tf.SelfConsistency("question -> answer", n=3), QUESTION, [WRONG, THOUGHT, THOUGHT]),
    "BestOfN": _best_of_n,
    "Refine": _refine,
    "EnsembledProgram": _ensemble,
    "Retrieve": lambda: Case(tf.Retrieve(k=2), {"query": "x"}, [], {"rm": known}),
    "Hybrid": lambda: Case(tf.Hybrid([known, known]), {"query": "x"}, []),
    "Rerank": _rerank,
    "ReAct": _react,
    "ProgramOfThought": _program_of_thought,
    "CodeAct": _code_act,
    "RLM": _rlm,
    "a program of one's own": lambda: Case(
        TwoSteps(), QUESTION, [{"reasoning": "r", "query": "sums"}, THOUGHT], {"rm": known}
    ),
}
