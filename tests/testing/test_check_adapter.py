"""check_adapter: it finds what is broken, and names it."""

import json
import re

import pytest

import tuneful as tf
from tuneful.adapters.base import Parsed, Section
from tuneful.adapters.chat import ChatAdapter
from tuneful.adapters.compact import CompactAdapter
from tuneful.adapters.functions import FunctionAdapter
from tuneful.testing import ScriptedLM, check_adapter
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.messages import user


def lines(fields, values):
    return "\n".join(f"{name} = {json.dumps(values[name])}" for name in fields if name in values)


def render(signature, demos, inputs):
    wanted = ", ".join(signature.output_fields)
    messages = [{"role": "system", "content": f"{signature.instructions}\nAnswer with lines `name = JSON`: {wanted}"}]
    for demo in demos:
        messages.append({"role": "user", "content": lines(signature.input_fields, demo)})
        messages.append({"role": "assistant", "content": lines(signature.output_fields, demo)})
    return [*messages, user(lines(signature.input_fields, inputs))]


def parse(signature, text):
    rows = (line.partition(" = ") for line in text.split("\n"))
    return {name: json.loads(value) for name, found, value in rows if found}


LINES = {"name": "lines", "render": render, "parse": parse}


def lines_adapter(**changes):
    return tf.Adapter.from_functions(**{**LINES, **changes})


# --- adapters of functions ---


def test_an_adapter_of_two_functions_keeps_the_laws_and_runs_a_program():
    check_adapter(lines_adapter())
    lm = ScriptedLM(['answer = "Paris"\nscore = 0.5'])
    program = tf.Predict("question -> answer, score: float").using(lm=lm, adapter=lines_adapter())
    program.demos = [tf.Example(question="q", answer="Rome", score=1.0)]
    prediction = program(question="Capital?")
    assert (prediction.answer, prediction.score) == ("Paris", 0.5)
    assert lm.requests[0].stable == 3
    assert lm.requests[0].messages[2].text == 'answer = "Rome"\nscore = 1.0'
    assert program.parameters()["adapter"].value == "lines"


def test_values_are_checked_and_texts_read_tolerantly_and_the_rest_repaired():
    lm = ScriptedLM(['answer = "x"\nscore = 7', 'score = "about 0.5"', 'score = "about 0.5"\nanswer = 3'])
    signature = tf.Signature("question -> answer: Literal['3'], score: float").with_updated_fields("score", le=1)
    with pytest.raises(tf.AdapterParseError, match="answer"):
        tf.Predict(signature).using(lm=lm, adapter=lines_adapter())(question="x")
    said = lm.requests[1].messages[-1].text
    assert "- answer: " in said
    assert "less than or equal to 1" in said


def test_a_value_error_of_parse_is_a_bad_answer_and_any_other_a_bug():
    lm = ScriptedLM(["answer = {oops", 'answer = "x"'])
    program = tf.Predict("question -> answer").using(lm=lm, adapter=lines_adapter())
    assert program(question="x").answer == "x"
    assert "could not be read" in lm.requests[1].messages[-1].text
    broken = lines_adapter(parse=lambda signature, text: {}["x"])
    with pytest.raises(KeyError):
        tf.Predict("question -> answer").using(lm=ScriptedLM(["x"]), adapter=broken)(question="x")


def test_the_third_function_decides_what_is_enforced():
    def enforced(signature, capabilities):
        return {"json_schema": {"type": "object"}} if capabilities.json_schema else None

    adapter = lines_adapter(plan=enforced)
    signature = tf.Signature("question -> answer")
    assert adapter.plan(signature, Capabilities(json_schema=True)).json_schema == '{"type": "object"}'
    assert adapter.plan(signature, Capabilities()).json_schema is None
    wrong = lines_adapter(plan=lambda *_: {"schema": {}})
    with pytest.raises(tf.UsageError, match="'schema'"):
        wrong.plan(signature, Capabilities())


