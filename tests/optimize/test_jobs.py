"""Jobs of a recipe: done once, metered, kept in the journal, and never the end of a compile."""

import sys

import pytest

import tuneful as tf
from tuneful.optimize.teleprompter import Teleprompter
from tuneful.optimize.trial import Job, Trial
from tuneful.testing import ScriptedLM
from tuneful.wire.response import Choice, Response, Usage

QA = tf.Predict("question -> answer")
PROPOSER = tf.Predict(tf.Signature("instructions, number: int -> proposal", "Write better instructions."))


class Proposing(Teleprompter):
    """Asks a program for instructions and takes those that score best."""

    def __init__(self, metric, prompt_model, number=3):
        self.metric, self.prompt_model, self.number = metric, prompt_model, number

    def init(self, brief):
        return {"proposed": None, "scores": None}

    def jobs(self, brief, state):
        given = brief.parameters["instructions"].value
        wanted = range(self.number) if state["proposed"] is None else ()
        return [Job("proposal", {"instructions": given, "number": i}) for i in wanted]

    async def work(self, brief, job):
        with tf.context(lm=self.prompt_model):
            return (await PROPOSER.acall(**job.inputs)).proposal

    def decides(self, job):
        return self.prompt_model.endpoint

    def done(self, brief, state, results):
        return {**state, "proposed": [text for _, text in results if text is not None]}

    def ask(self, brief, state):
        if state["scores"] is not None or not state["proposed"]:
            return []
        return [Trial({"instructions": text}, tuple(range(len(brief.trainset)))) for text in state["proposed"]]

    def tell(self, brief, state, results):
        return {**state, "scores": [sum(o.score or 0 for o in outcomes) for _, outcomes in results]}

    def finalists(self, brief, state):
        scores = state["scores"] or []
        return [{"instructions": state["proposed"][scores.index(max(scores))]}] if scores else []


def task_model(request):
    """Answer rightly where the instructions are the good ones."""
    number = request.messages[-1].content.rsplit("q", 1)[1].split()[0]
    good = "Be right." in request.messages[0].content
    return f"[[ ## answer ## ]]\n{'a' if good else 'b'}{number}"


def proposals(request):
    return "[[ ## proposal ## ]]\n" + ("Be right." if request.messages[-1].content.rstrip().endswith("1") else "Try.")


def compiled(rows, metric, proposer=proposals, **options):
    lm, prompt_model = ScriptedLM(task_model), ScriptedLM(proposer)
    teleprompter = Proposing(metric, prompt_model)
    with tf.context(lm=lm, cache=False):
        program = teleprompter.compile(QA, trainset=rows(20), valset=rows(40, start=100), **options)
    return program, lm, prompt_model


def test_what_a_job_proposes_is_tried_and_what_it_cost_is_told(rows, metric):
    program, _, prompt_model = compiled(rows, metric)

    assert program.report.verdict == "better"
    assert program.signature.instructions == "Be right."
    assert len(prompt_model.requests) == 3
    assert program.report.evidence.phases["proposal"].calls == 3
    assert program.report.usage.calls == 3 + 2 * 20 + 2 * 40  # two proposals were the same


def test_a_job_is_done_once_whoever_runs_the_script_again(rows, metric, tmp_path):
    with tf.context(journal=tmp_path / "journal.sqlite"):
        first, _, _ = compiled(rows, metric, run="a")
        again, lm, prompt_model = compiled(rows, metric, run="a")
        other, _, third = compiled(rows, metric, run="b", history="a")

    assert (len(lm.requests), len(prompt_model.requests), len(third.requests)) == (0, 0, 0)
    assert again.dump_state()["parameters"] == first.dump_state()["parameters"] == other.dump_state()["parameters"]
    assert again.report.usage.calls == first.report.usage.calls


def test_a_job_that_fails_is_counted_and_the_search_goes_on(rows, metric, tmp_path):
    def broken(request):
        if request.messages[-1].content.rstrip().endswith("2"):
            raise tf.LMServerError("overloaded")
        return proposals(request)

    with tf.context(journal=tmp_path / "journal.sqlite"):
        program, _, _ = compiled(rows, metric, broken, run="a")
        again, _, prompt_model = compiled(rows, metric, run="a")

    assert program.report.verdict == "better"
    assert program.report.warnings["proposal failed"] == 1
    assert len(prompt_model.requests) == 1  # the one that failed
    assert again.report.warnings.get("proposal failed", 0) == 0


def test_a_budget_holds_for_jobs_too(rows, metric):
    program, lm, prompt_model = compiled(rows, metric, budget=tf.Budget(calls=2))

    assert len(prompt_model.requests) + len(lm.requests) == 2
    assert "calls was reached" in program.report.stop_reason


def test_a_recipe_that_asks_for_jobs_must_do_them(rows, metric):
    class Idle(Proposing):
        work = Teleprompter.work

    with pytest.raises(NotImplementedError, match="work"):
        Idle(metric, ScriptedLM(proposals)).compile(QA, trainset=rows(20))


