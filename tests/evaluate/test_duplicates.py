"""Rows that are in two splits at once."""

import random

import pytest

import tuneful as tf
from tuneful.evaluate import duplicates
from tuneful.evaluate.duplicates import DuplicateRowsWarning, find_duplicates
from tuneful.testing import Landscape, SimulatedLM

LONG = "the quick brown fox jumps over the lazy dog while the old cat sleeps on a warm stone by the river"


def asked(*questions, **more):
    return [tf.Example(question=q, **more).with_inputs("question", *more) for q in questions]


def pairs(first, second, **options):
    return [(d.first, d.second, d.kind) for d in find_duplicates(first, second, **options)]


def test_case_spaces_and_punctuation_do_not_make_another_row():
    assert pairs(asked("x", "Who wrote Faust?"), asked("who  wrote\nFAUST", "Who wrote Hamlet?")) == [(1, 0, "exact")]


def test_a_word_more_in_a_long_text_is_near_and_half_another_text_is_not():
    near, far = f"{LONG} today", f"{LONG[:45]} and something else altogether happens to be said in it"

    assert pairs(asked(LONG), asked(near, far)) == [(0, 0, "near")]
    assert pairs(asked(LONG), asked(near), near=1.0) == []


def test_in_short_texts_every_word_and_sign_matters():
    assert pairs(asked("What is 3 + 4?"), asked("What is 3 + 5?", "What is 3 - 4?", "what is 3 + 4")) == [
        (0, 2, "exact")
    ]


def test_another_question_about_the_same_passage_is_no_duplicate():
    first = asked("Who jumps over the dog?", context=LONG)

    assert pairs(first, asked("Who sleeps?", context=LONG)) == []
    assert pairs(first, asked("Who jumps over the dog?", context=LONG + " today")) == [(0, 0, "near")]


def test_labels_do_not_count():
    first = [tf.Example(question="a b", answer="1").with_inputs("question")]

    assert pairs(first, [tf.Example(question="a b", answer="2").with_inputs("question")]) == [(0, 0, "exact")]


def test_nothing_is_missed_by_looking_up_rare_shingles_only():
    """The quick search finds what comparing every pair finds."""
    rng = random.Random(0)
    words = [f"w{i}" for i in range(30)]
    base = [[rng.choice(words) for _ in range(20)] for _ in range(30)]
    other = [[w if rng.random() < 0.97 else rng.choice(words) for w in row] for row in base]
    first, second = asked(*map(" ".join, base)), asked(*map(" ".join, other))
    every = [
        (i, j, d.kind)
        for j, b in enumerate(second)
        for i, a in enumerate(first)
        for d in find_duplicates([a], [b], near=0.6)
    ]

    assert pairs(first, second, near=0.6) == every
    assert 5 < len(every) < 31


def test_nothing_is_missed_where_fields_are_shared_missing_or_empty():
    rng = random.Random(1)
    words = [f"w{i}" for i in range(12)]
    contexts = [" ".join(rng.choices(words, k=k)) for k in (0, 1, 9, 25, 25)]

    def drawn():
        row = {"context": rng.choice(contexts), "question": " ".join(rng.choices(words, k=rng.choice([0, 2, 8, 9])))}
        row |= {"more": rng.choice([1, None])} if rng.random() < 0.2 else {}
        return tf.Example(**row).with_inputs(*row)

    first = [drawn() for _ in range(40)]
    second = [*(drawn() for _ in range(40)), *first[:5]]
    every = [
        (i, j, d.kind) for j, b in enumerate(second) for i, a in enumerate(first) for d in find_duplicates([a], [b])
    ]

    assert pairs(first, second) == every
    assert len(every) > 5


def test_a_passage_that_all_rows_share_does_not_make_all_pairs_be_compared(monkeypatch):
    compared = []
    alike = duplicates._Field._alike
    monkeypatch.setattr(duplicates._Field, "_alike", lambda *given: compared.append(given) or alike(*given))
    passage = " ".join(f"{LONG} {i}" for i in range(20))
    first = asked(*(f"what is number {i} of all the things that there are here" for i in range(200)), context=passage)
    second = asked(*(f"which thing {i} comes after others in this long list" for i in range(200)), context=passage)

    assert pairs(first, [*second, first[7]]) == [(7, 200, "exact")]
    assert len(compared) < 20 * 200


def test_a_compile_warns_before_any_call_and_its_report_counts_them():
    rows = [tf.Example(question=f"number {i}", answer=str(i)).with_inputs("question") for i in range(40)]
    lm = SimulatedLM(rows, Landscape(base=0.5))
    teleprompter = tf.BootstrapFewShot(metric=lambda e, p, trace=None: e.answer == p.answer)
    program = tf.Predict("question -> answer")
    with tf.context(lm=lm):
        with pytest.raises(DuplicateRowsWarning, match="3 held-out rows") as caught:  # the tests make warnings errors
            teleprompter.compile(program, trainset=rows[:20], valset=rows[17:])
        assert lm.requests == []
        with pytest.warns(DuplicateRowsWarning, match="search row = held-out row: 17 = 0, 18 = 1, 19 = 2"):
            compiled = teleprompter.compile(program, trainset=rows[:20], valset=rows[17:])

    assert [(p.first, p.second) for p in caught.value.pairs] == [(17, 0), (18, 1), (19, 2)]
    assert compiled.report.warnings["held-out row among the search rows"] == 3
    assert "held-out row among the search rows" in str(compiled.report)