@pytest.mark.parametrize(
    ("rendered", "match"),
    [
        ([], "end with the user"),
        ([{"role": "system", "content": "x"}], "end with"),
        (["x"], "a message is"),
        ([{}], "a message is"),
    ],
)
def test_what_is_no_prompt_is_a_usage_error_before_any_call(rendered, match):
    lm = ScriptedLM([])
    adapter = lines_adapter(render=lambda *_: rendered)
    with pytest.raises(tf.UsageError, match=match):
        tf.Predict("question -> answer").using(lm=lm, adapter=adapter)(question="x")
    with pytest.raises(tf.UsageError, match="a word"):
        lines_adapter(name="json>chat")


def test_equal_functions_make_equal_adapters():
    assert lines_adapter() == lines_adapter()
    assert len({lines_adapter(), lines_adapter(), lines_adapter(name="other")}) == 2
    assert isinstance(lines_adapter(), FunctionAdapter)


def test_a_dummy_answers_in_its_form():
    lm = tf.testing.DummyLM([{"answer": "x"}], adapter=lines_adapter())
    assert lm("?") == ['answer = "x"']


# --- broken adapters ---


def bare(fields, values):
    return "\n".join(f"{name} = {values[name]}" for name in fields if name in values)


def bare_render(signature, demos, inputs):
    return [{"role": "user", "content": bare(signature.input_fields, inputs)}]


def found_by_check(adapter, law):
    with pytest.raises(AssertionError) as caught:
        check_adapter(adapter)
    message = str(caught.value)
    assert re.search(law, message), message
    assert "signature: " in message
    return message


def test_texts_that_pass_for_another_input_are_found():
    message = found_by_check(lines_adapter(render=bare_render), "no text of a user may pass for structure")
    assert "{'first': 'a\\nsecond = b', 'second': 'c'}" in message


def test_a_prompt_that_begins_with_the_inputs_is_found():
    def first(signature, demos, inputs):
        return [{"role": "system", "content": str(inputs)}, {"role": "user", "content": "Answer."}]

    found_by_check(lines_adapter(render=first), "the same bytes from call to call")


def test_an_answer_that_is_not_read_back_is_found_with_the_smallest_value():
    def stripped(signature, text):
        return {n: v.strip() if isinstance(v, str) else v for n, v in parse(signature, text).items()}

    message = found_by_check(lines_adapter(parse=stripped), "must be read back")
    assert "values {'answer': ' x '}" in message


def test_an_exception_while_reading_or_rendering_is_found():
    message = found_by_check(
        lines_adapter(parse=lambda signature, text: {"answer": json.loads(text.split(" = ", 1)[1])}), "must not raise"
    )
    assert "IndexError" in message

    def needy(signature, demos, inputs):
        for demo in demos:
            [demo[name] for name in signature.fields]
        return render(signature, demos, inputs)

    assert "KeyError" in found_by_check(lines_adapter(render=needy), "rendering must not raise")


class Forgetful(ChatAdapter):
    """Says nothing of outputs that it does not find."""

    def parse(self, plan, text):
        return Parsed(super().parse(plan, text).fields, {})


class Mute(ChatAdapter):
    """Does not say what is wrong."""

    def repair(self, request, answer, parsed):
        return super().repair(request, answer, Parsed({}, {}))


class Hasty(ChatAdapter):
    """Tells what may still become a marker."""

    def partial(self, plan, text):
        return [Section(next(iter(plan.signature.output_fields)), text.partition("]]\n")[2], closed=False)]


class Trusting(CompactAdapter):
    """Does not indent further lines, so that one may open a field."""

    def output_text(self, signature, values):
        return super().output_text(signature, values).replace("\n  ", "\n")


@pytest.mark.parametrize(
    ("adapter", "law"),
    [
        (Forgetful(), "every output has a value or a problem"),
        (Mute(), "name every problem"),
        (Hasty(), "streamed"),
        (Trusting(), "must be read back"),
    ],
)
def test_other_broken_laws_are_found(adapter, law):
    found_by_check(adapter, law)


def test_every_member_of_a_fallback_is_checked():
    found_by_check(["chat", Mute()], "name every problem")
    with pytest.raises(tf.UsageError, match="Did you mean `json`"):
        check_adapter("jsno")
