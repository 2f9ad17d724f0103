"""Constraints: what is asked again, with what in the prompt, what it costs, and what is left in the trace."""

import asyncio
import logging

import pytest

import tuneful as tf
from tuneful.errors import ConstraintError, UsageError
from tuneful.testing import ScriptedLM


class TwoHops(tf.Module):
    def __init__(self, demand=tf.Assert):
        self.query = tf.Predict("question -> query")
        self.answer = tf.Predict("question, query -> answer")
        self.demand = demand
        self.runs = 0

    def forward(self, question):
        self.runs += 1
        query = self.query(question=question).query
        self.demand(len(query) <= 10, "Make the query shorter than 11 characters.")
        answer = self.answer(question=question, query=query)
        self.demand(answer.answer != "no", "Do not answer with no.", target=self.answer)
        return answer


class AsyncTwoHops(TwoHops):
    async def forward(self, question):
        self.runs += 1
        query = (await self.query.acall(question=question)).query
        self.demand(len(query) <= 10, "Make the query shorter than 11 characters.")
        answer = await self.answer.acall(question=question, query=query)
        self.demand(answer.answer != "no", "Do not answer with no.", target=self.answer)
        return answer


def lm_of(*values):
    """An LM that answers with these values, one after the other; `asked` holds the prompts."""
    rest = list(values)
    asked = []

    def script(request):
        asked.append(request)
        name = "query" if "[[ ## answer ## ]]" not in request.messages[0].text else "answer"
        return f"[[ ## {name} ## ]]\n{rest.pop(0)}"

    lm = ScriptedLM(script)
    lm.asked = asked
    return lm


@pytest.mark.parametrize("kind", [TwoHops, AsyncTwoHops])
def test_a_failed_constraint_asks_the_responsible_predictor_again_with_answer_and_message(kind):
    lm = lm_of("a query that is far too long", "short", "yes")
    program = kind()
    found = program.using(lm=lm)(question="Why?")
    assert found.answer == "yes"
    assert [s.path for s in found.trace if not s.superseded] == ["query", "answer"]
    assert [s.outputs for s in found.trace if s.superseded] == [{"query": "a query that is far too long"}]
    prompt = lm.asked[1].messages[-1].text
    assert "a query that is far too long" in prompt
    assert "Make the query shorter than 11 characters." in prompt
    assert found.trace.noted["asked again by a constraint"] == 1
    assert found.trace.steps[-2].inputs == {"question": "Why?"}  # a demo of it knows nothing of the detour


@pytest.mark.parametrize("kind", [TwoHops, AsyncTwoHops])
def test_steps_before_the_target_are_not_asked_again(kind):
    lm = lm_of("short", "no", "yes")
    found = kind().using(lm=lm)(question="Why?")
    assert (found.answer, len(lm.asked)) == ("yes", 3)
    assert found.trace.usage.calls == 3
    assert [(s.path, s.superseded) for s in found.trace] == [("answer", True), ("query", False), ("answer", False)]


def test_both_constraints_have_their_own_bound():
    lm = lm_of("a long long query", "another long one", "short", "no", "no", "yes")
    assert TwoHops().using(lm=lm)(question="Why?").answer == "yes"


def test_assert_raises_in_the_end_and_the_trace_is_kept():
    lm = lm_of("too long, the first", "too long, the second", "too long, the third")
    with pytest.raises(ConstraintError, match=r"shorter than 11.*2 further answers") as caught:
        TwoHops().using(lm=lm)(question="Why?")
    assert caught.value.predictor == "query"
    assert len(lm.asked) == 3


def test_suggest_goes_on_with_a_warning_that_is_counted(caplog):
    lm = lm_of("too long, the first", "too long, the second", "too long, the third", "yes")
    with caplog.at_level(logging.WARNING, "tuneful"):
        found = TwoHops(tf.Suggest).using(lm=lm)(question="Why?")
    assert found.answer == "yes"
    assert found.trace.noted["suggestion not met"] == 1
    assert "Make the query shorter" in caplog.text


