"""Lineage: who comes from whom, and what has the changes of both."""

import pytest

from tuneful.optimize.strategies.lineage import ancestors, common, merged

#: 0 has the children 1 and 2; 3 is made of 1, 4 of 2, 5 of 3 and 4.
PARENTS = [[], [0], [0], [1], [2], [3, 4]]


def test_ancestors_are_all_that_came_before():
    assert [ancestors(PARENTS, i) for i in (0, 3, 5)] == [set(), {0, 1}, {0, 1, 2, 3, 4}]


@pytest.mark.parametrize(("one", "other", "base"), [(1, 2, 0), (3, 4, 0), (3, 2, 0), (5, 3, None), (0, 1, None)])
def test_the_common_ancestor_of_two_of_which_none_comes_from_the_other(one, other, base):
    assert common(PARENTS, one, other) == common(PARENTS, other, one) == base


def test_of_common_ancestors_the_youngest_counts():
    assert common([[], [0], [1], [1]], 2, 3) == 1
    assert common(PARENTS, 1, 1) is None


def test_a_merge_has_the_changes_of_both_and_where_both_changed_those_of_the_better():
    base = {"think": "A"}
    assert merged(base, {"think": "B"}, {"think": "A", "say": "C"}) == {"think": "B", "say": "C"}
    assert merged(base, {"think": "B", "say": "D"}, {"think": "C", "ask": "E"}) == {
        "think": "B",
        "say": "D",
        "ask": "E",
    }


def test_a_change_back_to_the_program_is_a_change():
    assert merged({"think": "A", "say": "B"}, {"say": "B"}, {"think": "A", "say": "C"}) == {"say": "C"}


def test_what_is_one_of_the_two_already_is_no_merge():
    assert merged({}, {"think": "B"}, {"think": "C"}) is None
    assert merged({}, {"think": "B"}, {}) is None
