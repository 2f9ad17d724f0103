"""Attempts with advice from the one before."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM


def one_word(args, prediction):
    """Whether the title is one word. THE REWARD'S SOURCE"""
    return tf.Score(float(len(prediction.title.split()) == 1), feedback="count the words")


class TwoSteps(tf.Module):
    def __init__(self):
        self.draft = tf.Predict("topic -> draft")
        self.title = tf.Predict("draft -> title")

    async def forward(self, topic):
        # THE PROGRAM'S SOURCE
        drafted = await self.draft.acall(topic=topic)
        return await self.title.acall(draft=drafted.draft)


def refine(module=None, n=3, **options):
    return tf.Refine(module or TwoSteps(), n, one_word, 1, **options)


RUN = [{"draft": "All about rivers"}, {"title": "All about rivers"}]
GOOD = [{"draft": "Rivers"}, {"title": "Rivers"}]


def advice(**by_step):
    return {"discussion": "too long", "advice": {f"module.{k}": v for k, v in by_step.items()}}


def test_advice_reaches_the_predictor_that_it_is_for_and_no_other():
    lm = DummyLM([*RUN, advice(title="Write one word."), *GOOD])
    assert refine().using(lm=lm)(topic="x").title == "Rivers"
    draft, title = (r.messages[-1].content for r in lm.requests[3:])
    assert "hint_" not in draft
    assert "[[ ## hint_ ## ]]\nWrite one word." in title


def test_the_adviser_sees_the_run_the_reward_and_their_sources():
    lm = DummyLM([*RUN, advice(title="Write one word."), *GOOD])
    refine().using(lm=lm)(topic="the Rhône")
    told = lm.requests[2].messages[-1].content
    for part in ("module.draft: topic -> draft", "the Rhône", '"title": "All about rivers"', "0; count the words",
                 "THE REWARD'S SOURCE", "THE PROGRAM'S SOURCE", "[[ ## target ## ]]\n1"):  # fmt: skip
        assert part in told


def test_the_program_is_never_changed_and_advice_does_not_add_up():
    program = refine()
    before = {p: v.value for p, v in program.parameters().items()}
    lm = DummyLM([*RUN, advice(draft="FIRST"), *RUN, advice(title="SECOND"), *RUN])
    program.using(lm=lm)(topic="x")
    assert {p: v.value for p, v in program.parameters().items()} == before
    assert [("FIRST" in r.messages[-1].content, "SECOND" in r.messages[-1].content) for r in lm.requests[6:]] == [
        (False, False), (False, True),
    ]  # fmt: skip


def test_the_trace_holds_attempts_and_advice_under_their_paths():
    lm = DummyLM([*RUN, advice(title="Write one word."), *GOOD])
    trace = refine().using(lm=lm)(topic="x").trace
    assert [s.path for s in trace] == ["module.draft", "module.title", "feedback", "module.draft", "module.title"]
    assert [s.superseded for s in trace] == [True, True, False, False, False]
    assert trace.steps[-1].inputs["hint_"] == "Write one word."


def test_bootstrapped_demos_have_no_hint():
    lm = DummyLM([*RUN, advice(title="Write one word."), *GOOD] * 4)
    with tf.context(lm=lm, num_threads=1):
        rows = [tf.Example(topic="rivers").with_inputs("topic")]
        compiled = tf.BootstrapFewShot(max_labeled_demos=1).compile(refine(), trainset=rows)
    assert dict(compiled.module.title.demos[0].items()) == {"draft": "Rivers", "title": "Rivers"}
    assert compiled.feedback.demos


def test_no_advice_is_asked_for_after_the_last_attempt():
    lm = DummyLM([*RUN, advice(title="x"), *RUN])
    assert refine(n=2).using(lm=lm)(topic="x").title == "All about rivers"
    assert len(lm.requests) == 5


def test_a_lone_predictor_takes_whatever_advice_there_is():
    lm = DummyLM([{"title": "too long"}, {"discussion": "d", "advice": {"the step": "Shorter."}}, {"title": "Rivers"}])
    refine(tf.Predict("topic -> title")).using(lm=lm)(topic="x")
    assert "Shorter." in lm.requests[2].messages[-1].content


def test_advice_that_cannot_be_read_is_done_without():
    written = ["[[ ## title ## ]] too long", "nonsense", "still nonsense", "[[ ## title ## ]] Rivers"]
    found = refine(tf.Predict("topic -> title")).using(lm=ScriptedLM(written))(topic="x")
    assert found.title == "Rivers"
    assert found.trace.of("feedback")[0].error


def test_a_failed_attempt_is_advised_on_too():
    written = [
        "",
        "",
        '[[ ## discussion ## ]] d\n\n[[ ## advice ## ]] {"module": "Write a title."}',
        "[[ ## title ## ]] Rivers",
    ]
    lm = ScriptedLM(written)
    assert refine(tf.Predict("topic -> title")).using(lm=lm)(topic="x").title == "Rivers"
    assert "it failed with AdapterParseError" in lm.requests[2].messages[-1].content
    assert "Write a title." in lm.requests[3].messages[-1].content


def test_attempts_may_be_greedy_since_advice_tells_them_apart():
    lm = DummyLM([{"title": "too long"}, advice(x="Shorter."), {"title": "Rivers"}])
    refine(tf.Predict("topic -> title", temperature=0)).using(lm=lm)(topic="x")
    assert [r.sampling.temperature for r in lm.requests][::2] == [0, 0]


def test_a_signature_that_has_such_a_field_gets_another():
    lm = DummyLM([{"title": "too long"}, advice(x="Shorter."), {"title": "Rivers"}])
    refine(tf.Predict("topic, hint_ -> title")).using(lm=lm)(topic="x", hint_="mine")
    assert "[[ ## hint__ ## ]]\nShorter." in lm.requests[2].messages[-1].content


def test_refining_inside_of_refining_keeps_the_paths():
    inner = refine(tf.Predict("topic -> title"), n=2)
    lm = DummyLM([{"title": "a b"}, advice(x="one"), {"title": "c d"}, advice(x="two"), {"title": "Rivers"}])
    trace = refine(inner, n=2).using(lm=lm)(topic="x").trace
    assert {s.path for s in trace} <= {"module.module", "module.feedback", "feedback"}


@pytest.mark.parametrize("number", [0, "2"])
def test_wrong_numbers_are_usage_errors(number):
    with pytest.raises(tf.UsageError, match="`N`"):
        refine(n=number)
