"""In which order examples are learned."""

import random
from itertools import chain

import pytest

from tuneful.finetune.learning_order import LearningOrder, in_parts

LENGTHS = [random.Random(0).randint(20, 200) for _ in range(1000)]


def order(seed=0, epochs=2.0, size=8, lengths=LENGTHS):
    return LearningOrder(lengths, batch_size=size, epochs=epochs, seed=seed)


def test_every_epoch_sees_every_example_once_in_another_order():
    both = order()
    first, second = ([both.batch(e * 125 + i) for i in range(125)] for e in (0, 1))

    assert both.steps == 250
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(1000))
    assert first != second


def test_a_step_depends_on_seed_and_number_alone():
    walked, asked = order(), order()
    for step in range(140):
        walked.batch(step)

    assert [asked.batch(s) for s in (200, 3, 131)] == [walked.batch(s) for s in (200, 3, 131)]
    assert order(seed=1).batch(0) != order().batch(0)


def test_the_examples_of_a_batch_have_about_the_same_length():
    alike = order()
    padded = [max(LENGTHS[i] for i in batch) * len(batch) for batch in map(alike.batch, range(125))]

    assert sum(padded) < 1.05 * sum(LENGTHS)


@pytest.mark.parametrize(("epochs", "steps"), [(0.5, 63), (1, 125), (1.2, 150), (3, 375)])
def test_epochs_may_have_a_fraction(epochs, steps):
    assert order(epochs=epochs).steps == steps


def test_a_part_has_no_more_tokens_than_asked_for_padding_included():
    lengths = [10, 50, 30, 50, 7, 200]
    parts = in_parts(range(6), lengths, 100)

    assert sorted(chain(*parts)) == list(range(6))
    assert parts[0] == [5]  # longer than allowed, so alone
    assert all(len(p) * max(lengths[i] for i in p) <= 100 for p in parts[1:])
