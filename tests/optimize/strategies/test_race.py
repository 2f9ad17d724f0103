"""Racing: the winner of full evaluation, for fewer rollouts."""

import json
import random

import pytest

import tuneful as tf
from tuneful.optimize.strategies import race


def run(state, table):
    """Run a race to its end on a table of scores by candidate and row; return it and the rollouts it took."""
    spent = 0
    while wanted := race.ask(state):
        spent += sum(len(rows) for _, rows in wanted)
        state = race.tell(state, {c: [table[c][i] for i in rows] for c, rows in wanted})
    return state, spent


def binary_table(rng, qualities, n_rows):
    """Right or wrong, by candidates of known quality; half of what decides a row is its own difficulty."""
    hard = [rng.random() for _ in range(n_rows)]
    return [[float((h if rng.random() < 0.5 else rng.random()) < q) for h in hard] for q in qualities]


def winner(table):
    return max(range(len(table)), key=lambda c: (sum(table[c]), -c))


def test_a_race_finds_the_winner_of_full_evaluation_with_at_most_half_of_the_rollouts():
    spent, same = 0, 0
    for seed in range(30):
        rng = random.Random(seed)
        table = binary_table(rng, [rng.uniform(0.3, 0.75) for _ in range(16)], 200)
        state, cost = run(race.start(16, rng.sample(range(200), 200), block=10), table)
        spent += cost
        same += race.ranking(state)[0] == winner(table)

    assert same >= 29
    assert spent / (30 * 16 * 200) <= 0.5


def test_the_best_of_equals_is_dropped_at_most_as_often_as_alpha_says():
    dropped = 0
    for seed in range(100):
        rng = random.Random(seed)
        table = binary_table(rng, [0.5] * 8, 60)
        state, _ = run(race.start(8, rng.sample(range(60), 60), block=5, alpha=0.2), table)
        dropped += winner(table) not in race.alive(state)

    assert dropped <= 20


def test_all_race_on_the_same_rows_in_the_given_order_and_the_hopeless_stop_early():
    state = race.start(3, [4, 1, 3, 0, 2, 5, 7, 6, 9, 8] * 4, block=5)
    assert race.ask(state) == [(c, (4, 1, 3, 0, 2)) for c in range(3)]

    state, spent = run(state, [[0.0] * 10, [1.0] * 10, [1.0] * 10])

    assert race.alive(state) == [1, 2]
    assert race.ranking(state) == [1, 2, 0]  # a tie: the earlier one
    assert spent < 100


def test_the_race_is_over_when_one_is_left():
    state, spent = run(race.start(2, range(1000), block=10), [[1.0] * 1000, [0.0] * 1000])

    assert race.alive(state) == [0]
    assert race.ask(state) == []
    assert spent <= 40


def test_those_who_cannot_catch_up_any_more_are_out_whatever_alpha():
    table = [[1.0] * 6 + [0.0] * 4, [0.0] * 10]
    state, spent = run(race.start(2, range(10), block=1, alpha=1e-9), table)

    assert race.alive(state) == [0]
    assert spent == 12  # after 6 of 10 rows, 4 are left


def test_late_candidates_catch_up_block_by_block_and_then_race_with_the_others():
    table = [[1.0, 0.0] * 50, [0.0, 1.0] * 50, [1.0] * 100, [0.0] * 100]
    state = race.start(2, range(100), block=10)
    for _ in range(3):
        state = race.tell(state, {c: [table[c][i] for i in rows] for c, rows in race.ask(state)})
    state = race.add(state, 2)

    assert race.ask(state) == [(2, tuple(range(10))), (3, tuple(range(10)))]
    state, _ = run(state, table)
    assert race.ranking(state)[0] == 2
    assert race.alive(state) == [2]
    assert len(state["scores"][3]) < 30  # fell before it had caught up


def test_a_candidate_that_joins_a_race_that_was_over_opens_it_again():
    state, _ = run(race.start(2, range(50), block=10), [[0.6] * 50, [0.0] * 50])
    state, _ = run(race.add(state, 1), [[0.6] * 50, [0.0] * 50, [1.0] * 50])

    assert race.ranking(state) == [2, 0, 1]


def test_rows_without_a_score_say_nothing():
    table = [[None, 1.0] * 20, [1.0, None] * 20, [None] * 40]
    state, spent = run(race.start(3, range(40), block=10), table)

    assert race.alive(state) == [0, 1, 2]
    assert spent == 120
    assert race.means(state) == [1.0, 1.0, None]


