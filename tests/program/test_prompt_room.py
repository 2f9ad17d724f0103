"""A prompt that is too long loses demos, the first first and whole ones only, and says so."""

import logging

import pytest

import tuneful as tf
from tuneful.backends.base import Backend
from tuneful.backends.local import find
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.response import Choice, Response

DEMOS = [{"question": f"question {i} " + "word " * 20, "answer": f"answer-{i}"} for i in range(8)]


class Counting(Backend):
    """Answers "x". A token is a word, if it counts at all."""

    def __init__(self, context_tokens=None, exact=True):
        self.endpoint = f"counting, exact {exact}"
        self.capabilities = Capabilities(context_tokens=context_tokens)
        self.exact = exact
        self.counts = 0
        self.requests = []

    async def complete(self, request):
        self.requests.append(request)
        return Response((Choice("[[ ## answer ## ]]\nx"),))

    async def count_tokens(self, messages):
        self.counts += 1
        return sum(len(m.text.split()) for m in messages) if self.exact else None


def predictor(backend, most=None, demos=DEMOS, **options):
    program = tf.Predict("question -> answer", max_prompt_tokens=most, **options)
    program.demos = list(demos)
    return program.using(lm=tf.LM("test/words", backend=backend))


def words(request):
    return sum(len(m.text.split()) for m in request.messages)


def shown(request):
    """Return the numbers of the demos that a request shows."""
    answers = [m.text for m in request.messages[1:] if m.role == "assistant"]
    return [int(text.split("answer-")[1].split()[0]) for text in answers]


def test_a_prompt_that_fits_is_sent_whole_and_nothing_is_counted():
    backend = Counting(context_tokens=100_000)
    prediction = predictor(backend)(question="q")
    assert shown(backend.requests[0]) == list(range(8))
    assert backend.counts == 0
    assert prediction.trace.steps[0].dropped_demos == 0
    assert prediction.trace.steps[0].noted == {}


@pytest.mark.parametrize("most", [120, 170, 200, 260, 300, 400])
def test_the_first_demos_go_and_as_many_of_the_last_as_fit_stay(most):
    backend = Counting()
    prediction = predictor(backend, most)(question="q")
    (request,) = backend.requests
    kept = shown(request)
    assert kept == list(range(8 - len(kept), 8))
    assert words(request) <= most
    if len(kept) < 8:
        longer = predictor(Counting(), None, DEMOS[8 - len(kept) - 1 :]).render(question="q")
        assert words(longer.request) > most  # one more would not have fitted
    assert prediction.trace.steps[0].dropped_demos == 8 - len(kept)
    assert prediction.trace.steps[0].noted.get("demo dropped", 0) == 8 - len(kept)


