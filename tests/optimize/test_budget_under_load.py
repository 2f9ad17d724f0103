"""Law 3: a budget is never exceeded by more than the calls in flight, for each kind, under 64 concurrent calls."""

import asyncio
import time

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM

THREADS = 64
USD_PER_TOKEN = 1e-3


class Busy(ScriptedLM):
    """Answers after a moment, and knows how many calls were in flight at once."""

    def __init__(self):
        self.in_flight = self.most = 0
        self.clock = None

        async def script(request):
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            await asyncio.sleep(0.003)
            self.in_flight -= 1
            if self.clock is not None:
                self.clock.now += 0.01
            number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
            return f"[[ ## answer ## ]] {'a' if int(number) % 3 == 0 else 'no'}{number}"

        super().__init__(script, local=False, price_per_million=(1000.0, 1000.0))


def compiled(lm, rows, metric, budget):
    with tf.context(lm=lm, num_threads=THREADS):
        return tf.BootstrapFewShot(metric=metric, max_bootstrapped_demos=60, max_labeled_demos=0).compile(
            tf.Predict("question -> answer"), trainset=rows(300), valset=rows(300, start=500), budget=budget
        )


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("kind", ["calls", "tokens", "usd"])
def test_no_kind_of_budget_is_exceeded_by_more_than_what_is_in_flight(rows, metric, kind, share):
    free = Busy()
    whole = compiled(free, rows, metric, None).report.usage
    assert free.most >= 8  # it is really a crowd
    limit = {
        "calls": round(share * whole.calls),
        "tokens": round(share * whole.total_tokens),
        "usd": share * whole.cost_usd,
    }

    lm = Busy()
    report = compiled(lm, rows, metric, tf.Budget(**{kind: limit[kind]})).report

    spent = {"calls": len(lm.requests), "tokens": report.usage.total_tokens, "usd": report.usage.cost_usd}
    longest = max(sum(len(m.content.split()) for m in r.messages) for r in lm.requests) + 10  # and its answer
    slack = {"calls": 0, "tokens": THREADS * longest, "usd": THREADS * longest * USD_PER_TOKEN}
    assert spent[kind] <= limit[kind] + slack[kind], (lm.most, longest)
    assert f"limit on {kind}" in report.stop_reason
    assert report.usage.calls <= len(lm.requests) <= report.usage.calls + THREADS


def test_nor_one_of_seconds(rows, metric, monkeypatch):
    lm = Busy()

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

        def __getattr__(self, name):
            return getattr(time, name)

    lm.clock = Clock()
    monkeypatch.setattr("tuneful.backends.budget.time", lm.clock)
    report = compiled(lm, rows, metric, tf.Budget(seconds=2)).report

    assert len(lm.requests) <= 2 / 0.01 + THREADS  # each call moves the clock by 0.01 s when it ends
    assert "limit on seconds" in report.stop_reason
