"""Evolution: a new candidate must mend what it was made from, and get ahead of it on rows that nobody was shown."""

import json
import random

import pytest

from tuneful.optimize.strategies import evolution

ROWS = list(range(100, 164))


def begun(n=64):
    return evolution.start(ROWS[:n])


def run(state, score):
    """Run what is asked for until nobody is judged any more; returns the state and the rollouts."""
    spent = 0
    while not evolution.settled(state) and (asked := evolution.asked(state)):
        spent += sum(len(rows) for _, rows in asked)
        state = evolution.told(state, [(i, [score(i, row) for row in rows]) for i, rows in asked])
    return state, spent


def fate(state, i=-1):
    return state["members"][i]["fate"]


def test_what_mends_nothing_of_what_it_was_shown_is_out_before_anything_else_is_paid():
    state = evolution.joined(begun(), {"p": "x"}, [0], [(1, 0.0), (2, 0.0), (3, 1.0)])
    assert evolution.asked(state) == [(1, (1, 2, 3))]

    state, spent = run(state, lambda i, row: float(row == 3))
    assert (fate(state), spent) == ("not better", 3)
    assert state["members"][1]["scores"] == []  # rows that it was shown say nothing of what it is worth


def test_what_mends_them_runs_the_same_new_rows_as_what_it_was_made_from():
    state = evolution.joined(begun(), {"p": "x"}, [0], [(1, 0.0)])
    state = evolution.told(state, [(1, [1.0])])

    assert evolution.asked(state) == [(0, tuple(ROWS[:8])), (1, tuple(ROWS[:8]))]
    state, spent = run(state, lambda i, row: float(i == 1))
    assert (fate(state), spent) == ("better", 16)
    second = evolution.joined(state, {"p": "y"}, [1])
    assert evolution.asked(second) == [(2, tuple(ROWS[:8]))]  # what is known is not run again


def test_a_tie_is_played_on_but_not_for_ever():
    alike, spent = run(evolution.joined(begun(), {"p": "x"}, [0]), lambda i, row: 1.0)
    assert (fate(alike), spent) == ("not better", 64)

    late, spent = run(evolution.joined(begun(), {"p": "x"}, [0]), lambda i, row: float(i == 1 or row < ROWS[10]))
    assert (fate(late), spent) == ("better", 32)
    few, _ = run(evolution.joined(begun(5), {"p": "x"}, [0]), lambda i, row: 0.0)
    assert fate(few) == "not better"


def test_rows_without_a_score_count_for_nobody():
    def score(i, row):
        return None if row < ROWS[6] else float(i == 0)

    state, _ = run(evolution.joined(begun(), {"p": "x"}, [0]), score)
    assert fate(state) == "not better"
    assert len(evolution.scores(state, 0)) == 2
    silent, _ = run(evolution.joined(begun(8), {"p": "x"}, [0]), lambda i, row: None)
    assert fate(silent) == "not better"


@pytest.mark.parametrize(("gain", "least", "most"), [(-0.1, 0.0, 0.1), (0.0, 0.1, 0.23), (0.2, 0.6, 1.0)])
def test_how_often_a_change_wins_by_what_it_adds(gain, least, most):
    rng, won, runs = random.Random(0), 0, 300
    for _ in range(runs):
        shown = [(-1, 0.0), (-2, 0.0), (-3, 1.0)]
        state = evolution.joined(begun(), {"p": "x"}, [0], shown)
        own = {row: rng.random() for row in ROWS if rng.random() < 0.5}  # the others are a new throw each time
        own |= {row: rng.random() / 2 + (score == 0) / 2 for row, score in shown if rng.random() < 0.5}

        def score(i, row, own=own):
            return float(own.get(row, rng.random()) < 0.5 + gain * i)

        won += fate(run(state, score)[0]) == "better"

    assert least <= won / runs <= most


def test_a_gain_counts_for_what_so_few_rows_can_tell():
    state, _ = run(evolution.joined(begun(), {"p": "x"}, [0]), lambda i, row: float(i == 1))

    assert evolution.estimates(state) == [0.0, pytest.approx(8 / 48)]
    assert evolution.estimates(begun()) == [0.0]


def test_what_is_no_better_is_no_parent_and_is_not_returned():
    state, _ = run(evolution.joined(begun(), {"p": "x"}, [0]), lambda i, row: float(i == 0))

    assert list(evolution.weights(state)) == [0]
    assert evolution.leader(state) == 0
    assert evolution.contenders(state) == []


def test_specialists_in_different_rows_are_both_parents():
    state, _ = run(evolution.joined(begun(), {"p": "x"}, [0]), lambda i, row: float(i == 1 and row % 2))
    state, _ = run(evolution.joined(state, {"p": "y"}, [0]), lambda i, row: float(i == 2 and not row % 2))

    assert evolution.weights(state) == {0: 0, 1: 4, 2: 4}


def changed(state, path, parent):
    return run(evolution.joined(state, {**state["members"][parent]["values"], path: "new"}, [parent]), lift)[0]


def lift(i, row):
    """Each of the first two changes helps on other rows."""
    return float((i == 1 and row % 3 == 0) or (i == 2 and row % 3 == 1) or (i == 3 and row % 3 != 2))


def test_two_that_changed_different_parts_are_merged_and_the_merge_must_win_too():
    state = changed(changed(begun(), "think", 0), "say", 0)
    state = evolution.merge(state)

    assert state["members"][3]["values"] == {"think": "new", "say": "new"}
    assert sorted(state["members"][3]["parents"]) == [1, 2]
    assert (state["merges"], state["ripe"]) == (1, False)
    state, _ = run(state, lift)
    assert fate(state) == "better"
    assert evolution.leader(state) == 3
    again = evolution.merge(state)
    assert len(again["members"]) == 4  # it is there already


def test_without_a_second_line_there_is_nothing_to_merge():
    state = changed(begun(), "think", 0)

    assert state["ripe"]
    assert evolution.merge(state) == {**state, "ripe": False}


def test_at_the_end_the_best_race_on_all_rows_and_the_winner_is_the_leader():
    quality = {0: 0.2, 1: 0.5, 2: 0.9, 3: 0.6, 4: 0.7}

    def score(i, row):
        return float(random.Random(f"{row}").random() < quality[i])

    state = begun()
    for i in range(1, 5):
        state, _ = run(evolution.joined(state, {"p": str(i)}, [0]), score)
    assert len(evolution.contenders(state)) == evolution.FINALS
    assert evolution.kept(state) > 0
    state = {**state, "finals": evolution.contenders(state)}
    while asked := evolution.asked(state):
        assert all(i in state["finals"] for i, _ in asked)
        state = evolution.told(state, [(i, [score(i, row) for row in rows]) for i, rows in asked])

    assert evolution.leader(state) == 2


def test_who_is_not_judged_to_the_end_is_not_returned():
    state = evolution.joined(begun(), {"p": "x"}, [0])
    state = evolution.told(state, [(i, [float(i)] * len(rows)) for i, rows in evolution.asked(state)[:1]])
    state = evolution.given_up(state)

    assert (fate(state), evolution.leader(state), evolution.settled(state)) == ("undecided", 0, True)


def test_the_state_is_json():
    state = evolution.merge(changed(changed(begun(), "think", 0), "say", 0))
    assert json.loads(json.dumps(state)) == state
