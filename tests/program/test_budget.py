"""Hard limits, enforced where requests leave."""

import asyncio
import pickle

import pytest

import tuneful as tf
from tuneful.backends.budget import Meter
from tuneful.backends.metered import metered
from tuneful.testing import ScriptedLM
from tuneful.wire.response import Choice, Response, Usage

TOKENS = 10


async def _slow(request):
    await asyncio.sleep(0.002)
    return Response((Choice("[[ ## a ## ]]\nx"),), Usage(calls=1, prompt_tokens=6, completion_tokens=4))


def slow_lm(**options):
    """Return an LM whose every call uses 10 tokens."""
    return ScriptedLM(_slow, **options)


def ask(lm, meter, times, at_once):
    """Ask until the budget is used up; return how many answers came and the first refusal."""
    program = tf.Predict("q -> a").using(lm=lm)
    with metered(meter):
        results, _, errors = program.batch([{"q": "x"}] * times, at_once, return_failed_examples=True)
    assert {type(e) for e in errors} <= {tf.BudgetExceeded}
    return sum(r is not None for r in results), errors[0] if errors else None


@pytest.mark.parametrize("at_once", [1, 64])
def test_the_limit_of_calls_is_never_exceeded(at_once):
    lm, meter = slow_lm(), Meter(tf.Budget(calls=100))
    answered, error = ask(lm, meter, 400, at_once)
    assert (answered, len(lm.requests), meter.usage.calls) == (100, 100, 100)
    assert error.limit == "calls"
    assert "Budget(calls=100) is used up" in str(error)


@pytest.mark.parametrize("at_once", [1, 64])
def test_the_limit_of_tokens_is_exceeded_by_no_more_than_the_calls_in_flight(at_once):
    lm, meter = slow_lm(), Meter(tf.Budget(tokens=1000))
    answered, error = ask(lm, meter, 400, at_once)
    assert 1000 <= meter.usage.total_tokens <= 1000 + (at_once - 1) * TOKENS
    assert answered == len(lm.requests) == meter.usage.total_tokens // TOKENS
    assert error.limit == "tokens"


@pytest.mark.parametrize("at_once", [1, 64])
def test_the_limit_in_dollars_is_exceeded_by_no_more_than_the_calls_in_flight(at_once):
    """A call costs (6 * 1 + 4 * 2) / 1e6 dollars."""
    price = 14e-6
    lm, meter = slow_lm(price_per_million=(1.0, 2.0)), Meter(tf.Budget(usd=100 * price - 1e-9))
    answered, error = ask(lm, meter, 400, at_once)
    assert 100 <= answered <= 100 + at_once - 1
    assert meter.usage.cost_usd == pytest.approx(answered * price)
    assert error.limit == "usd"


def test_the_limit_in_seconds_stops_new_calls(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tuneful.backends.budget.time.monotonic", lambda: now[0])
    meter = Meter(tf.Budget(seconds=5))
    meter.depart("m", priced=True)
    now[0] += 4.9
    meter.depart("m", priced=True)
    now[0] += 0.2
    with pytest.raises(tf.BudgetExceeded) as caught:
        meter.depart("m", priced=True)
    assert caught.value.limit == "seconds"


@pytest.mark.parametrize("limit", ["calls", "tokens", "seconds"])
def test_a_budget_of_nothing_lets_nothing_leave(limit):
    lm = slow_lm()
    answered, error = ask(lm, Meter(tf.Budget(**{limit: 0})), 3, 1)
    assert (answered, lm.requests, error.limit) == (0, [], limit)


def test_a_budget_of_no_dollars_lets_free_models_work_and_stops_others():
    assert ask(slow_lm(), Meter(tf.Budget(usd=0)), 5, 1)[0] == 5
    answered, error = ask(slow_lm(price_per_million=(1.0, 1.0)), Meter(tf.Budget(usd=0)), 5, 1)
    assert answered <= 1
    assert error.limit == "usd"


def test_a_limit_in_dollars_needs_a_price():
    lm = ScriptedLM(["y"], local=False)
    with metered(Meter(tf.Budget(usd=1))), pytest.raises(tf.UsageError, match="price_per_million"):
        lm("x")
    assert lm.requests == []


def test_failed_calls_count_as_calls():
    lm, meter = ScriptedLM(lambda r: tf.LMServerError("no")), Meter(tf.Budget(calls=2))
    with metered(meter):
        for kind in (tf.LMServerError, tf.LMServerError, tf.BudgetExceeded):
            with pytest.raises(kind):
                lm("x")
    assert len(lm.requests) == 2


def test_every_scope_is_charged_and_the_tightest_one_refuses():
    lm, outer, inner = slow_lm(), Meter(tf.Budget(calls=4)), Meter(tf.Budget(calls=2))
    with metered(outer):
        with metered(inner):
            lm("x")
            lm("x")
            for _ in range(10):
                with pytest.raises(tf.BudgetExceeded, match="calls=2"):
                    lm("x")
        lm("the refused calls have not used up the outer budget")
        lm("x")
        with pytest.raises(tf.BudgetExceeded, match="calls=4"):
            lm("x")
    assert (outer.usage.calls, inner.usage.calls, len(lm.requests)) == (4, 2, 4)


def test_what_a_run_had_used_before_it_was_stopped_counts():
    meter = Meter(tf.Budget(calls=3, tokens=1000))
    meter.restore(Usage(calls=2, prompt_tokens=50))
    meter.depart("m", priced=True)
    with pytest.raises(tf.BudgetExceeded):
        meter.depart("m", priced=True)
    assert meter.usage.total_tokens == 50


def test_the_repair_turn_is_charged_and_stops_at_the_limit():
    lm = ScriptedLM(["[[ ## a ## ]]\nmany", "[[ ## a ## ]]\n7"])
    with metered(Meter(tf.Budget(calls=1))), pytest.raises(tf.BudgetExceeded):
        tf.Predict("q -> a: int").using(lm=lm)(q="x")
    assert len(lm.requests) == 1


@pytest.mark.parametrize("limit", [{"usd": -1}, {"calls": -1}, {"tokens": float("nan")}, {"usd": "2"}, {"seconds": []}])
def test_a_limit_that_makes_no_sense_is_a_usage_error(limit):
    with pytest.raises(tf.UsageError, match=next(iter(limit))):
        tf.Budget(**limit)


def test_a_budget_shows_the_limits_that_it_has():
    assert str(tf.Budget(usd=2, seconds=900)) == "Budget(usd=2, seconds=900)"
    assert str(tf.Budget()) == "Budget()"


def test_a_meter_takes_over_what_one_of_another_process_has_counted():
    far, near = Meter(), Meter(tf.Budget(calls=5))
    ask(slow_lm(), far, 3, 1)
    near.absorb(pickle.loads(pickle.dumps(far)))

    assert near.usage == far.usage
    assert near.by_model() == far.by_model()
    assert near.latency() == far.latency()
    assert near.left() == tf.Budget(calls=5 - far.usage.calls)
    near.absorb(far)
    with pytest.raises(tf.BudgetExceeded, match="6 calls"):
        near.left()
