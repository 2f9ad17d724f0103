"""Reading what is too long for a prompt."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM

LOG = "\n".join(f"line {i}: nothing" for i in range(20_000)) + "\nline x: the key is under the mat"


def step(code):
    return {"next_thought": "t", "code": code}


def test_code_finds_what_no_prompt_could_hold():
    lm = DummyLM([step("hits = [l for l in log.split('\\n') if 'key' in l]\nprint(hits)"), step("submit(hits[0][8:])")])
    found = tf.RLM("log -> place")(log=LOG, lm=lm)
    assert found.place == "the key is under the mat"
    assert all(len(r.messages[-1].text) < 6_000 for r in lm.requests)
    assert f"log: str, {len(LOG):,} characters; begins: 'line 0: nothing" in lm.requests[0].messages[-1].text


def test_variables_are_told_by_type_and_length():
    lm = DummyLM([step("submit(len(rows) + n)")])
    found = tf.RLM("rows: list[dict[str, int]], n: int -> total: int")(rows=[{"a": 1}] * 300, n=2, lm=lm)
    assert found.total == 302
    told = lm.requests[0].messages[-1].text
    assert "rows: list, 300 items, 3,000 characters as JSON; begins: " in told
    assert "n: int, 1 characters as JSON; is: '2'" in told


def test_the_code_asks_a_model_of_its_own():
    lm = DummyLM([step("submit(llm_query_batched(['a: ' + p for p in parts]) + [llm_query('b')])")])
    sub = ScriptedLM(
        lambda request: f"[[ ## answer ## ]] {request.messages[-1].text.split('prompt ## ]]')[1].split()[0]}"
    )
    found = tf.RLM("parts: list[str] -> said: list[str]", sub_lm=sub)(parts=["x", "y"], lm=lm)
    assert found.said == ["a:", "a:", "b"]
    assert len(sub.requests) == 3
    assert [s.path for s in found.trace].count("query") == 3


def test_prompts_are_asked_side_by_side():
    asked = []

    def answer(request):
        asked.append(request)
        return "[[ ## answer ## ]] yes"

    lm = DummyLM([step("submit(llm_query_batched(['p' + str(i) for i in range(20)])[0])")])
    sub = ScriptedLM(answer, seconds=0.05)
    found = tf.RLM("n: int -> answer", sub_lm=sub)(n=1, lm=lm)
    assert found.answer == "yes"
    assert len(asked) == 20


def test_a_call_s_model_is_asked_where_there_is_no_other():
    lm = DummyLM([step("submit(llm_query('p'))"), {"answer": "b"}])
    assert tf.RLM("n: int -> answer")(n=1, lm=lm).answer == "b"


def test_the_number_of_prompts_is_bounded_and_the_code_is_told():
    lm = DummyLM([step("llm_query_batched(['p'] * 3)"), step("submit(llm_query_batched(['p'] * 2)[0])")])
    sub = ScriptedLM(lambda request: "[[ ## answer ## ]] yes")
    found = tf.RLM("n: int -> answer", max_llm_calls=2, sub_lm=sub)(n=1, lm=lm)
    assert found.answer == "yes"
    assert len(sub.requests) == 2
    assert "3 prompts, and of 2 that may be asked 2 are left" in found.trajectory[0].observations[0]


def test_each_run_has_all_of_its_prompts():
    program = tf.RLM("n: int -> answer", max_llm_calls=1, sub_lm=ScriptedLM(lambda request: "[[ ## answer ## ]] yes"))
    for _ in range(3):
        assert program(n=1, lm=DummyLM([step("submit(llm_query('p'))")])).answer == "yes"


def test_a_model_that_cannot_be_reached_ends_the_run():
    sub = ScriptedLM([tf.LMAuthError("no key")])
    code = "try:\n  llm_query('p')\nexcept BaseException:\n  submit('caught')"
    with pytest.raises(tf.LMAuthError):
        tf.RLM("n: int -> answer", sub_lm=sub)(n=1, lm=DummyLM([step(code)]))


def test_tools_are_there_besides():
    def look_up(key: str) -> str:
        """Look up."""
        return key.upper()

    lm = DummyLM([step("submit(look_up(text[:2]))")])
    assert tf.RLM("text -> answer", tools=[look_up])(text="abc", lm=lm).answer == "AB"


def test_the_answer_is_asked_for_outright_at_the_end():
    lm = DummyLM([step("print(text[:3])"), {"answer": "abc"}])
    assert tf.RLM("text -> answer", max_iters=1)(text="abc", lm=lm).answer == "abc"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_llm_calls": -1}, "max_llm_calls"),
        ({"max_llm_calls": True}, "max_llm_calls"),
        ({"max_iters": 0}, "max_iters"),
        ({"sub_lm": "gpt"}, "sub_lm"),
        ({"tools": [tf.Tool(len, name="llm_query", parameters={}, desc="d")]}, "llm_query"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(tf.UsageError, match=message):
        tf.RLM("text -> answer", **options)


class Thing:
    """Nothing that JSON knows."""


def test_an_input_that_code_cannot_have_is_refused_before_any_call():
    lm = DummyLM([])
    program = tf.RLM(tf.Signature("thing: Thing -> answer", custom_types={"Thing": Thing}))
    with pytest.raises(tf.InputError, match="`thing` cannot be handed to code"):
        program(thing=Thing(), lm=lm)
    assert lm.requests == []