class Tireless(Proposing):
    """Goes on proposing, three texts at a time, and runs the first of them on some rows."""

    def jobs(self, brief, state):
        given, rounds = brief.parameters["instructions"].value, len(state["scores"] or ())
        waits = len(state["proposed"] or ()) > 3 * rounds
        return [] if waits else [Job("proposal", {"instructions": given, "number": 3 * rounds + i}) for i in range(3)]

    def done(self, brief, state, results):
        return {**state, "proposed": [*(state["proposed"] or ()), *(text for _, text in results)]}

    def ask(self, brief, state):
        return [Trial({"instructions": f"{state['proposed'][-2]} {len(state['proposed'])}"}, tuple(range(5)))]

    def tell(self, brief, state, results):
        return {**state, "scores": [*(state["scores"] or ()), *(sum(o.score for o in own) for _, own in results)]}

    def finalists(self, brief, state):
        return [{"instructions": "Be right."}] if state["scores"] else []


@pytest.mark.parametrize("calls", range(60, 76))
def test_jobs_leave_the_comparison_its_share_of_the_budget_too(rows, metric, calls):
    with tf.context(lm=ScriptedLM(task_model), cache=False):
        teleprompter = Tireless(metric, ScriptedLM(proposals))
        budget = tf.Budget(calls=calls)
        report = teleprompter.compile(QA, trainset=rows(10), valset=rows(20, start=500), budget=budget).report

    assert report.verdict == "better"
    assert report.usage.calls <= calls


def test_a_proposer_without_a_key_ends_the_compile_at_once(rows, metric):
    refused = ScriptedLM(lambda request: tf.LMAuthError("the key is not accepted"))
    lm = ScriptedLM(task_model)
    with tf.context(lm=lm), pytest.raises(tf.LMAuthError, match="not accepted"):
        Proposing(metric, refused).compile(QA, trainset=rows(40))


def test_what_a_proposers_answers_needed_is_counted_also_by_a_run_that_replays_them(rows, metric, tmp_path):
    plain = ScriptedLM(lambda request: "Be right.")  # without the field's marker
    with tf.context(journal=tmp_path / "journal.sqlite", lm=ScriptedLM(task_model), cache=False):
        told = [Proposing(metric, plain).compile(QA, trainset=rows(40), run="a").report.warnings for _ in range(2)]

    assert [warnings["marker missing (tolerated) (proposal)"] for warnings in told] == [3, 3]
    assert len(plain.requests) == 3


# --- proposers ---


class Own(tf.Module):
    """A proposer of the user's own, which proposes what a function of the number of its calls gives."""

    def __init__(self, proposed):
        self.step = tf.Predict("task -> instructions")
        self.proposed = proposed
        self.calls = []

    def forward(self, **given):
        self.calls.append(given)
        return self.proposed(len(self.calls))


def with_own_proposer(rows, metric, proposed, **options):
    teleprompter = tf.COPRO(metric=metric, prompt_model=ScriptedLM(proposals), breadth=4, depth=1)
    teleprompter.proposers["instructions"] = Own(proposed)
    with tf.context(lm=ScriptedLM(task_model), cache=False, num_threads=1):
        return teleprompter.compile(QA, trainset=rows(20), valset=rows(40, start=100), **options).report


def good():
    return tf.Prediction(instructions="Be right.")


@pytest.mark.parametrize(
    "bad",
    [
        lambda: 1 / 0,
        lambda: sys.exit(1),
        lambda: None,
        lambda: {"instructions": "Be right."},
        lambda: tf.Prediction(text="Be right."),
        lambda: tf.Prediction(instructions=["Be right."]),
    ],
    ids=["raises", "exits", "none", "a dict", "another field", "another type"],
)
def test_a_proposer_that_fails_is_counted_and_the_search_goes_on_with_the_others(bad, rows, metric, caplog):
    report = with_own_proposer(rows, metric, lambda call: bad() if call == 1 else good())

    assert report.verdict == "better"
    assert report.warnings["instructions failed"] == 1
    assert "the proposer `instructions`" in caplog.text


def test_what_the_caller_must_act_on_is_raised_from_a_proposer_too(rows, metric):
    def revoked(call):
        raise RuntimeError("my wrapper") from tf.LMAuthError("revoked")

    with pytest.raises(tf.LMAuthError, match="revoked"):
        with_own_proposer(rows, metric, revoked)


def test_a_proposer_that_is_no_program_or_that_nobody_would_ask_is_refused_where_it_is_set(metric):
    proposers = tf.COPRO(metric=metric, prompt_model=ScriptedLM(proposals)).proposers

    with pytest.raises(tf.UsageError, match=r"proposers\['instructions'\]"):
        proposers["instructions"] = lambda **given: good()
    with pytest.raises(tf.UsageError, match=r"'wording'.*those that are asked: instructions"):
        proposers["wording"] = QA


def test_what_did_not_go_plainly_in_proposals_is_counted_also_when_the_run_goes_on(rows, metric, tmp_path):
    def write(request):
        if len(request.messages) <= 2:
            return ""
        return Response((Choice("[[ ## instructions ## ]]\nBe right.", "length"),), Usage(calls=1))

    def run():
        prompt_model = ScriptedLM(write)
        teleprompter = tf.COPRO(metric=metric, prompt_model=prompt_model, breadth=3, depth=1)
        with tf.context(lm=ScriptedLM(task_model), cache=False, journal=tmp_path / "journal.sqlite"):
            compiled = teleprompter.compile(QA, trainset=rows(20), valset=rows(40, start=100), run="a")
        return compiled.report.warnings, len(prompt_model.requests)

    first, asked = run()
    again, asked_again = run()

    assert first["repair turn (instructions)"] == first["truncated answer (instructions)"] == asked // 2 > 0
    assert (again, asked_again) == (first, 0)