def test_scores_may_be_on_any_scale():
    rng = random.Random(0)
    table = [[rng.gauss(50, 10) for _ in range(200)], [rng.gauss(80, 10) for _ in range(200)]]
    state, spent = run(race.start(2, range(200), block=10), table)

    assert race.alive(state) == [1]
    assert spent < 300


def test_the_state_is_json_and_nothing_is_changed_in_place():
    state = race.start(3, range(20), block=5)
    kept = json.dumps(state)
    later = race.tell(race.add(state, 0), {c: [1.0] * 5 for c in range(3)})

    assert json.dumps(state) == kept
    assert json.loads(json.dumps(later)) == later


def test_a_race_that_is_told_what_it_did_not_ask_for_says_so():
    with pytest.raises(tf.UsageError, match="asked for"):
        race.tell(race.start(2, range(10), block=5), {0: [1.0] * 5, 1: [1.0] * 4})
    with pytest.raises(tf.UsageError, match="asked for"):
        race.tell(race.start(2, range(10), block=5), {2: [1.0] * 5})


def test_a_candidate_that_nobody_could_run_leaves_the_race():
    state = race.tell(race.start(3, range(50), block=2), {0: [0.0] * 2, 1: [1.0] * 2})
    assert race.alive(state) == [0, 1]
    assert race.ranking(state) == [1, 0, 2]
    assert [c for c, _ in race.ask(state)] == [0, 1]


@pytest.mark.parametrize("wrong", [{"block": 0}, {"block": 5, "alpha": 0.0}, {"block": 5, "alpha": 1.0}])
def test_a_race_checks_its_numbers(wrong):
    with pytest.raises(tf.UsageError, match="a race needs"):
        race.start(2, range(10), **wrong)


def test_the_plan_of_a_race_brackets_what_it_takes():
    _, spent = run(race.start(4, range(50), block=10), [[0.0] * 50, [1.0] * 50, [0.5] * 50, [0.2] * 50])
    low, high = race.rollouts(4, 50, 10)

    assert low <= spent <= high
    assert race.rollouts(1, 50, 10) == (0, 0)


def test_those_who_join_late_have_to_catch_up():
    state = race.start(2, range(8), block=2)
    assert race.level(state)
    assert race.front(state) == 0
    state = race.tell(state, {0: [1.0, 0.0], 1: [0.0, 1.0]})
    assert race.level(state)
    assert race.front(state) == 2
    state = race.add(state, 1)
    assert not race.level(state)
    assert race.level(race.tell(state, {2: [1.0, 1.0]}))


def test_where_not_all_can_be_run_on_all_rows_the_better_half_goes_on():
    state = race.start(4, range(40), block=10)
    state = race.tell(state, {c: [float(i < 4 + c) for i in range(10)] for c in range(4)})
    assert race.halved(state, None) == state
    assert race.halved(state, 120) == state  # there is room for all
    assert race.halved(state, 80) == state  # for two rounds of a look of all
    half = race.halved(state, 79)
    assert race.alive(half) == [2, 3]
    assert race.halved(half, 0) == half  # the last two are told apart as far as it goes
    late = race.add(state, 1)
    assert race.halved(late, 0) == late  # one still catches up


def test_it_is_halved_until_the_rounds_fit_by_what_candidates_are_believed_to_be_worth():
    state = race.start(8, range(40), block=10)
    state = race.tell(state, {c: [float(i < c) for i in range(10)] for c in range(8)})
    assert race.alive(race.halved(state, 240)) == list(range(8))  # three rounds of a look of all
    assert race.alive(race.halved(state, 239)) == [4, 5, 6, 7]
    assert race.alive(race.halved(state, 79)) == [6, 7]
    assert race.alive(race.halved(state, 79, [8.0, 9.0, *range(6)])) == [0, 1]


def test_who_was_credited_with_rows_waits_for_the_others():
    state = race.credited(race.start(3, range(40), block=10), 0, [1.0] * 20)
    for taken in (0, 10):
        assert race.ask(state) == [(c, tuple(range(taken, taken + 10))) for c in (1, 2)]
        state = race.tell(state, dict.fromkeys((1, 2), [1.0] * 10))
        assert race.level(state)
    assert race.alive(race.halved(state, 30)) == [0, 1]
    assert [c for c, _ in race.ask(state)] == [0, 1, 2]
