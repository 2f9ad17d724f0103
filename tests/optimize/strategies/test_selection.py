"""Selection: who leads a race, also where it is cut short."""

from tuneful.optimize.strategies import race, selection


def test_few_rows_do_not_make_a_late_candidate_the_leader():
    """A search that ends while newcomers catch up keeps the one that did best on most rows."""
    begun = race.start(2, range(40), block=10)
    while wanted := race.ask(begun):
        begun = race.tell(begun, {c: [0.5 + 0.1 * c] * len(rows) for c, rows in wanted})
    joined = race.tell(race.add(begun, 1), {2: [1.0] * 10})

    assert race.ranking(joined)[0] == 2
    assert selection.leader(joined) == 1


def test_ties_go_to_the_earlier_candidate_and_one_without_scores_does_not_lead():
    begun = race.start(3, range(4), block=4)
    told = race.tell(begun, {0: [None] * 4, 1: [0.5] * 4, 2: [0.5] * 4})

    assert selection.leader(begun) == 0
    assert selection.leader(told) == 1


def test_trials_say_what_a_candidate_was_made_from():
    begun = race.start(2, range(4), block=4)
    candidates = [{}, {"instructions": "Think."}]

    assert [t.parent for t in selection.trials(begun, candidates, [None, candidates[0]])] == [None, {}]
    assert [t.parent for t in selection.trials(begun, candidates)] == [None, None]
