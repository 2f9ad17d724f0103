"""Passages from whatever retriever is configured or passed."""

import threading
from types import SimpleNamespace

import pytest

import tuneful as tf


def numbered(query, k):
    return [f"{query} {i}" for i in range(k)]


async def asynchronous(query, k):
    return numbered(query, k)


class AsyncCallable:
    async def __call__(self, query, k):
        return numbered(query, k)


@pytest.mark.parametrize("rm", [numbered, asynchronous, AsyncCallable()])
def test_any_function_of_query_and_k_is_a_retriever(rm):
    assert tf.Retrieve(rm=rm)("a").passages == ["a 0", "a 1", "a 2"]


async def test_it_runs_with_await():
    assert (await tf.Retrieve(rm=numbered).acall("a", k=1)).passages == ["a 0"]


def test_the_call_decides_on_k_before_the_module():
    find = tf.Retrieve(k=2, rm=numbered)
    assert len(find("a").passages) == 2
    assert len(find("a", k=5).passages) == 5
    assert len(find(query="a", k=1).passages) == 1


def test_the_configured_retriever_answers_where_none_was_passed():
    with tf.context(rm=lambda query, k: ["configured"]):
        assert tf.Retrieve()("a").passages == ["configured"]
        assert tf.Retrieve(k=1, rm=numbered)("a").passages == ["a 0"]


def test_without_a_retriever_the_error_says_what_to_do():
    with pytest.raises(tf.NotConfiguredError, match=r"tf\.configure\(rm=\.\.\.\)"):
        tf.Retrieve()("a")


def test_objects_with_a_text_become_texts():
    found = tf.Retrieve(rm=lambda q, k: ("plain", SimpleNamespace(text="from an object"), 7))("a")
    assert found.passages == ["plain", "from an object", "7"]


@pytest.mark.parametrize("wrong", ["one text", None, 5])
def test_what_is_no_list_of_passages_is_a_usage_error(wrong):
    with pytest.raises(tf.UsageError, match="list of passages"):
        tf.Retrieve(rm=lambda q, k: wrong)("a")


def test_an_exception_of_the_retriever_comes_out_as_it_is():
    with pytest.raises(ZeroDivisionError):
        tf.Retrieve(rm=lambda q, k: 1 / 0)("a")


def test_a_blocking_retriever_runs_in_a_worker_thread():
    found = tf.Retrieve(rm=lambda q, k: [threading.current_thread().name])("a")
    assert found.passages[0].startswith("tuneful-worker")


def test_a_program_that_retrieves_can_be_saved_and_loaded(tmp_path):
    class Program(tf.Module):
        def __init__(self):
            self.find = tf.Retrieve(k=tf.Choice([1, 2, 3]), rm=tf.BM25(["one passage"]))

    program = Program().with_parameters({"find.k": 3})
    program.save(tmp_path / "p.json")
    loaded = Program().load(tmp_path / "p.json")
    assert loaded.find.k == 3
    assert loaded.find("passage").passages == ["one passage"]
