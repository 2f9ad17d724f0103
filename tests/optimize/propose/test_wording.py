"""Words for fields: what labels suggest, and what a writer's answers come to."""

import pytest

from tuneful.optimize.propose.wording import from_labels, new_words
from tuneful.spec.signature import Signature


def suggested(labels, declared="text -> kind"):
    (field,) = Signature(declared).output_fields.values()
    return [words["desc"] for words in from_labels(field, labels)]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["spam", "ham"] * 5, ["one of: ham, spam", "one word"]),
        (["very good", "bad"] * 5, ["one of: bad, very good", "at most 2 words"]),
        (["1,204", "-3", "2.5"], ["a number alone"]),
        (["a house by the sea in autumn", "bad"], []),
        ([f"w{i}" for i in range(40)], ["one word"]),
        (["always"] * 9, ["one word"]),
        ([], []),
        (["a", 3], []),
    ],
)
def test_values_that_come_again_are_named_and_short_ones_said_to_be_short(labels, said):
    assert suggested(labels) == said


def test_what_the_type_or_the_user_says_stays():
    assert suggested([1, 2, 1, 2, 1, 2], "text -> kind: int") == []
    (field,) = Signature("text -> kind").output_fields.values()
    assert from_labels(field.with_wording(desc="of the mail"), ["a"])[0]["desc"] == "of the mail; one word"


def test_new_words_keep_what_could_not_be_used():
    now = {"label": "Kind", "desc": ""}
    made = [
        None,
        {"label": "", "description": ""},
        {"label": "", "description": "x"},
        {"label": "L", "description": "x"},
    ]
    assert new_words(made, now, ()) == [{"label": "Kind", "desc": "x"}, {"label": "L", "desc": "x"}]
