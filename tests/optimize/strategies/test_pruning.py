"""Pruning: what does not matter goes, in few versions, and what matters stays."""

import random

import pytest

from tuneful.optimize.strategies import pruning, race

DEMOS = [{"question": f"q{i}"} for i in range(8)]
#: What the parameters of these tests are.
KINDS = {"k": "integer", "adapter": "adapter", "instructions": "instructions", "demos": "demos"}
KINDS |= {"a.instructions": "instructions", "a.demos": "demos", "a.demo_pool": "demo_pool"}
TEXT = "You are kind. Think, e.g. aloud. Count twice!\nSmile."


def pruned(candidate, quality, gained=0.5, rows=200, noise=0.0, limit=10_000):
    """Prune with a function that says how good a candidate is; return what is left, the state, and the rollouts."""
    state, spent, versions, rng = pruning.start(0, gained, range(rows), 0), 0, [candidate], random.Random(1)
    state["most"] = limit
    own = [rng.random() for _ in range(rows)]

    def scores(version, asked):
        chance = [rng.random() if rng.random() < noise else own[row] for row in asked]
        return [float(c < quality(version)) for c in chance]

    while True:
        state, drops = pruning.wave(state, candidate, KINDS)
        if not drops or spent > limit:
            return versions[state["now"]], state, spent
        assert len(drops) <= pruning.WAVE
        state = pruning.joined(state, list(enumerate(drops, len(versions))))
        versions += [pruning.without(candidate, dropped, KINDS) for dropped in drops]
        numbers = [0, *(c for c, _ in state["run"])]
        while asked := race.ask(state["race"]):
            found = {i: scores(versions[numbers[i]], own_rows) for i, own_rows in asked}
            spent += sum(map(len, found.values()))
            state = {**state, "race": race.tell(state["race"], found)}
        state = pruning.told(state)


def test_levers_that_do_not_matter_go_first_and_together():
    candidate = {"k": 5, "adapter": "json", "a.demos": [], "a.demo_pool": {"rows": DEMOS}, "instructions": "Count."}
    left, state, _ = pruned(candidate, lambda c: 0.9 if c.get("k") == 5 else 0.3)

    assert left == {"k": 5}
    assert (
        pruning.line(state, candidate, KINDS)
        == "dropped from the winner, as good without: adapter, a.demos, instructions"
    )
    assert state["waves"] <= 3


def test_of_demos_and_sentences_those_that_matter_stay():
    candidate = {"instructions": TEXT, "demos": DEMOS}

    def quality(version):
        return 0.4 + 0.3 * (DEMOS[5] in version.get("demos", ())) + 0.2 * ("Count" in version.get("instructions", ""))

    left, state, spent = pruned(candidate, quality)

    assert DEMOS[5] in left["demos"]
    assert "Count twice!" in left["instructions"]
    assert len(left["demos"]) + len(left["instructions"].split()) < 10
    told = pruning.line(state, candidate, KINDS)
    assert "sentences of instructions" in told or "of 8 demos" in told
    assert "of demos" not in told
    assert spent <= pruning.rollouts(10**6, 200)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_matters_all_together_stays_as_it_is(noise):
    candidate = {"demos": DEMOS[:4]}
    left, state, _ = pruned(candidate, lambda c: 0.1 + 0.2 * len(c["demos"]), noise=noise)

    assert left == candidate
    assert pruning.line(state, candidate, KINDS) == ""


def test_without_a_gain_only_levers_are_looked_at():
    left, _, _ = pruned({"k": 1, "demos": DEMOS}, lambda _: 0.5, gained=0.0)
    assert left in ({"k": 1}, {"demos": DEMOS})
    assert pruned({"demos": DEMOS}, lambda _: 0.5, gained=0.0)[2] == 0


def test_sentences_end_where_a_new_one_begins():
    assert pruning.pieces({"instructions": TEXT}, KINDS) == [["instructions", i] for i in range(4)]
    assert pruning.pieces({"a.instructions": "One sentence, e.g. this.", "k": 3, "demos": DEMOS[:1]}, KINDS) == []
    left = pruning.without({"instructions": TEXT}, [["instructions", 1]], KINDS)
    assert left["instructions"].startswith("You are kind. Count")
    assert len(pruning.pieces({"instructions": "先数。再数。"}, KINDS)) == 2


def test_a_users_own_parameter_may_have_any_name():
    kinds = {"demos": "integer", "demo_pool": "choice", "instructions": "choice", "a.demos": "choice"}
    candidate = {"demos": 3, "demo_pool": "small", "instructions": "", "a.demos": [1, 2]}

    assert pruning.levers(candidate, kinds) == [["demos"], ["demo_pool"], ["instructions"], ["a.demos"]]
    assert pruning.pieces(candidate, kinds) == []
    assert pruning.without(candidate, [["a.demos"], ["demos"]], kinds) == {"demo_pool": "small", "instructions": ""}


def test_an_empty_text_that_the_user_declared_is_kept_and_others_are_dropped():
    kinds, candidate = {"prefix": "choice", "k": "integer"}, {"prefix": "", "k": 3}
    _, drops = pruning.wave(pruning.start(0, 0.5, range(64), 0), candidate, kinds)
    assert [["k"]] in drops


def test_a_gain_counts_where_it_is_beyond_the_luck_of_the_best_of_many():
    original, best = [0.0, 1.0] * 20, [1.0, 1.0] * 6 + [0.0, 1.0] * 14
    assert pruning.gain(best, original) == pytest.approx(0.15)
    assert pruning.gain(best, original, 30) == 0.0
    assert pruning.gain([None, 1.0], [1.0, None]) == 0.0
