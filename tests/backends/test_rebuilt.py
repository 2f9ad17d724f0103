"""What holds connections travels as the arguments of its constructor, and no secret does."""

import copy
import gc
import pickle
import subprocess
import sys
import threading

import cloudpickle
import pytest

import tuneful as tf
from tuneful.backends import rebuilt
from tuneful.backends.base import Backend
from tuneful.testing import ScriptedLM
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.response import Choice, Response

SECRET = "sk-a-secret-0123456789"


def look(query: str) -> str:
    """Look for something."""
    return query


def elsewhere(thing, expression):
    """Return what an expression of `x` gives in another process, as text."""
    program = f"import sys, pickle\nx = pickle.loads(sys.stdin.buffer.read())\nprint({expression})"
    done = subprocess.run([sys.executable, "-c", program], input=cloudpickle.dumps(thing), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_an_lm_is_made_again_from_its_name_and_options():
    lm = tf.LM(
        "openai/my-model", api_base="http://127.0.0.1:9/v1", temperature=0.3, max_tokens=50, price_per_million=(1, 2)
    )

    told = elsewhere(lm, "[repr(x), x.endpoint, repr(x.price), repr(x.sampling)]")
    assert told == str([repr(lm), lm.endpoint, repr(lm.price), repr(lm.sampling)])


def test_a_copy_with_other_sampling_keeps_it():
    lm = tf.LM("openai/gpt-4o-mini", max_tokens=50).copy(temperature=0.9)

    assert elsewhere(lm, "x") == repr(lm)


def test_what_a_probe_has_found_travels():
    lm = tf.LM("openai/my-model", api_base="http://127.0.0.1:9/v1")
    lm._source.capabilities = Capabilities(json_schema=True, grammar="gbnf")

    assert elsewhere(lm, "[x.capabilities.grammar, x.capabilities.json_schema]") == "['gbnf', True]"


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.LM("openai/gpt-4o-mini", api_key=SECRET),
        lambda: tf.LM("openai/gpt-4o-mini", api_key=SECRET).copy(temperature=1.0),
        lambda: tf.Embedder("openai/text-embedding-3-small", api_key=SECRET),
        lambda: tf.Reranker("reranker", api_base="http://127.0.0.1:9/v1", api_key=SECRET),
        lambda: tf.Predict("question -> answer").using(lm=tf.LM("openai/gpt-4o-mini", api_key=SECRET)),
        lambda: tf.LM("openai/gpt-4o-mini", api_key=SECRET)._source,
    ],
)
def test_a_key_does_not_travel_in_any_form(make):
    assert SECRET.encode() not in cloudpickle.dumps(make())


def test_headers_do_not_travel_and_that_is_said_without_their_values():
    lm = tf.LM("openai/gpt-4o-mini", headers={"X-Token": SECRET})

    with pytest.raises(tf.UsageError, match=r"`headers` \(X-Token\)") as caught:
        pickle.dumps(lm)

    assert SECRET not in str(caught.value)
    assert SECRET not in repr(vars(lm)["_made_with"])


def test_an_lm_that_asks_in_batches_stays_where_it_is():
    with pytest.raises(tf.UsageError, match="in batches"):
        pickle.dumps(tf.LM("openai/gpt-4o-mini", batch=True))


def test_a_script_of_answers_in_order_stays_where_it_is():
    with pytest.raises(tf.UsageError, match="one order"):
        pickle.dumps(ScriptedLM(["a", "b"]))


def test_what_arrives_twice_is_one_object_for_as_long_as_it_is_held():
    def sent():
        lm = tf.LM("openai/gpt-4o-mini")
        data = pickle.dumps([lm, tf.Predict("question -> answer").using(lm=lm)])
        return data, [found is lm for found in (pickle.loads(data)[0], pickle.loads(data)[1].lm)]

    data, same = sent()
    assert same == [True, True]

    gc.collect()
    assert not [lm for lm in list(rebuilt._here.values()) if repr(lm) == "LM('openai/gpt-4o-mini')"]
    one, program = pickle.loads(data)
    assert program.lm is one


def test_a_shallow_copy_is_made_here_with_what_it_holds():
    lm = tf.LM("openai/gpt-4o-mini", api_key=SECRET)

    assert copy.copy(lm)._source is lm._source


def test_a_backend_of_the_users_own_is_made_again():
    class Mine(Backend):
        endpoint = "mine"

        def __init__(self, word):
            self.word, self.guard = word, threading.Lock()

        async def complete(self, request):
            with self.guard:
                return Response((Choice(self.word),))

    assert elsewhere(tf.LM("mine", backend=Mine("yes")), "x('Are you there?', cache=False)") == "['yes']"


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf.ChainOfThought("question -> answer"),
        lambda: tf.ReAct("question -> answer", tools=[look]),
        lambda: tf.ProgramOfThought("question -> answer"),
        lambda: tf.CodeAct("question -> answer", tools=[look]),
        lambda: tf.RLM("question -> answer"),
        lambda: tf.BestOfN(tf.Predict("question -> answer"), N=2, reward_fn=lambda args, p: 1.0, threshold=1.0),
        lambda: tf.Refine(tf.Predict("question -> answer"), N=2, reward_fn=lambda args, p: 1.0, threshold=1.0),
        lambda: tf.MultiChainComparison("question -> answer"),
        lambda: tf.SelfConsistency(tf.Predict("question -> answer")),
        lambda: tf.Retrieve(rm=tf.BM25(["one", "two"])),
        lambda: tf.Hybrid([tf.BM25(["one", "two"]), tf.ColBERTv2("http://127.0.0.1:9")]),
        lambda: tf.Predict("question -> answer").require(lambda p: p.answer, "Answer."),
    ],
)
def test_programs_travel_with_all_that_they_hold(make):
    program = make()

    arrived = pickle.loads(cloudpickle.dumps(program))

    assert repr(arrived) == repr(program)
    assert arrived.dump_state() == program.dump_state()


def test_a_cache_is_one_cache_in_each_process(tmp_path):
    file, memory = tf.Cache(tmp_path / "cache.sqlite", mode="read"), tf.Cache(None)

    assert elsewhere(file, "[str(x.path), x.mode]") == str([str(file.path), "read"])
    assert elsewhere(memory, "x.path") == "None"
    assert pickle.loads(pickle.dumps(memory)) is memory
