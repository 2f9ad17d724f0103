"""The order in which a model's slots take the jobs that wait, and that nobody waits for ever."""

import threading
from concurrent.futures import CancelledError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneful.backends.local.slots import Slots


def order_of(prefixes, overtaking, count=1):
    """Queue a job for each prefix while the slots are busy, and return the indexes in the order in which they ran."""
    slots = Slots(count, overtaking)
    gate = threading.Event()
    ran = []
    busy = [slots.submit(gate.wait) for _ in range(count)]
    jobs = [slots.submit_behind(p, lambda i=i: ran.append(i)) for i, p in enumerate(prefixes)]
    gate.set()
    for job in [*busy, *jobs]:
        job.result(timeout=10)
    slots.shutdown()
    return ran


def test_jobs_behind_one_prefix_run_in_the_order_in_which_they_came():
    assert order_of("AAAAA", 8) == [0, 1, 2, 3, 4]


def test_jobs_are_taken_prefix_by_prefix_the_one_with_the_most_first():
    ran = order_of("ABABBAB", 8)
    assert ["ABABBAB"[i] for i in ran] == list("BBBBAAA")
    assert ran == [1, 3, 4, 6, 0, 2, 5]


def test_without_overtaking_it_is_first_come_first_served():
    assert order_of("ABABBAB", 0) == list(range(7))


def test_who_has_been_overtaken_often_enough_is_next():
    ran = order_of("A" + "B" * 20, 5)
    assert ran.index(0) == 5


@settings(max_examples=60, deadline=None, database=None)
@given(prefixes=st.lists(st.sampled_from("ABCD"), max_size=30), overtaking=st.integers(0, 6), count=st.integers(1, 3))
def test_everything_runs_once_and_nobody_is_overtaken_more_often_than_allowed(prefixes, overtaking, count):
    ran = order_of(prefixes, overtaking, count)
    assert sorted(ran) == list(range(len(prefixes)))
    for place, index in enumerate(ran):
        later = [i for i in ran[:place] if i > index]
        assert len(later) <= overtaking + count  # those that run beside it finish in any order


def test_the_next_turn_begins_where_the_last_one_was():
    slots = Slots(1, 8)
    ran = []
    slots.submit_behind("B", lambda: None).result(timeout=10)
    gate = threading.Event()
    busy = slots.submit_behind("B", gate.wait)
    jobs = [slots.submit_behind(p, lambda p=p: ran.append(p)) for p in "AAAB"]
    gate.set()
    for job in [busy, *jobs]:
        job.result(timeout=10)
    slots.shutdown()
    assert ran == ["B", "A", "A", "A"]


def test_an_error_reaches_whoever_waits_and_the_slot_goes_on():
    slots = Slots(1, 8)
    with pytest.raises(ZeroDivisionError):
        slots.submit(lambda: 1 / 0).result(timeout=10)
    assert slots.submit(divmod, 7, 2).result(timeout=10) == (3, 1)
    slots.shutdown()


def test_a_job_that_is_cancelled_while_it_waits_is_not_begun():
    slots = Slots(1, 8)
    gate = threading.Event()
    ran = []
    slots.submit(gate.wait)
    waits = slots.submit_behind("A", lambda: ran.append("cancelled"))
    after = slots.submit_behind("A", lambda: ran.append("after"))
    assert waits.cancel()
    gate.set()
    after.result(timeout=10)
    slots.shutdown()
    assert ran == ["after"]


def test_a_shutdown_cancels_what_waits_and_lets_what_runs_finish():
    slots = Slots(1, 8)
    begun, gate = threading.Event(), threading.Event()
    runs = slots.submit(lambda: begun.set() or gate.wait())
    waits = slots.submit(lambda: None)
    begun.wait(10)
    threading.Timer(0.05, gate.set).start()
    slots.shutdown(cancel_futures=True)
    assert runs.result(timeout=10) is True
    with pytest.raises(CancelledError):
        waits.result(timeout=10)
