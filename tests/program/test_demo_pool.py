"""Demos that are picked for each input: which, in which order, in which form, and what is saved."""

import asyncio
import json

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM

ROWS = [{"word": w, "kind": w[0]} for w in ("aaa", "aab", "abb", "bbb")]


def letters(texts):
    return [[t.count("a"), t.count("b")] for t in (text.removeprefix("word: ") for text in texts)]


def pooled(k=2, embedder=letters, rows=ROWS):
    program = tf.Predict("word -> kind")
    program.set_embedder(embedder)
    return program.with_parameters({"demo_pool": {"rows": rows, "k": k}})


def model():
    return ScriptedLM(lambda request: "[[ ## kind ## ]] x")


def asked(request):
    """The words of the demos and of the input, in order."""
    return [m.text.split("## ]]")[1].split()[0] for m in request.messages if m.role == "user"]


def test_the_rows_nearest_to_the_inputs_are_shown_the_most_alike_last():
    lm = model()
    program = pooled().using(lm=lm)
    program(word="abbbb")
    program(word="aaaa")

    assert [asked(r) for r in lm.requests] == [["bbb", "abb", "abbbb"], ["aab", "aaa", "aaaa"]]


def test_demos_of_its_own_stand_before_them_so_that_a_prefix_cache_serves_them():
    lm = model()
    program = pooled(k=1).with_parameters({"demos": [{"word": "zzz", "kind": "z"}]})
    program.using(lm=lm)(word="bbbb")

    assert asked(lm.requests[0]) == ["zzz", "bbb", "bbbb"]


def test_what_render_shows_is_what_is_sent():
    lm = model()
    program = pooled().using(lm=lm)
    rendered = program.render(word="abbbb")
    program(word="abbbb")

    assert [m.text for m in rendered.messages] == [m.text for m in lm.requests[0].messages]
    assert len(program.render().messages) == 2  # nothing can be like an input that is not known yet


def test_the_rows_are_embedded_once_for_all_calls_and_copies():
    calls = []

    def counted(texts):
        calls.append(len(texts))
        return letters(texts)

    program = pooled(embedder=counted).using(lm=model())
    program(word="a")
    program.deepcopy()(word="b")
    asyncio.run(program.acall(word="ab"))

    assert sorted(calls) == [1, 1, 1, len(ROWS)]


def test_demos_given_to_a_call_are_the_ones_shown():
    lm = model()
    pooled().using(lm=lm)(word="a", demos=[])

    assert asked(lm.requests[0]) == ["a"]


def test_a_pool_with_fewer_rows_than_k_shows_them_all():
    lm = model()
    pooled(k=9).using(lm=lm)(word="a")

    assert len(asked(lm.requests[0])) == len(ROWS) + 1


def test_a_function_must_be_given_again_before_loading(tmp_path):
    pooled().save(tmp_path / "p.json")

    fresh = tf.Predict("word -> kind")
    with pytest.raises(tf.StateError, match=r"`letters`.*set_embedder"):
        fresh.load(tmp_path / "p.json")
    fresh.set_embedder(letters)
    lm = model()
    fresh.load(tmp_path / "p.json").using(lm=lm)(word="abbbb")
    assert asked(lm.requests[0]) == ["bbb", "abb", "abbbb"]


def test_the_embedder_of_a_named_model_is_made_again_from_its_name(tmp_path):
    program = pooled(embedder=tf.Embedder("openai/text-embedding-3-small", api_key="secret", dimensions=64))
    program.save(tmp_path / "p.json")

    saved = json.loads((tmp_path / "p.json").read_text())
    assert saved["parameters"]["demo_pool"]["embedder"] == "openai/text-embedding-3-small"
    assert saved["parameters"]["demo_pool"]["dimensions"] == 64
    assert "secret" not in json.dumps(saved)
    loaded = tf.Predict("word -> kind").load(tmp_path / "p.json")
    assert loaded.demo_pool.value == program.demo_pool.value


@pytest.mark.parametrize(
    "value", [{"rows": [], "k": 1}, {"rows": ROWS}, {"rows": ROWS, "k": 0}, {"rows": ["a"], "k": 1}]
)
def test_a_value_that_is_no_pool_is_refused(value):
    program = tf.Predict("word -> kind")
    program.set_embedder(letters)
    with pytest.raises(tf.UsageError):
        program.with_parameters({"demo_pool": value})


def test_what_is_no_embedder_is_refused():
    with pytest.raises(tf.UsageError, match="embedder"):
        tf.ChainOfThought("word -> kind").set_embedder(3)


def test_reset_drops_the_rows_and_keeps_the_embedder():
    program = pooled().reset_copy()

    assert program.demo_pool.rows == ()
    assert program.with_parameters({"demo_pool": {"rows": ROWS, "k": 1}}).demo_pool.rows == ROWS


def test_an_agents_steps_are_picked_and_shown_in_the_form_of_its_steps():
    def search(query: str) -> str:
        return "found"

    rows = [
        {"question": q, "trajectory": [], "next_thought": t, "next_tool_name": "search", "next_tool_args": {"query": q}}
        for q, t in (("aaa", "thought of a"), ("bbb", "thought of b"))
    ]
    agent = tf.ReAct("question -> answer", tools=[search], native=False)
    agent.set_embedder(lambda texts: [[t.count("aa"), t.count("bb")] for t in texts])
    agent = agent.with_parameters({"react.demo_pool": {"rows": rows, "k": 1}})
    done = (
        '[[ ## next_thought ## ]]\nt\n[[ ## next_tool_name ## ]]\nsubmit\n[[ ## next_tool_args ## ]]\n{"answer": "x"}'
    )
    lm = ScriptedLM(lambda request: done)
    assert agent.using(lm=lm)(question="bbbb").answer == "x"

    prompt = "\n".join(m.text for m in lm.requests[0].messages)
    assert "thought of b" in prompt
    assert "thought of a" not in prompt
