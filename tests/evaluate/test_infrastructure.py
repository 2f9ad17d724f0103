"""What somebody's own code raises: failures of networks and services say nothing about it, all others are its own."""

import errno
import socket
import ssl
import urllib.error

import pytest
from asked import echo, exact, make_rows

import tuneful as tf
from tuneful.evaluate.infrastructure import is_infrastructure
from tuneful.testing import ScriptedLM


def foreign(module, name, base=Exception, **attributes):
    """Return an exception of a package that need not be installed."""
    return type(name, (base,), {"__module__": module, **attributes})("what happened")


def raised_from(error, cause):
    error.__cause__ = cause
    return error


def answered(status):
    return type("Response", (), {"status_code": status})()


def http_error(status):
    return urllib.error.HTTPError("http://localhost", status, "no", None, None)


REFUSED = ConnectionRefusedError("refused")

PASSING = [
    REFUSED,
    ConnectionResetError(),
    TimeoutError(),
    socket.gaierror(-2, "Name or service not known"),
    ssl.SSLError("handshake"),
    OSError(errno.ENETUNREACH, "unreachable"),
    urllib.error.URLError(REFUSED),
    http_error(503),
    http_error(429),
    foreign("httpx", "ConnectError", foreign("httpx", "NetworkError").__class__),
    foreign("requests.exceptions", "ReadTimeout", foreign("requests.exceptions", "Timeout", OSError).__class__),
    foreign("requests.exceptions", "HTTPError", OSError, response=answered(502)),
    foreign("aiohttp.client_exceptions", "ClientPayloadError"),
    foreign("aiohttp.client_exceptions", "ClientResponseError", status=500),
    foreign("openai", "APIConnectionError"),
    raised_from(RuntimeError("the search is down"), REFUSED),
    raised_from(KeyError("x"), tf.LMServerError("overloaded")),
    tf.RetrieverError("down", query="q"),
    tf.ToolTimeoutError("slow", tool="look"),
    ExceptionGroup("tasks", [REFUSED, tf.LMServerError("overloaded")]),
]

OWN = [
    ValueError("mine"),
    FileNotFoundError(2, "no such file"),
    PermissionError(13, "denied"),
    OSError(errno.ENOSPC, "disk full"),
    http_error(404),
    urllib.error.URLError("unknown url type: x"),
    foreign("requests.exceptions", "HTTPError", OSError, response=answered(400)),
    foreign("httpx", "HTTPStatusError", response=answered(401)),
    foreign("mine", "NetworkError"),
    tf.ToolError("broke", tool="look"),
    ExceptionGroup("tasks", [REFUSED, ValueError("mine")]),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_a_network_or_a_service_has_failed(error):
    assert is_infrastructure(error)


@pytest.mark.parametrize("error", OWN, ids=repr)
def test_the_code_itself_has_failed(error):
    assert not is_infrastructure(error)


def test_causes_in_a_circle_end():
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first

    assert not is_infrastructure(first)


# --- rows ---


class Looks(tf.Module):
    """Raises an exception at one row."""

    def __init__(self, error):
        self.error = error
        self.answer = tf.Predict("question -> answer")

    def forward(self, question):
        if question == "q1":
            raise self.error
        return self.answer(question=question)


@pytest.mark.parametrize(
    ("error", "status", "score"),
    [(REFUSED, "infra_error", None), (TimeoutError("slow"), "infra_error", None), (OWN[1], "program_error", 0)],
)
def test_a_program_is_not_scored_where_a_network_failed_it(error, status, score):
    with tf.context(lm=ScriptedLM(echo)):
        result = tf.Evaluate(devset=make_rows(4), metric=exact, timeout_s=60)(Looks(error))

    assert result.rows[1].status == status
    assert result.rows[1].score == score
    assert result.score == (100 if score is None else 75)


@pytest.mark.parametrize(("error", "status"), [(REFUSED, "infra_error"), (OWN[1], "metric_error")])
def test_nor_where_it_failed_the_metric(error, status):
    def metric(example, prediction):
        if example.question == "q1":
            raise error
        return True

    with tf.context(lm=ScriptedLM(echo)):
        row = tf.Evaluate(devset=make_rows(4), metric=metric)(tf.Predict("question -> answer")).rows[1]

    assert (row.status, row.score) == (status, None)


@pytest.mark.parametrize("wrap", [lambda e: ExceptionGroup("tasks", [e]), lambda e: raised_from(ValueError(), e)])
def test_what_the_caller_must_act_on_is_raised_however_it_is_wrapped(wrap):
    error = wrap(tf.LMAuthError("no key"))

    with tf.context(lm=ScriptedLM(echo)), pytest.raises(tf.LMAuthError, match="no key"):
        tf.Evaluate(devset=make_rows(4), metric=exact)(Looks(error))
