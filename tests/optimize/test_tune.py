"""Tune: whichever lever pays is found, noise is not taken for a gain, and nothing is paid twice."""

import importlib.util
import re

import pytest

import tuneful as tf
from tuneful.optimize.recipes.tune import Tune
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM
from tuneful.wire.capabilities import Capabilities

QA = tf.Predict("question -> answer")


def number_of(request):
    return int(request.messages[-1].content.rsplit("q", 1)[1].split()[0].strip('".}<'))


def right_if(condition):
    """A model that is right on a third of the rows, and on nine of ten where the condition holds for the request."""

    def answer(request):
        number = number_of(request)
        good = number % 10 != 0 if condition(request) else number % 3 == 0
        return f"[[ ## answer ## ]]\n{'a' if good else 'no'}{number}"

    return answer


def tuned(rows, metric, lm, student=QA, settings=None, **options):
    with tf.context(lm=lm, cache=False):
        given = {"embedder": None, "adapters": (), "propose": "prompt_model" in (settings or {}), **(settings or {})}
        return Tune(metric, **given).compile(student, trainset=rows(80), valset=rows(100, start=500), **options)


class Numbered(tf.Module):
    def __init__(self):
        self.k = tf.Choice([1, 3, 5], default=1)
        self.ignored = tf.Integer(0, 5)
        self.answer = tf.Predict("question, k: int -> answer")

    def forward(self, question):
        return self.answer(question=question, k=self.k)


def test_a_case_where_only_a_users_number_matters(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "[[ ## k ## ]]\n5" in r.messages[-1].content))
    program = tuned(rows, metric, lm, Numbered())

    assert program.report.verdict == "better"
    assert program.k == 5
    assert program.ignored == 0  # what does not matter is left as it is
    assert list(program.report.candidate) == ["k"]


class NumbersAlone(tf.Module):
    """A step that asks no model: a search engine's settings, say."""

    def __init__(self):
        self.k = tf.Integer(1, 9)
        self.mode = tf.Choice(["words", "stems"])

    def forward(self, question):
        return tf.Prediction(answer=f"a{question[1:]}" if self.k >= 4 and self.mode == "stems" else "nothing")


@pytest.mark.parametrize("make", [tf.Tune, tf.MIPROv2])
def test_a_program_without_predictors_is_tuned_by_its_numbers_and_needs_no_model(rows, metric, make):
    program = make(metric).compile(NumbersAlone(), trainset=rows(40), valset=rows(60, start=500))

    assert program.report.verdict == "better"
    assert program.k >= 4
    assert program.mode == "stems"
    assert program.report.usage.calls == 0
    assert "mode" in str(program.report)


class NamedLikeOurs(tf.Module):
    def __init__(self):
        self.demos = tf.Choice([[1], [3], [5]])
        self.instructions = tf.Choice(["short", "long"])
        self.demo_pool = tf.Choice([["a"], ["b", "c"]])
        self.answer = tf.Predict("question, k: int -> answer")

    def forward(self, question):
        return self.answer(question=question, k=self.demos[0])


def test_a_users_parameters_may_be_named_like_those_of_predictors(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "[[ ## k ## ]]\n5" in r.messages[-1].content))
    program = tuned(rows, metric, lm, NamedLikeOurs())

    assert program.report.verdict == "better"
    assert program.report.candidate == {"demos": [5]}
    assert program.report.evidence.demos == {}


def test_a_case_where_only_the_adapter_matters(rows, metric):
    def answer(request):
        if "JSON" not in request.messages[0].content:
            return right_if(lambda _: False)(request)
        number = number_of(request)
        return f'{{"answer": "{"no" if number % 10 == 0 else "a"}{number}"}}'

    program = tuned(rows, metric, ScriptedLM(answer), settings={"adapters": "auto"})

    assert program.report.verdict == "better"
    assert program.report.candidate == {"adapter": "json"}


def asked_for(request):
    """Return the fields that a request asks for."""
    return re.findall(r"^\[\[ ## (\w+) ## \]\]\n\{", request.messages[0].text, re.MULTILINE)


def writing(options=None, **texts):
    """A prompt model that writes into each field the text of its sample's number, or what a function makes of it."""

    def write(request):
        parts = []
        for name in asked_for(request):
            known, number = texts.get(name, ("Whatever.",)), request.sampling.rollout_id
            text = known(request) if callable(known) else known[number % len(known)]
            parts.append(f"[[ ## {name} ## ]]\n{text}")
        return "\n\n".join(parts)

    return ScriptedLM(write, **(options or {}))


def test_a_case_where_only_instructions_matter(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "Count twice." in r.messages[0].content))
    writer = writing(instructions=["Be quick.", "Count twice.", "Guess.", "Be kind."])
    program = tuned(rows, metric, lm, settings={"prompt_model": writer})

    assert program.report.verdict == "better"
    assert program.report.candidate == {"instructions": "Count twice."}


