"""The conformance suite for modules finds what is wrong with one."""

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, check_module
from tuneful.testing.check_module import COLUMNS

INPUTS, ANSWERS = {"question": "2+2?"}, [{"answer": "4"}]


class Sound(tf.Module):
    def __init__(self):
        self.ask = tf.Predict("question -> answer")

    async def forward(self, question):
        return await self.ask.acall(question=question)


class Grows(Sound):
    async def forward(self, question):
        found = await self.ask.acall(question=question)
        self.ask.demos.append({"question": question, "answer": found.answer})
        return found


class Unattached(tf.Module):
    async def forward(self, question):
        return await tf.Predict("question -> answer").acall(question=question)


class Shares(Sound):
    def __deepcopy__(self, memo):
        return self


class AsksTwice(Sound):
    asked = False

    async def forward(self, question):
        if not self.asked:
            self.asked = True
            await self.ask.acall(question=question)
        return await self.ask.acall(question=question)


class Waits(Sound):
    """Remembers across a wait, so that runs at once mix."""

    async def forward(self, question):
        import asyncio

        self.last = question
        await asyncio.sleep(0.001)
        return await self.ask.acall(question=self.last)


def failures(module, **options):
    return check_module(module, INPUTS, ANSWERS, strict=False, **options).failures


def test_a_sound_module_passes_and_its_row_says_so():
    row = check_module(Sound(), INPUTS, ANSWERS)
    assert (row.module, row.calls, row.failures) == ("Sound", 1, {})
    assert row.cells() == ["Sound", "1", *["yes"] * len(COLUMNS)]


def test_runs_that_mix_are_found():
    assert "concurrent" in failures(Waits())
    assert "question" not in failures(Sound())


def test_a_run_that_changes_the_module_is_found():
    assert "changed the module's parameters" in failures(Grows())["sync"]


def test_a_predictor_that_is_made_in_forward_has_no_path():
    assert "<unattached>" in failures(Unattached())["traced"]


def test_a_copy_that_shares_its_parts_is_found():
    assert "reached the original" in failures(Shares())["copied"]


def test_a_number_of_calls_that_changes_is_found():
    answers = lambda: DummyLM([{"answer": "4"}] * 9)  # noqa: E731
    row = check_module(AsksTwice(), INPUTS, answers, strict=False)
    assert row.calls == 2
    assert "1 calls, and 2" in row.failures["sync"]


def test_all_reasons_are_in_one_assertion():
    with pytest.raises(AssertionError, match=r"(?s)Unattached fails in \d of 9 ways.*- traced: .*<unattached>"):
        check_module(Unattached(), INPUTS, ANSWERS)


def test_a_module_that_cannot_be_run_is_a_usage_error():
    with pytest.raises(tf.UsageError, match=r"cannot be run with the inputs.*Did you mean `question`"):
        check_module(tf.Predict("question -> answer"), {"questions": "x"}, ANSWERS)
    with pytest.raises(tf.UsageError, match="this is call 1"):
        check_module(Sound(), INPUTS, [])


def test_answers_may_be_told_apart_by_a_text():
    both = tf.EnsembledProgram([tf.Predict("question -> answer"), tf.Predict("question -> answer")])
    assert check_module(both, INPUTS, {"2+2?": {"answer": "4"}}).calls == 2


def test_the_settings_around_the_call_hold():
    with tf.context(rm=lambda query, k: ["p"]):
        row = check_module(tf.Retrieve(), {"query": "x"}, [])
    assert (row.calls, row.absent, row.cells()[-1]) == (0, ("compiled",), "-")
