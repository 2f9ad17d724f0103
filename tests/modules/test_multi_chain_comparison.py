"""Several attempts compared."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM

ATTEMPTS = [
    {"reasoning": "2 and 2 is 4.", "answer": "4"},
    {"rationale": "Side by side.", "answer": "22"},
    {"answer": "5"},
]
SAID = {"rationale": "The first adds.", "answer": "4"}


def test_the_attempts_are_inputs_and_the_comparison_comes_first():
    lm = DummyLM([SAID])
    found = tf.MultiChainComparison("question -> answer").using(lm=lm)(ATTEMPTS, question="2+2?")
    assert (found.rationale, found.answer) == ("The first adds.", "4")
    prompt = lm.requests[0].messages[-1].content
    assert "[[ ## reasoning_attempt_1 ## ]]\n2 and 2 is 4.\nAnswer: 4" in prompt
    assert "[[ ## reasoning_attempt_2 ## ]]\nSide by side.\nAnswer: 22" in prompt
    assert "[[ ## reasoning_attempt_3 ## ]]\nAnswer: 5" in prompt
    assert lm.requests[0].sampling.temperature == 0.7


def test_completions_of_a_predictor_are_attempts():
    ask = tf.ChainOfThought("question -> answer", n=2, temperature=0.7)
    several = tf.Prediction.from_completions(ATTEMPTS[:1] * 2)
    for given in (several, several.completions, [tf.Prediction(row) for row in ATTEMPTS[:2]], tuple(ATTEMPTS[:2])):
        compare = tf.MultiChainComparison("question -> answer", M=2).using(lm=DummyLM([SAID]))
        assert compare(given, question="x").answer == "4"
    assert ask.predict.sampling.n == 2


def test_an_unreadable_sample_of_several_is_no_reason_to_lose_the_others():
    class Program(tf.Module):
        def __init__(self):
            self.attempt = tf.ChainOfThought("question -> answer: int", n=3, temperature=0.7)
            self.compare = tf.MultiChainComparison("question -> answer: int", M=3)

        def forward(self, question):
            return self.compare(self.attempt(question=question).completions, question=question)

    def answer(request):
        if "reasoning_attempt_1" in request.messages[-1].text:
            return "[[ ## rationale ## ]]\nThe first adds.\n[[ ## answer ## ]]\n4"
        if request.sampling.n == 1:  # the repair turn
            return "no idea either"
        return [f"[[ ## reasoning ## ]]\nr\n[[ ## answer ## ]]\n{a}" for a in ("4", "many", "22")]

    lm = ScriptedLM(answer)
    found = Program().using(lm=lm)(question="2+2?")
    assert found.answer == 4
    assert found.trace.noted["sample dropped (tolerated)"] == 1
    assert found.trace.noted["attempt missing"] == 1
    told = lm.requests[-1].messages[-1].text
    assert "Answer: 22" in told
    assert "[[ ## reasoning_attempt_3 ## ]]\n(missing" in told


def test_attempts_that_failed_in_a_batch_are_missing_ones():
    compare = tf.MultiChainComparison("question -> answer").using(lm=DummyLM([SAID]))
    found = compare([None, ATTEMPTS[1], None], question="x")
    assert (found.answer, found.trace.noted) == ("4", {"attempt missing": 2})


async def test_it_runs_with_await_and_in_bulk():
    compare = tf.MultiChainComparison("question -> answer", M=2).using(lm=DummyLM([SAID] * 3))
    assert (await compare.acall(ATTEMPTS[:2], question="x")).answer == "4"
    found = await compare.abatch([{"completions": ATTEMPTS[:2], "question": "x"}] * 2)
    assert [p.answer for p in found] == ["4", "4"]


@pytest.mark.parametrize(
    ("given", "said"),
    [(ATTEMPTS[:2], "M=3 attempts and got 2"), ("text", "a list of attempts"), ([1, 2, 3], "a list of attempts"),
     ([*ATTEMPTS[:2], {"reasoning": "x"}], "attempt 3 has none of the outputs answer"),
     ([None] * 3, "none of the 3 attempts could be read"), ([None] * 2, "M=3 attempts and got 2"),
     (tf.Prediction.from_completions(ATTEMPTS[:1]), "M=3 attempts and got 1")],
)  # fmt: skip
def test_other_attempts_are_an_input_error_before_any_call(given, said):
    lm = DummyLM([])
    with pytest.raises(tf.InputError, match=said):
        tf.MultiChainComparison("question -> answer").using(lm=lm)(given, question="x")
    assert lm.requests == []


@pytest.mark.parametrize("number", [0, 2.0, True, "3"])
def test_the_number_of_attempts_is_a_whole_number(number):
    with pytest.raises(tf.UsageError, match="`M` is"):
        tf.MultiChainComparison("question -> answer", M=number)


def test_the_users_instructions_stay():
    program = tf.MultiChainComparison(tf.Signature("question -> answer", "Answer in Latin."), M=2)
    assert program.predict.signature.instructions.startswith("Answer in Latin.\n\nYou are shown several attempts")