def test_no_demo_is_shown_in_part():
    backend = Counting()
    predictor(backend, 170)(question="q")
    roles = [m.role for m in backend.requests[0].messages]
    assert roles == ["system", *["user", "assistant"] * (len(roles) // 2 - 1), "user"]


def test_the_answer_gets_its_room_in_the_context_of_the_model():
    kept = {}
    for max_tokens in (10, 100):
        backend = Counting(context_tokens=300)
        predictor(backend, max_tokens=max_tokens)(question="q")
        assert words(backend.requests[0]) + max_tokens <= 300
        kept[max_tokens] = len(shown(backend.requests[0]))
    assert kept[10] > kept[100] > 0


def test_a_limit_of_the_answer_beyond_the_context_does_not_cost_all_demos():
    backend = Counting(context_tokens=300)
    predictor(backend, max_tokens=5000)(question="q")
    assert shown(backend.requests[0])


def test_render_shows_what_is_sent_and_says_what_is_left_out():
    backend = Counting()
    program = predictor(backend, 200)
    rendered = program.render(question="q")
    program(question="q")
    assert rendered.request == backend.requests[0]
    assert rendered.dropped_demos == 8 - len(shown(rendered.request)) > 0
    assert f"[the first {rendered.dropped_demos} demos are left out: they do not fit]" in str(rendered)


def test_a_warning_says_it_once_for_each_predictor(caplog):
    caplog.set_level(logging.WARNING, "tuneful")
    first, second = predictor(Counting(), 200), predictor(Counting(), 200)
    for program in (first, first, second):
        program(question="q")
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2
    assert "of 8 demos were dropped" in said[0]
    assert "200 tokens" in said[0]


def test_an_evaluation_counts_the_dropped_demos():
    program = predictor(Counting(), 200)
    rows = [tf.Example(question=f"q{i}", answer="x").with_inputs("question") for i in range(3)]
    result = tf.Evaluate(devset=rows, metric=lambda e, p, trace=None: True)(program)
    each = program.render(question="q0").dropped_demos
    assert result.noted["demo dropped"] == 3 * each > 0


def test_inputs_that_do_not_fit_at_all_are_an_error_with_both_sizes_and_nothing_is_sent():
    for backend, most in ((Counting(), 100), (Counting(context_tokens=100), None)):
        with pytest.raises(tf.ContextWindowExceededError, match="without any demo") as caught:
            predictor(backend, most)(question="long " * 500)
        assert caught.value.prompt_tokens > 500
        assert caught.value.context_tokens == 100
        assert backend.requests == []


def test_without_a_tokenizer_the_length_is_estimated_and_no_prompt_is_refused_for_it():
    backend = Counting(context_tokens=600, exact=False)
    predictor(backend)(question="q")
    assert 0 < len(shown(backend.requests[0])) < 8
    predictor(backend)(question="x" * 4000)  # about 1,300 tokens, or fewer: the provider decides
    assert shown(backend.requests[1]) == []


def test_without_a_tokenizer_a_bound_of_ones_own_is_kept_by_the_estimate():
    with pytest.raises(tf.ContextWindowExceededError, match="about"):
        predictor(Counting(exact=False), 300)(question="x" * 4000)


def test_what_stays_the_same_is_counted_once_for_many_inputs():
    backend = Counting()
    program = predictor(backend, 300)
    program(question="q")
    before = backend.counts
    for i in range(5):
        program(question=f"r{i}")
    fresh = backend.counts - before
    assert fresh <= 5 * 5  # the whole prompt, where the count of the stable part does not settle it


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "many"])
def test_a_bound_that_is_no_number_of_tokens_is_refused(value):
    with pytest.raises(tf.UsageError, match="max_prompt_tokens"):
        tf.Predict("question -> answer", max_prompt_tokens=value)


def test_it_can_be_set_later_and_is_no_sampling_option():
    program = predictor(Counting())
    program.max_prompt_tokens = 200
    assert program.render(question="q").dropped_demos > 0
    assert "max_prompt_tokens" not in program.sampling.to_json()
    assert "max_prompt_tokens=200" in repr(program)


async def test_it_works_in_an_event_loop():
    backend = Counting()
    await predictor(backend, 200).acall(question="q")
    assert words(backend.requests[0]) <= 200


@pytest.mark.model
@pytest.mark.skipif(not find.is_available(), reason="the embedded model is not installed")
def test_the_embedded_model_never_sees_a_prompt_that_is_too_long():
    program = tf.Predict("question -> answer", max_tokens=16).using(lm=tf.LM("local/smollm2", context_tokens=400))
    program.demos = [{"question": f"What is {i} and {i}? " * 4, "answer": str(2 * i)} for i in range(12)]
    prediction = program(question="What is 7 and 7?")
    step = prediction.trace.steps[0]
    assert 0 < step.dropped_demos < 12
    assert 300 < step.usage.prompt_tokens <= 400 - 16
    with pytest.raises(tf.ContextWindowExceededError) as caught:
        program(question="word " * 600)
    assert caught.value.prompt_tokens > 600
    assert caught.value.context_tokens == 400