def test_a_case_where_only_the_words_for_a_field_matter(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "the letter a" in r.messages[0].content))
    writer = writing(label=["Answer", "Code"], description=["Something.", "The number after the letter a."])
    program = tuned(rows, metric, lm, settings={"prompt_model": writer})

    assert program.report.verdict == "better"
    assert list(program.report.candidate) == ["wording"]
    assert program.signature.fields["answer"].desc == "The number after the letter a."


def test_a_case_where_two_levers_matter_only_together(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "Count twice." in r.messages[0].content and len(r.messages) > 2))
    writer = writing(instructions=["Be quick.", "Count twice.", "Guess.", "Be kind."])
    program = tuned(rows, metric, lm, settings={"prompt_model": writer}, budget=tf.Budget(calls=1000))

    assert program.report.verdict == "better"
    assert program.signature.instructions == "Count twice."
    assert program.demos


def test_words_that_the_labels_suggest_need_no_proposer(metric):
    def sorted_rows(n, start=0):
        return [
            tf.Example(question=f"q{i}", answer=str(i % 3)).with_inputs("question") for i in range(start, start + n)
        ]

    search, held_out = sorted_rows(80), sorted_rows(100, start=500)
    helped = Landscape(base=0.4, instructions={"one of: 0, 1, 2": 0.4})
    lm = SimulatedLM([*search, *held_out], helped, capabilities=Capabilities(small=True))
    with tf.context(lm=lm, cache=False, adapter="chat"):
        program = tf.compile(QA, search, metric, valset=held_out, embedder=None, adapters=())

    assert program.report.verdict == "better"
    assert program.report.candidate == {"wording": {"answer": {"label": "Answer", "desc": "one of: 0, 1, 2"}}}


def test_a_case_where_only_reflection_finds_what_matters(rows, metric):
    def fed_back(example, prediction, trace=None):
        right = example.answer == prediction.answer
        return tf.Score(float(right), feedback="fine" if right else "you did not count twice")

    def reflected(request):
        if "diagnosis" not in asked_for(request):
            return "Be quick."
        return "Count twice." if "did not count twice" in request.messages[-1].text else "Guess."

    lm = ScriptedLM(right_if(lambda r: "Count twice." in r.messages[0].content))
    writer = writing(instructions=reflected)
    report = tuned(rows, fed_back, lm, settings={"prompt_model": writer}).report

    assert report.verdict == "better"
    assert report.candidate == {"instructions": "Count twice."}
    assert any("rewritten by reflection" in line for line in report.found)

    small = writing({"capabilities": Capabilities(small=True)}, instructions=reflected)
    tuned(rows, fed_back, lm, settings={"prompt_model": small, "propose": True})
    assert not any("diagnosis" in asked_for(request) for request in small.requests)


def test_sentences_and_demos_of_the_winner_that_do_not_matter_are_dropped(rows, metric):
    lm = ScriptedLM(right_if(lambda r: "Count twice." in r.messages[0].content))
    writer = writing(instructions=["You are kind. Think first, e.g. so. Count twice. Smile."])
    report = tuned(rows, metric, lm, settings={"prompt_model": writer, "num_instructions": 1}).report

    assert report.candidate == {"instructions": "Count twice."}
    assert any(line.endswith("3 of 4 sentences of instructions") for line in report.found)

    shown = tuned(rows, metric, ScriptedLM(right_if(lambda r: len(r.messages) > 2)))
    assert len(shown.demos) <= 2  # one helps every row but its own
    assert any(line.endswith(" demos") for line in shown.report.found)


class TwoSteps(tf.Module):
    def __init__(self):
        self.think = tf.Predict("question -> thought")
        self.say = tf.Predict("question, thought -> answer")

    def forward(self, question):
        return self.say(question=question, thought=self.think(question=question).thought)


def test_a_case_where_only_a_later_modules_demos_matter(rows, metric):
    def answer(request):
        if "of q" in request.messages[-1].content:
            return right_if(lambda r: len(r.messages) > 2)(request)
        return f"[[ ## thought ## ]]\nof q{number_of(request)}"

    program = tuned(rows, metric, ScriptedLM(answer), TwoSteps())

    assert program.report.verdict == "better"
    assert program.say.demos


@pytest.mark.parametrize("seed", range(5))
def test_law_4_noise_is_not_taken_for_a_gain(rows, metric, seed):
    lm = SimulatedLM(rows(700), Landscape(base=0.5, seed=seed))
    assert tuned(rows, metric, lm, settings={"num_candidates": 12}, seed=seed).report.verdict != "better"


