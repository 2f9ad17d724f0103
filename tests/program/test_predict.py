"""The leaf that asks a model."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.wire.response import Choice, Response, Usage


def chat(**fields):
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


def cut(text):
    return Response((Choice(text, "length"),))


def asked(lm, spec="question -> answer: int", **config):
    return tf.Predict(spec, **config).using(lm=lm, adapter="chat")


def test_the_outputs_have_their_types():
    lm = ScriptedLM([chat(count=3, names='["a", "b"]', ok="true")])
    prediction = asked(lm, "question -> count: int, names: list[str], ok: bool")(question="x")
    assert prediction.to_dict() == {"count": 3, "names": ["a", "b"], "ok": True}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "no value for input field `question`"),
        ({"question": "x", "quesiton": "y"}, "Did you mean `question`"),
        ({"question": "x", "answer": 3}, "It is an output"),
    ],
)
def test_missing_and_unknown_inputs_are_an_input_error_before_any_call(given, message):
    lm = ScriptedLM([])
    with pytest.raises(tf.InputError, match=message):
        asked(lm)(**given)
    assert lm.requests == []


def test_an_input_of_another_type_is_an_input_error_before_any_call():
    lm = ScriptedLM([])
    with pytest.raises(tf.InputError, match="`n` must be int"):
        asked(lm, "n: int -> answer")(n="many")
    assert lm.requests == []


def test_inputs_are_given_by_name():
    with pytest.raises(tf.InputError, match=r"question="):
        asked(ScriptedLM([]))("what?")


def test_options_of_a_call_hold_for_that_call_only():
    own, other = ScriptedLM([chat(answer=1)]), ScriptedLM(['{"answer": 2}'])
    predictor = asked(own)
    demos = [{"question": "1+1", "answer": 2}]
    found = predictor(question="x", lm=other, adapter="json", demos=demos, config={"temperature": 0.9})
    assert found.answer == 2
    assert other.requests[0].sampling.temperature == 0.9
    assert len(other.requests[0].messages) == 4
    assert predictor(question="x").answer == 1
    assert own.requests[0].sampling.temperature == 0.0
    assert len(own.requests[0].messages) == 2


def test_an_input_may_be_named_like_an_option():
    lm = ScriptedLM([chat(answer=1)])
    asked(lm, "config, demos -> answer: int")(config="verbose", demos="three")
    assert "verbose" in lm.requests[0].messages[-1].content


def test_an_unknown_option_is_a_usage_error_when_the_predictor_is_made():
    with pytest.raises(tf.UsageError, match="Did you mean `temperature`"):
        tf.Predict("a -> b", temprature=1)


# --- sampling ---


def test_the_predictors_sampling_counts_where_it_is_set_and_the_lms_where_it_is_not():
    lm = ScriptedLM([chat(answer=1)], temperature=0.2, max_tokens=99, top_p=0.5)
    asked(lm, temperature=0.8)(question="x")
    sampling = lm.requests[0].sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.top_p) == (0.8, 99, 0.5)


def test_n_completions_come_as_columns():
    lm = ScriptedLM([[chat(answer=i) for i in (4, 5, 6)]])
    prediction = asked(lm, n=3, temperature=0.7)(question="x")
    assert prediction.answer == 4
    assert prediction.completions.answer == [4, 5, 6]
    assert [c.answer for c in prediction.completions] == [4, 5, 6]
    assert len(lm.requests) == 1


@pytest.mark.parametrize(("own", "lms"), [({"n": 3, "temperature": 0.0}, {}), ({"n": 3}, {"temperature": 0.0})])
def test_several_greedy_samples_are_a_usage_error_before_any_call(own, lms):
    lm = ScriptedLM([chat(answer=1)], **lms)
    with pytest.raises(tf.UsageError, match="identical"):
        asked(lm).using(**own)(question="x")
    assert lm.requests == []


# --- repair ---


def test_an_answer_that_does_not_fit_gets_one_repair_turn_that_shows_what_is_wrong():
    lm = ScriptedLM([chat(answer="many"), chat(answer="7")])
    prediction = asked(lm)(question="x")
    assert prediction.answer == 7
    first, second = lm.requests
    assert second.messages[: len(first.messages)] == first.messages
    answer, complaint = second.messages[len(first.messages) :]
    assert (answer.role, answer.content) == ("assistant", chat(answer="many"))
    assert complaint.role == "user"
    assert "answer" in complaint.content
    assert "integer" in complaint.content
    (step,) = prediction.trace
    assert step.repairs == 1
    assert prediction.trace.usage.calls == 2


def test_after_one_repair_the_error_carries_the_raw_text():
    lm = ScriptedLM([chat(answer="many"), chat(answer="lots"), chat(answer="7")])
    with pytest.raises(tf.AdapterParseError) as caught:
        asked(lm)(question="x")
    error = caught.value
    assert len(lm.requests) == 2
    assert error.raw == chat(answer="lots")
    assert error.parsed == {}
    assert len(error.problems) == 1
    assert "`answer`" in error.problems[0]
    assert error.truncated is False
    assert error.raw in str(error)


def test_the_error_names_the_predictor_and_keeps_what_could_be_read():
    program = tf.Module()
    program.steps = [tf.Predict("question -> word, answer: int")]
    program.forward = lambda question: program.steps[0](question=question)
    program.set_lm(ScriptedLM([chat(word="ok", answer="?")] * 2))
    with pytest.raises(tf.AdapterParseError) as caught:
        program(question="x")
    assert caught.value.predictor == "steps[0]"
    assert caught.value.parsed == {"word": "ok"}


def test_a_broken_constraint_is_repaired_or_refused():
    signature = tf.Signature({"q": tf.InputField(), "points": (int, tf.OutputField(ge=0, le=10))})
    lm = ScriptedLM([chat(points=11), chat(points=10)])
    assert asked(lm, signature)(q="x").points == 10
    with pytest.raises(tf.AdapterParseError, match="less than or equal to 10"):
        asked(ScriptedLM([chat(points=11)] * 2), signature)(q="x")


def test_without_repairs_the_first_answer_counts():
    lm = ScriptedLM([chat(answer="many"), chat(answer="7")])
    with tf.context(max_repairs=0), pytest.raises(tf.AdapterParseError):
        asked(lm)(question="x")
    assert len(lm.requests) == 1


def test_each_broken_sample_is_repaired_alone():
    lm = ScriptedLM([[chat(answer=1), chat(answer="b"), chat(answer=3)], chat(answer=2)])
    prediction = asked(lm, n=3, temperature=0.7)(question="x")
    assert prediction.completions.answer == [1, 2, 3]
    assert [r.sampling.n for r in lm.requests] == [3, 1]


def test_a_repair_asks_for_one_sample_also_of_an_lm_that_gives_several():
    lm = ScriptedLM([[chat(answer="a"), chat(answer=2)], chat(answer=1)], n=2, temperature=0.7)
    assert asked(lm)(question="x").completions.answer == [1, 2]
    assert [r.sampling.n for r in lm.requests] == [2, 1]


def test_a_field_that_was_read_well_is_kept_where_the_repair_leaves_it_out():
    lm = ScriptedLM([chat(word="ok", answer="?"), chat(answer=7)])
    assert asked(lm, "question -> word, answer: int")(question="x").to_dict() == {"word": "ok", "answer": 7}


def test_the_mended_value_counts_where_both_answers_have_one():
    lm = ScriptedLM([chat(word="first", answer="?"), chat(word="second", answer=7)])
    assert asked(lm, "question -> word, answer: int")(question="x").word == "second"


def test_a_default_does_not_replace_a_value_that_was_read():
    lm = ScriptedLM([chat(note="kept", answer="?"), chat(answer=7)])
    assert asked(lm, "question -> note: str | None, answer: int")(question="x").note == "kept"


def test_the_error_carries_both_answers():
    lm = ScriptedLM([chat(answer="many"), chat(answer="lots")])
    with pytest.raises(tf.AdapterParseError) as caught:
        asked(lm)(question="x")
    assert (caught.value.earlier, caught.value.raw) == (chat(answer="many"), chat(answer="lots"))
    assert "many" in str(caught.value)


def test_a_sample_that_cannot_be_read_is_dropped_and_counted():
    lm = ScriptedLM([[chat(answer="a"), chat(answer=2), chat(answer=3)], chat(answer="b")])
    prediction = asked(lm, n=3, temperature=0.7)(question="x")
    assert prediction.completions.answer == [2, 3]
    assert prediction.answer == 2
    (step,) = prediction.trace
    assert step.noted["sample dropped (tolerated)"] == 1


def test_only_where_no_sample_can_be_read_is_it_an_error():
    lm = ScriptedLM([[chat(answer="a"), chat(answer="b")], chat(answer="c"), chat(answer="d")])
    with pytest.raises(tf.AdapterParseError) as caught:
        asked(lm, n=2, temperature=0.7)(question="x")
    assert caught.value.earlier == chat(answer="a")
    assert len(lm.requests) == 3


def test_a_truncated_answer_whose_fields_are_all_there_is_noted_and_not_asked_for_again():
    lm = ScriptedLM([cut(chat(answer=7))], max_tokens=10)
    prediction = asked(lm)(question="x")
    assert prediction.answer == 7
    assert len(lm.requests) == 1
    assert prediction.trace.steps[0].noted == {"truncated answer": 1}


def test_an_error_in_an_adapter_is_not_taken_for_a_bad_answer():
    class Broken(tf.ChatAdapter):
        def parse(self, plan, text):
            return 1 / 0

    lm = ScriptedLM(["x", "y"])
    with pytest.raises(ZeroDivisionError):
        asked(lm).using(adapter=Broken())(question="x")
    assert len(lm.requests) == 1


# --- truncated answers ---


@pytest.mark.parametrize("limited", ["predictor", "lm"])
def test_a_truncated_answer_is_asked_for_once_more_with_twice_the_room(limited):
    limit = {"max_tokens": 10}
    lm = ScriptedLM([cut("[[ ## answer ## ]]\n"), chat(answer=7)], **(limit if limited == "lm" else {}))
    prediction = asked(lm, **(limit if limited == "predictor" else {}))(question="x")
    assert prediction.answer == 7
    assert [r.sampling.max_tokens for r in lm.requests] == [10, 20]
    assert lm.requests[0].messages == lm.requests[1].messages
    assert prediction.trace.steps[0].responses[0].choices[0].truncated


def test_an_answer_truncated_twice_is_an_error_that_says_what_to_do():
    lm = ScriptedLM([cut("[[ ## answer ## ]]\n")] * 3, max_tokens=10)
    with pytest.raises(tf.AdapterParseError, match="raise `max_tokens`") as caught:
        asked(lm)(question="x")
    assert caught.value.truncated
    assert len(lm.requests) == 2


def test_an_answer_truncated_without_a_limit_is_not_asked_for_again():
    lm = ScriptedLM([cut("[[ ## answer ## ]]\n")] * 3)
    with pytest.raises(tf.AdapterParseError) as caught:
        asked(lm)(question="x")
    assert caught.value.truncated
    assert len(lm.requests) == 1


# --- demos ---


def test_demos_are_shown_as_turns_before_the_question():
    lm = DummyLM([{"answer": 4}])
    predictor = asked(lm)
    predictor.demos = [tf.Example(question="1+1?", answer=2), {"question": "1+2?", "answer": 3}]
    predictor(question="2+2?")
    roles = [m.role for m in lm.requests[0].messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "1+2?" in lm.requests[0].messages[3].content


def test_a_demo_that_is_no_mapping_is_a_usage_error():
    predictor = asked(DummyLM([]))
    predictor.demos = ["not a demo"]
    with pytest.raises(tf.UsageError, match="demo"):
        predictor.parameters()


def scored(*tokens):
    """A sample whose tokens have log probabilities."""
    return Choice("".join(tokens), logprobs=tuple((token, -0.5) for token in tokens))


def answered(*choices):
    return Response(choices, Usage(calls=1), "scripted")


def test_the_log_probabilities_of_the_answer_come_with_the_prediction_also_inside_of_a_run():
    seen = []

    class Program(tf.Module):
        def __init__(self):
            self.ask = tf.ChainOfThought("question -> answer", logprobs=True)

        def forward(self, question):
            found = self.ask(question=question)
            seen.append(found.logprobs)
            return found

    lm = ScriptedLM([answered(scored("[[ ## reasoning ## ]] r", "\n[[ ## answer ## ]]", " yes"))])
    found = Program().using(lm=lm)(question="?")
    assert lm.requests[0].sampling.logprobs
    assert seen == [found.logprobs]
    assert found.logprobs[-1] == (" yes", -0.5)


def test_without_log_probabilities_there_are_none():
    found = tf.Predict("question -> answer")(question="?", lm=ScriptedLM(["[[ ## answer ## ]] yes"]))
    assert found.logprobs is None
    assert tf.Prediction(answer="yes").logprobs is None


def test_the_log_probabilities_are_those_of_the_answer_that_was_read():
    lm = ScriptedLM([answered(scored("what?")), answered(scored("[[ ## n ## ]]", " 1"))])
    assert tf.Predict("question -> n: int", logprobs=True)(question="?", lm=lm).logprobs[-1] == (" 1", -0.5)


def test_of_several_samples_they_are_those_of_the_first_or_none_where_that_is_not_known():
    fine, junk = scored("[[ ## n ## ]]", " 1"), scored("[[ ## n ## ]]", " one or two")
    ask = tf.Predict("question -> n: int", logprobs=True, n=2)
    with tf.context(max_repairs=0):
        assert (
            ask(question="?", lm=ScriptedLM([answered(fine, scored("[[ ## n ## ]]", " 2"))])).logprobs == fine.logprobs
        )
        assert ask(question="?", lm=ScriptedLM([answered(junk, fine)])).logprobs is None


@pytest.mark.parametrize("adapter", ["json", "xml", "chat", "compact"])
def test_a_text_that_breaks_off_twice_is_given_as_far_as_it_goes_and_counted(adapter):
    begun = {"json": '{"note": "n", "answer": "so long', "xml": "<note>n</note>\n<answer>so long"}
    text = begun.get(
        adapter,
        "[[ ## note ## ]]\nn\n\n[[ ## answer ## ]]\nso long" if adapter == "chat" else "Note: n\nAnswer: so long",
    )
    lm = ScriptedLM([cut(text), cut(text)])
    ask = tf.Predict("question -> note, answer", max_tokens=5)
    found = ask(question="?", lm=lm, adapter=adapter)
    assert (found.note, found.answer) == ("n", "so long")
    assert found.trace.noted["truncated answer"] >= 1
    number = tf.Predict("question -> note, answer: int", max_tokens=5)
    with pytest.raises(tf.AdapterParseError):
        number(
            question="?", lm=ScriptedLM([cut('{"note": "n", "answer'), cut('{"note": "n", "answer')]), adapter="json"
        )


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: tf.Predict("question -> answer").using(lm="openai/gpt-4o-mini"),
        lambda: tf.Predict("question -> answer").set_lm(tf.LM),
        lambda: setattr(tf.Predict("question -> answer"), "lm", 5),
    ],
)
def test_what_is_no_lm_is_refused_where_it_is_given(wrong):
    with pytest.raises(tf.UsageError, match=r"`lm` must be a tf\.LM, got .* Write tf\.LM\("):
        wrong()


@pytest.mark.parametrize("adapter", [5, tf.ChatAdapter])
def test_what_is_no_adapter_is_refused_before_a_call(adapter):
    lm = ScriptedLM(lambda request: "[[ ## answer ## ]] 4")
    with tf.context(lm=lm), pytest.raises(tf.UsageError, match="expected an adapter such as"):
        tf.Predict("question -> answer").using(adapter=adapter)(question="2 + 2?")

    assert lm.requests == []