def test_a_suggestion_that_is_not_met_is_counted_once_though_a_later_one_sends_the_run_back():
    class Two(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question -> answer")

        def forward(self, question):
            found = self.answer(question=question)
            tf.Suggest(len(found.answer) < 3, "Make it shorter.")
            tf.Suggest(found.answer.islower(), "Use small letters.")
            return found

    lm = lm_of("LONG 1", "LONG 2", "LONG 3", "long 4")
    found = Two().using(lm=lm)(question="Why?")
    assert found.answer == "long 4"
    assert found.trace.noted == {"asked again by a constraint": 3, "suggestion not met": 1}


def test_without_backtracks_nothing_is_asked_again():
    with tf.context(max_backtracks=0):
        lm = lm_of("too long, the first", "yes")
        assert TwoHops(tf.Suggest).using(lm=lm)(question="Why?").answer == "yes"
        with pytest.raises(ConstraintError):
            TwoHops().using(lm=lm_of("too long, the first"))(question="Why?")
    with pytest.raises(UsageError):
        tf.configure(max_backtracks=-1)


def test_outside_of_a_run_assert_raises_and_suggest_warns():
    assert tf.Suggest(1)
    assert not tf.Suggest([], "x")
    tf.Assert(True)
    with pytest.raises(ConstraintError, match="no step"):
        tf.Assert(None, "x")


def test_an_except_exception_of_the_user_does_not_keep_the_way_back():
    class Careful(TwoHops):
        def forward(self, question):
            try:
                return super().forward(question)
            except Exception:  # noqa: BLE001 (what a user may write)
                return tf.Prediction(answer="caught")

    assert Careful().using(lm=lm_of("a query that is far too long", "short", "yes"))(question="Why?").answer == "yes"


def test_an_inner_module_goes_back_by_itself_and_an_outer_target_goes_further():
    class Inner(tf.Module):
        def __init__(self):
            self.answer = tf.Predict("question, query -> answer")
            self.runs = 0

        def forward(self, question, query, asker):
            self.runs += 1
            answer = self.answer(question=question, query=query).answer
            tf.Assert(answer != "no", "Not no.")
            tf.Assert(answer != "bad query", "The query is bad.", target=asker)
            return tf.Prediction(answer=answer)

    class Outer(tf.Module):
        def __init__(self):
            self.query = tf.Predict("question -> query")
            self.inner = Inner()
            self.runs = 0

        def forward(self, question):
            self.runs += 1
            query = self.query(question=question).query
            return self.inner(question=question, query=query, asker=self.query)

    program = Outer()
    program.set_lm(lm_of("first", "no", "yes"))
    assert program(question="Why?").answer == "yes"
    assert (program.runs, program.inner.runs) == (1, 2)
    program.set_lm(lm_of("first", "bad query", "second", "yes"))
    assert program(question="Why?").answer == "yes"
    assert program.runs == 3


def test_runs_side_by_side_do_not_mix():
    def script(request):
        text = request.messages[-1].text
        if "[[ ## answer ## ]]" in request.messages[0].text:
            return f"[[ ## answer ## ]]\n{text.split('[[ ## query ## ]]')[1].split()[0]}"
        number = text.split("Q")[1].split()[0]
        return f"[[ ## query ## ]]\n{'s' + number if 'feedback' in text else 'long long long ' + number}"

    program = TwoHops().using(lm=ScriptedLM(script))
    found = program.batch([{"question": f"Q{i}"} for i in range(40)], num_threads=16)
    assert [p.answer for p in found] == [f"s{i}" for i in range(40)]
    assert {p.trace.usage.calls for p in found} == {3}

    async def gathered():
        return await asyncio.gather(
            *(AsyncTwoHops().using(lm=ScriptedLM(script)).acall(question=f"Q{i}") for i in range(9))
        )

    assert [p.answer for p in asyncio.run(gathered())] == [f"s{i}" for i in range(9)]


def test_an_answer_given_again_is_told_so_and_asked_with_a_temperature():
    lm = lm_of("the same long query", "the same long query", "short", "yes")
    assert TwoHops().using(lm=lm)(question="Why?").answer == "yes"
    first, second = lm.asked[1], lm.asked[2]
    assert "2 times" in second.messages[-1].text
    assert (first.sampling.temperature, second.sampling.temperature) == (0.0, 0.7)


# --- constraints of a predictor ---


@pytest.mark.parametrize("check", [lambda p: p.query.islower(), lambda i, p: p.query != i["question"].upper()])
def test_a_predictor_is_asked_until_its_answer_meets_the_check(check):
    lm = lm_of("WHY?", "why not")
    query = tf.Predict("question -> query").require(check, "Use small letters.")
    found = query.using(lm=lm)(question="Why?")
    assert found.query == "why not"
    assert "Use small letters." in lm.asked[1].messages[-1].text
    assert [s.superseded for s in found.trace] == [True, False]


async def test_checks_may_be_async_and_are_told_together():
    async def small(prediction):
        await asyncio.sleep(0)
        return prediction.query.islower()

    query = (
        tf.Predict("question -> query").require(small, "Small letters.").suggest(lambda p: len(p.query) < 5, "Short.")
    )
    lm = lm_of("A LONG QUERY", "long still", "longer", "short")
    found = await query.using(lm=lm).acall(question="Why?")
    assert (found.query, len(lm.asked)) == ("longer", 3)  # the wish was turned down twice, and given up
    assert "Small letters.\nShort." in lm.asked[1].messages[-1].text
    assert found.trace.noted["suggestion not met"] == 1


def test_a_check_that_never_holds_is_a_typed_error():
    query = tf.Predict("question -> query").require(lambda p: False, "Never.")
    with pytest.raises(ConstraintError, match="Never"):
        query.using(lm=lm_of("a", "b", "c"))(question="Why?")
    with pytest.raises(UsageError, match="function"):
        query.require("x", "y")


def test_constraints_stay_with_copies_and_compiled_programs():
    query = tf.Predict("question -> query").require(lambda p: p.query != "bad", "Not bad.")
    for copy in (query.deepcopy(), query.reset_copy(), query.with_parameters({"instructions": "Ask."})):
        assert copy.using(lm=lm_of("bad", "good"))(question="Why?").query == "good"


def test_a_run_that_recovered_gives_demos_of_its_accepted_answers_only():
    def script(request):
        text = request.messages[-1].text
        if "[[ ## answer ## ]]" in request.messages[0].text:
            return "[[ ## answer ## ]]\nyes"
        return f"[[ ## query ## ]]\n{'short' if 'feedback' in text else 'far too long a query'}"

    rows = [tf.Example(question=f"Q{i}?", answer="yes").with_inputs("question") for i in range(6)]
    teleprompter = tf.BootstrapFewShot(metric=lambda e, p, trace=None: e.answer == p.answer, max_labeled_demos=0)
    compiled = teleprompter.compile(TwoHops().using(lm=ScriptedLM(script)), trainset=rows)
    demos = compiled.report.candidate.get("query.demos") if compiled.report.candidate else compiled.query.demos
    assert demos
    assert {d["query"] for d in demos} == {"short"}
    assert {frozenset(d) for d in demos} == {frozenset({"question", "query"})}


def test_counterexamples_show_the_answer_that_was_turned_down_when_asked_again_and_only_then():
    def script(request):
        text = request.messages[-1].text
        if "[[ ## answer ## ]]" in request.messages[0].text:
            return "[[ ## answer ## ]]\nyes"
        return f"[[ ## query ## ]]\n{'short' if 'feedback' in text else 'far too long a query'}"

    rows = [tf.Example(question=f"Q{i}?", answer="yes").with_inputs("question") for i in range(6)]
    teleprompter = tf.BootstrapFewShot(
        metric=lambda e, p, trace=None: e.answer == p.answer, max_labeled_demos=0, counterexamples=True
    )
    lm = ScriptedLM(script)
    compiled = teleprompter.compile(TwoHops().using(lm=lm), trainset=rows)
    compiled(question="Why?")

    first, again, _ = lm.requests[-3:]
    assert not any("far too long" in m.text for m in first.messages)
    shown = [m.text for m in again.messages[1:-1] if m.role == "user"]
    assert len(shown) == 4
    assert all("far too long a query" in t and "Make the query shorter" in t for t in shown)


def test_a_check_may_say_itself_what_is_wrong():
    def checked(prediction):
        if prediction.query == "bad":
            raise ValueError("It is bad.")
        return True

    query = tf.Predict("question -> query").require(checked, "Mend the query.")
    lm = lm_of("bad", "good")
    assert query.using(lm=lm)(question="Why?").query == "good"
    assert "Mend the query. It is bad." in lm.asked[1].messages[-1].text


class Halves(tf.Module):
    """Two modules side by side, one of which goes back."""

    def __init__(self):
        self.left, self.right = AsyncTwoHops(), tf.ChainOfThought("question -> answer")

    async def forward(self, question):
        left, right = await asyncio.gather(self.left.acall(question=question), self.right.acall(question=question))
        return tf.Prediction(answer=left.answer + right.answer)


def test_what_runs_beside_a_module_that_goes_back_stays_as_it_is():
    async def script(request):
        system, text = request.messages[0].text, request.messages[-1].text
        if "[[ ## reasoning ## ]]" in system:
            return "[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\nright"
        if "[[ ## answer ## ]]" in system:
            return "[[ ## answer ## ]]\nleft"
        await asyncio.sleep(0.05)  # the other half is done by then
        return f"[[ ## query ## ]]\n{'short' if 'feedback' in text else 'a query that is far too long'}"

    found = Halves().using(lm=ScriptedLM(script))(question="Why?")
    assert found.answer == "leftright"
    assert [(s.path, s.superseded) for s in found.trace if s.path.startswith("right")] == [("right.predict", False)]
    assert found.trace.usage.calls == 4


def test_a_part_of_the_run_that_is_recorded_apart_is_given_once_more_too():
    class Program(tf.Module):
        def __init__(self):
            self.best = tf.BestOfN(tf.Predict("question -> query"), N=1, reward_fn=lambda args, p: 1.0, threshold=1.0)
            self.answer = tf.Predict("question, query -> answer")

        def forward(self, question):
            query = self.best(question=question).query
            answer = self.answer(question=question, query=query)
            tf.Assert(answer.answer != "no", "Not no.")
            return answer

    lm = lm_of("short", "no", "yes")
    found = Program().using(lm=lm)(question="Why?")
    assert (found.answer, len(lm.asked), found.trace.usage.calls) == ("yes", 3, 3)
    assert len([s for s in found.trace if "query" in s.outputs]) == 1
