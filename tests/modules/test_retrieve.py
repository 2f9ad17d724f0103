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
    found = tf.Retrieve(rm=lambda q, k: ("plain", SimpleNamespace(text="from an object"), {"long_text": "mapped"}))("a")
    assert found.passages == ["plain", "from an object", "mapped"]


def test_passages_go_into_a_prompt_and_keep_id_title_and_score():
    class Program(tf.Module):
        def __init__(self):
            self.find = tf.Retrieve(rm=tf.BM25([{"id": "n", "title": "Nile", "text": "A river."}]))
            self.answer = tf.Predict("context: list[str], question -> answer")

        def forward(self, question):
            context = []
            context += self.find(question).passages
            return tf.Prediction(answer=self.answer(context=context, question=question).answer, context=context)

    with tf.context(lm=tf.testing.DummyLM([{"answer": "yes"}])):
        found = Program()("river?").context
    assert [(p.id, p.title, p.text) for p in found] == [("n", "Nile", "A river.")]
    assert found[0].score > 0


@pytest.mark.parametrize("wrong", ["one text", None, 5, [None], ["fine", 7], {"text": "one"}, [{"title": "t"}]])
def test_what_is_no_list_of_passages_is_a_usage_error(wrong):
    with pytest.raises(tf.UsageError, match=r"list of passages.*'my query'|'my query'.*"):
        tf.Retrieve(rm=lambda q, k: wrong)("my query")


def test_more_passages_than_were_asked_for_are_cut_off():
    assert tf.Retrieve(k=2, rm=lambda q, k: ["a", "b", "c"])("q").passages == ["a", "b"]


def test_a_retriever_that_raises_is_a_typed_error_with_the_query_and_its_cause():
    with pytest.raises(tf.RetrieverError, match=r"raised ZeroDivisionError for the query 'my query'") as caught:
        tf.Retrieve(rm=lambda q, k: 1 / 0)("my query")
    assert caught.value.query == "my query"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_error_of_a_model_that_a_retriever_asks_comes_out_as_it_is():
    def expanding(query, k):
        return tf.Predict("query -> terms")(query=query, lm=tf.testing.ScriptedLM([tf.LMServerError("down")])).terms

    with pytest.raises(tf.LMServerError, match="down"):
        tf.Retrieve(rm=expanding)("a")


@pytest.mark.parametrize("k", [0, -1, True, 1.5, "3"])
def test_k_below_1_is_a_usage_error_and_nobody_is_asked(k):
    def never(query, k):
        raise AssertionError

    with pytest.raises(tf.UsageError, match="`k` is"):
        tf.Retrieve(k=k, rm=never)
    with pytest.raises(tf.UsageError, match="`k` is"):
        tf.Retrieve(rm=never)("a", k=k)


def test_a_query_that_is_no_text_is_an_input_error():
    with pytest.raises(tf.InputError, match="a query is a text"):
        tf.Retrieve(rm=numbered)(["a"])


def test_a_k_larger_than_the_corpus_gives_all():
    assert len(tf.Retrieve(k=50, rm=tf.BM25(["one", "one two"]))("one").passages) == 2


# --- traces ---


class Hops(tf.Module):
    def __init__(self, rm):
        self.query = tf.Predict("question -> query")
        self.find = tf.Retrieve(k=2, rm=rm)

    def forward(self, question):
        first = self.find(question).passages
        return tf.Prediction(context=first + self.find(self.query(question=question).query, k=1).passages)


def test_searches_are_in_the_trace_with_their_path_and_no_steps():
    program = Hops(numbered)
    with tf.context(lm=tf.testing.DummyLM([{"query": "second"}])):
        trace = program("first").trace
    assert [step.path for step in trace] == ["query"]
    assert [(r.path, r.query, r.k, r.passages, r.error) for r in trace.retrievals] == [
        ("find", "first", 2, ["first 0", "first 1"], None),
        ("find", "second", 1, ["second 0"], None),
    ]
    assert tf.Retrieve(rm=numbered)("alone").trace.retrievals[0].path == ""


def test_the_trace_is_kept_when_a_retriever_raises_and_the_row_says_nothing_of_the_program():
    def breaking(query, k):
        if query == "second":
            raise ConnectionError("the index is gone")
        return numbered(query, k)

    rows = [tf.Example(question="first").with_inputs("question"), tf.Example(question="other").with_inputs("question")]
    lm = tf.testing.ScriptedLM(lambda r: f"[[ ## query ## ]] {'second' if 'first' in r.messages[-1].text else 'fine'}")
    with tf.context(lm=lm):
        result = tf.Evaluate(devset=rows, metric=lambda e, p, t=None: True)(Hops(breaking))
    broken, fine = result.rows
    assert (broken.status, fine.status) == ("infra_error", "ok")
    assert [step.path for step in broken.trace] == ["query"]
    assert [r.error is None for r in broken.trace.retrievals] == [True, False]
    assert "the index is gone" in broken.trace.retrievals[1].error
    assert "ConnectionError" in broken.error


# --- in programs ---


def test_it_runs_in_bulk_and_is_streamed_through():
    find = tf.Retrieve(k=1, rm=numbered)
    assert [p.passages for p in find.batch([{"query": "a"}, {"query": "b"}])] == [["a 0"], ["b 0"]]
    assert list(find.stream("a"))[-1].prediction.passages == ["a 0"]


def test_copies_share_a_retriever_and_not_a_module_that_retrieves():
    class Connection:
        def __call__(self, query, k):
            return numbered(query, k)

        def __deepcopy__(self, memo):
            raise TypeError("a connection cannot be copied")

    index, inner = Connection(), tf.Retrieve(rm=numbered)
    program = tf.Retrieve(rm=tf.Hybrid([index, inner]))
    twin = program.deepcopy()
    assert twin.rm is not program.rm
    assert twin.rm.retrievers[0] is index
    assert twin.rm.retrievers[1] is not inner
    assert twin("a", k=1).passages == ["a 0"]


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
