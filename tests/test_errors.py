"""Errors travel between processes, with what they know."""

import inspect
import pickle

import pytest

from tuneful import errors

#: What constructors ask for beside the message.
MORE = {"BudgetExceeded": {"limit": "calls"}, "RetrieverError": {"query": "q"}, "ToolError": {"tool": "look"}}
MORE["ProposalError"] = {"proposer": "instructions"}
MORE["ToolTimeoutError"] = MORE["ToolError"]
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.TunefulError)]


def made(kind):
    if kind is errors.AdapterParseError:
        return kind(["answer: no number"], raw="seven", predictor="answer", truncated=True)
    if kind is errors.MissingExtraError:
        return kind("numpy", "dense", "tf.Dense")
    return kind("what happened", **MORE.get(kind.__name__, {}))


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_arrives_as_it_was(kind):
    error = made(kind)

    arrived = pickle.loads(pickle.dumps(error))

    assert type(arrived) is kind
    assert str(arrived) == str(error)
    assert vars(arrived) == vars(error)