def test_a_program_that_is_always_right_costs_one_look(rows, metric):
    lm, writer = ScriptedLM(lambda r: f"[[ ## answer ## ]]\na{number_of(r)}"), writing()
    report = tuned(rows, metric, lm, settings={"prompt_model": writer}).report

    assert report.verdict == "nothing learned"
    assert (report.usage.calls, writer.requests) == (32, [])
    (line,) = report.found
    assert "the program has 100 % on 32 rows (95 % interval 89 to 100)" in line
    assert "nothing is left to gain, so nothing else was run" in line


def test_the_first_look_says_what_there_is_to_gain_and_is_paid_once(rows, metric):
    lm = ScriptedLM(right_if(lambda r: len(r.messages) > 2))
    program = tuned(rows, metric, lm)
    line = program.report.found[0]

    assert line.startswith("pre-flight: the program has 41 % on 32 rows")
    assert "59 points are left to gain, and 100 held-out rows prove 15 or more: compiling can pay" in line
    plain = [r for r in lm.requests if len(r.messages) == 2]
    asked = [number_of(r) for r in plain if number_of(r) < 500 and r.messages[0] == plain[0].messages[0]]
    assert len(asked) == len(set(asked))


def test_a_program_that_samples_is_looked_at_twice(rows, metric):
    lm = SimulatedLM(rows(700), Landscape(base=0.5, difficulty=0.0), temperature=0.7)
    assert ", two runs differ on " in tuned(rows, metric, lm).report.found[0]


def test_the_same_script_again_pays_nothing(rows, metric, tmp_path):
    def lm():
        return ScriptedLM(right_if(lambda r: len(r.messages) > 2))

    with tf.context(journal=tmp_path / "journal.sqlite"):
        first = tuned(rows, metric, lm(), settings={"prompt_model": writing()}, run="a")
        idle, silent = lm(), writing()
        again = tuned(rows, metric, idle, settings={"prompt_model": silent}, run="a")

    assert idle.requests == []
    assert silent.requests == []
    assert again.dump_state()["parameters"] == first.dump_state()["parameters"]


@pytest.mark.parametrize("calls", [60, 300, 500])
def test_a_small_budget_still_comes_to_a_verdict(rows, metric, calls):
    lm = ScriptedLM(right_if(lambda r: len(r.messages) > 2))
    report = tuned(rows, metric, lm, budget=tf.Budget(calls=calls)).report

    assert report.usage.calls <= calls
    assert report.verdict in (("better",) if calls >= 300 else ("better", "not compared", "not distinguishable"))


@pytest.mark.parametrize(
    ("embedder", "labels", "shown"),
    [
        (None, 600, ["demos"]),
        ("local/wordllama", 600, ["demos", "demo_pool"]),  # eight demos show eight of 600 labels
        ("local/wordllama", None, ["demos"]),
    ],
)
def test_a_budget_that_ends_before_the_race_puts_demos_forward(rows, metric, embedder, labels, shown):
    if embedder is not None and importlib.util.find_spec("wordllama") is None:
        pytest.skip("wordllama is not installed")
    kind = "" if labels is None else f": Literal{[*(f'a{i}' for i in range(labels)), 'no']}"
    lm = ScriptedLM(right_if(lambda r: len(r.messages) > 2))
    student = tf.Predict(f"question -> answer{kind}")
    report = tuned(rows, metric, lm, student, {"embedder": embedder}, budget=tf.Budget(calls=100)).report

    assert any(line.startswith("nothing has been raced") for line in report.found)
    assert list(report.candidate) == shown


@pytest.mark.parametrize("said", [tf.LMServerError("overloaded"), "", "[[ ## label ## ]]\n[[ ## instructions ## ]]"])
def test_a_writer_that_fails_or_writes_rubbish_does_not_end_the_search(rows, metric, said):
    lm = ScriptedLM(right_if(lambda r: len(r.messages) > 2))
    report = tuned(rows, metric, lm, settings={"prompt_model": ScriptedLM(lambda _: said)}).report

    assert report.verdict == "better"
    assert list(report.candidate) == ["demos"]
    if isinstance(said, Exception):
        assert (report.warnings["instructions failed"], report.warnings["wording failed"]) == (4, 2)


@pytest.mark.parametrize("wrong", [{"num_candidates": 1}, {"adapters": ["jsn"]}])
def test_wrong_settings_are_told(metric, wrong):
    with pytest.raises(tf.UsageError):
        Tune(metric, **wrong)


def test_where_no_rollout_has_a_score_the_original_comes_back(rows, metric):
    def down(request):
        raise tf.LMServerError("down")

    program = tuned(rows, metric, ScriptedLM(down))

    assert not program.report.improved
    assert program.report.warnings["infra error"]
