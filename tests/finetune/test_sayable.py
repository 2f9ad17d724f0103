"""What a student may write at all."""

import pytest

from tuneful.finetune.sayable import can_say
from tuneful.wire.messages import user
from tuneful.wire.request import Request, Sampling

LINE = "%llguidance {}\nstart: answer\nanswer: /[a-z ]{1,12}/\n"


def asked(**options):
    return Request((user("q"),), **options)


@pytest.mark.parametrize(
    ("answer", "said"), [("one line", True), ("two\nlines", False), ("far too many letters", False)]
)
def test_a_grammar_decides_on_the_whole_answer(answer, said):
    pytest.importorskip("llguidance")

    assert can_say(asked(sampling=Sampling(), grammar=LINE), answer) is said


@pytest.mark.parametrize(
    ("answer", "said"), [("a", True), ("aEND", True), ("aENDb", False), ("aEND\nmore than that", False)]
)
def test_a_stop_text_may_only_end_an_answer(answer, said):
    assert can_say(asked(sampling=Sampling(stop=("END",))), answer) is said


def test_where_nothing_is_held_to_a_form_everything_may_be_said():
    assert can_say(asked(sampling=Sampling()), "two\nlines")
