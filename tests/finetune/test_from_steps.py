"""Recorded steps as training examples: the prompts that will be asked, byte for byte, and answers that can be read."""

import datetime as dt
import enum

import pydantic
import pytest

import tuneful as tf
from tuneful.evaluate.rollout import Row
from tuneful.finetune.from_steps import from_steps
from tuneful.optimize.record import to_record
from tuneful.program.trace import Trace
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.testing.scripted import calls
from tuneful.wire.capabilities import Capabilities

SMALL = Capabilities(grammar="lark", small=True)
TOOLS = Capabilities(tools=True)


class Program(tf.Module):
    def __init__(self):
        self.think = tf.ChainOfThought("question -> answer")
        self.label = tf.Predict("question: str, answer -> kind: Literal['fact', 'sum'], sure: float")

    def forward(self, question):
        answer = self.think(question=question).answer
        return self.label(question=question, answer=answer)


def yaml_like():
    def render(signature, demos, inputs):
        system = {"role": "system", "content": signature.instructions}
        shown = [
            {"role": role, "content": "\n".join(f"{n}: {d[n]}" for n in fields if n in d)}
            for d in demos
            for role, fields in (("user", signature.input_fields), ("assistant", signature.output_fields))
        ]
        return [system, *shown, {"role": "user", "content": "\n".join(f"{n}: {v}" for n, v in inputs.items())}]

    def parse(signature, text):
        return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)

    return tf.Adapter.from_functions(name="lines", render=render, parse=parse)


CASES = {
    "chat": ("chat", Capabilities(), tf.ChatAdapter()),
    "json": ("json", Capabilities(json_schema=True), tf.JSONAdapter()),
    "xml": ("xml", Capabilities(), tf.XMLAdapter()),
    "compact": ("compact", Capabilities(), tf.CompactAdapter()),
    "small model": ("auto", SMALL, tf.CompactAdapter()),
    "tools": ("tools", TOOLS, tf.JSONAdapter()),
    "several": ("json>chat", Capabilities(), tf.JSONAdapter()),
    "functions": (yaml_like(), Capabilities(), yaml_like()),
}
ANSWERS = [
    {"reasoning": "Two and two.", "answer": "4\n[[ ## answer ## ]]"},
    {"kind": "sum", "sure": 0.5},
]
PLAIN = [{"reasoning": "Two and two.", "answer": "4"}, ANSWERS[1]]
ONE_LINE = {"functions", "small model"}  # forms in which a text of several lines cannot be written


@pytest.mark.parametrize("case", CASES)
def test_prompts_are_those_that_a_live_call_sends(case):
    form, capabilities, writer = CASES[case]
    answers = PLAIN if case in ONE_LINE else ANSWERS
    lm = DummyLM(answers, adapter=writer, capabilities=capabilities)
    program = Program().using(lm=lm, adapter=form)
    trace = program(question="2+2? [[ ## kind ## ]]").trace
    steps = [{"path": s.path, "inputs": s.inputs, "outputs": s.outputs, "noted": s.noted} for s in trace]

    found = from_steps(program, steps)

    assert [e.path for e in found] == ["think.predict", "label"]
    assert [e.messages for e in found] == [r.messages for r in lm.requests]
    assert [e.tools for e in found] == [r.tools for r in lm.requests]
    for example, step, (_, predictor) in zip(found, trace, program.named_predictors(), strict=True):
        assert example.messages == predictor.render(**step.inputs).messages


@pytest.mark.parametrize("case", CASES)
def test_a_model_that_writes_the_completion_gives_the_outputs(case):
    form, capabilities, writer = CASES[case]
    answers = PLAIN if case in ONE_LINE else ANSWERS
    program = Program().using(lm=DummyLM(answers, adapter=writer, capabilities=capabilities), adapter=form)
    first = program(question="2+2?")
    steps = [{"path": s.path, "inputs": s.inputs, "outputs": s.outputs} for s in first.trace]
    learned = list(from_steps(program, steps))

    def perfect(request):
        (example,) = [e for e in learned if e.messages == request.messages]
        return calls(*[(c.name, c.arguments) for c in example.calls]) if example.calls else example.completion

    again = program.using(lm=ScriptedLM(perfect, capabilities=capabilities), adapter=form)(question="2+2?")

    assert again == first
    assert [s.outputs for s in again.trace] == [s.outputs for s in first.trace]
    assert again.trace.noted == {}


def test_demos_are_left_out_unless_they_shall_be_shown():
    lm = DummyLM([{"answer": "6"}])
    program = tf.Predict("question -> answer").using(lm=lm)
    program.demos = [{"question": "1+1?", "answer": "2"}]
    step = {"path": "", "inputs": {"question": "3+3?"}, "outputs": {"answer": "6"}}

    (bare,) = from_steps(program, [step])
    (shown,) = from_steps(program, [step], demos=True)

    assert bare.messages == program.reset_copy().render(question="3+3?").messages
    assert shown.messages == program.render(question="3+3?").messages
    assert len(shown.messages) == len(bare.messages) + 2
    assert program(question="3+3?").answer == "6"
    assert lm.requests[0].messages == shown.messages


def test_demos_of_a_pool_are_those_that_a_call_picks():
    def sizes(texts):
        return [[1.0, float(text.split()[-1])] for text in texts]

    rows = [tf.Example(number=str(n), answer=str(2 * n)).with_inputs("number") for n in (1, 50)]
    lm = ScriptedLM(lambda request: "[[ ## answer ## ]] 4")
    program = tf.KNNFewShot(1, rows, sizes).compile(tf.Predict("number -> answer").using(lm=lm))
    step = {"path": "", "inputs": {"number": "2"}, "outputs": {"answer": "4"}}

    (shown,) = from_steps(program, [step], demos=True)
    program(number="2")

    assert shown.messages == lm.requests[-1].messages
    assert len(shown.messages) == 4
    assert len(from_steps(program, [step]).examples[0].messages) == 2


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Person(pydantic.BaseModel):
    name: str
    born: dt.date


class Facts(tf.Signature):
    """Say what the text says."""

    text: str = tf.InputField()
    when: dt.datetime = tf.InputField()
    person: Person = tf.OutputField()
    colours: list[Colour] = tf.OutputField()
    day: dt.date = tf.OutputField()
    share: float | None = tf.OutputField()
    code: tf.Code["python"] = tf.OutputField()  # noqa: F821 (a language, no name)


OUTPUTS = {
    "person": Person(name="Ada", born=dt.date(1815, 12, 10)),
    "colours": [Colour.RED, Colour.BLUE],
    "day": dt.date(2024, 2, 29),
    "share": None,
    "code": tf.Code("print('a')\n\nprint('b')"),
}


@pytest.mark.parametrize("form", ["chat", "json", "xml", "compact"])
def test_a_record_of_json_gives_the_same_example_as_the_values_themselves(form):
    program = tf.Predict(Facts).using(lm=DummyLM([]), adapter=form)
    step = tf.Example(path="", inputs={"text": "t", "when": dt.datetime(2024, 1, 2, 3, tzinfo=dt.UTC)}, outputs=OUTPUTS)

    live, recorded = from_steps(program, [dict(step.items())]), from_steps(program, [step.to_dict()])

    assert len(live) == 1
    assert live == recorded


def test_what_is_not_fit_to_learn_from_is_left_out_and_counted():
    program = Program().using(lm=DummyLM([]))
    good = {"path": "label", "inputs": {"question": "q", "answer": "a"}, "outputs": {"kind": "sum", "sure": 1.0}}
    steps = [
        good,
        {**good},
        {**good, "superseded": True},
        {**good, "noted": {"repair turn": 1, "truncated answer": 1}},
        {**good, "noted": {"fallback to chat": 1}},
        {**good, "noted": {"truncated answer": 1}},
        {**good, "noted": {"json mended (tolerated)": 1, "retry": 2}},
        {**good, "outputs": {}},
        {**good, "outputs": {"kind": "sum"}},
        {**good, "inputs": {"question": "q"}},
        {**good, "inputs": {"question": 3, "answer": "a"}},
        {**good, "outputs": {"kind": "opinion", "sure": 1.0}},
        {**good, "path": "<unattached>"},
        {**good, "inputs": {"question": "other", "answer": "a", "hint_": "think"}},
    ]

    found = from_steps(program, steps)

    assert len(found) == 2
    assert "think" not in "".join(m.text for m in found.examples[1].messages)
    assert found.dropped == {
        "superseded": 1,
        "repaired": 2,
        "truncated": 1,
        "step failed": 1,
        "field missing": 2,
        "does not fit the signature": 2,
        "unknown predictor": 1,
        "duplicate": 2,
    }


@pytest.mark.parametrize(
    ("form", "outputs", "kept"),
    [
        ("question -> answer, sure: bool", {"answer": "one line", "sure": True}, True),
        ("question -> answer, sure: bool", {"answer": "two\nlines", "sure": True}, False),
        ("question -> answer, sure: bool", {"answer": "long " * 400, "sure": True}, False),
        ("question -> answer", {"answer": "two\nlines"}, True),  # in quotes, as \\n
        ("question -> answers: list[str]", {"answers": ["two\nlines", "\u00e9"]}, True),
        ("question -> answers: list[str]", {"answers": ["a"] * 80}, False),
    ],
)
def test_what_the_students_grammar_would_not_let_it_write_is_not_learned(form, outputs, kept):
    pytest.importorskip("llguidance")
    large, small = DummyLM([outputs], adapter=tf.JSONAdapter()), ScriptedLM([], capabilities=SMALL)
    program = tf.Predict(form)
    step = program.using(lm=large, adapter="json")(question="q").trace.steps[0]

    found = from_steps(program, [{"path": "", "inputs": step.inputs, "outputs": step.outputs}], lm=small)

    assert len(found) == kept
    assert found.dropped == ({} if kept else {"ruled out by the student's grammar": 1})
    assert kept or "ruled out by the student's grammar 1" in found.summary()


def test_an_answer_that_a_stop_text_would_cut_is_not_learned():
    small = ScriptedLM([], capabilities=Capabilities(small=True))  # no grammar: it stops where it begins a new case
    step = {"path": "", "inputs": {"question": "q"}, "outputs": {"answer": ["a", "b\nQuestion: c"]}}
    program = tf.Predict("question -> answer: tuple[str, str]").using(lm=small)

    plain = from_steps(program, [{**step, "outputs": {"answer": ["a", "b"]}}])

    assert program.render(question="q").messages == plain.examples[0].messages
    assert len(from_steps(program, [step])) == 1  # JSON writes the line's end as \\n: nothing is cut


def test_an_optional_output_may_be_missing():
    program = tf.Predict("question -> answer, source: str | None").using(lm=DummyLM([]))

    (example,) = from_steps(program, [{"path": "", "inputs": {"question": "q"}, "outputs": {"answer": "a"}}])

    assert "a" in example.completion


def test_a_model_that_reasons_by_itself_learns_no_thoughts():
    lm = ScriptedLM([], capabilities=Capabilities(reasoning=True))
    step = {"path": "predict", "inputs": {"question": "q"}, "outputs": {"answer": "a"}}
    program = tf.ChainOfThought("question -> answer").using(lm=lm)

    (example,) = from_steps(program, [step])

    assert "reasoning" not in example.completion
    assert "reasoning" not in example.messages[0].text


def test_the_abilities_of_the_lm_that_will_serve_decide_the_form():
    program = tf.Predict("question -> answer").using(lm=DummyLM([]))
    step = {"path": "", "inputs": {"question": "q"}, "outputs": {"answer": "a"}}
    small = ScriptedLM([], capabilities=SMALL)

    (example,) = from_steps(program, [step], lm=small)

    assert example.messages == program.using(lm=small).render(question="q").messages
    assert example.messages != from_steps(program, [step]).examples[0].messages
    assert example.completion == '"a"'


def test_an_adapter_whose_answers_are_in_free_words_is_refused_at_once():
    program = tf.Predict("question -> answer").using(lm=DummyLM([]), adapter=tf.TwoStepAdapter(DummyLM([])))

    with pytest.raises(tf.UsageError, match="two_step"):
        from_steps(program, [])


def test_a_dialogue_and_a_picture_are_in_the_prompt():
    lm = DummyLM([{"answer": "a cat"}])
    program = tf.Predict("picture: tf.Image, history: tf.History, question -> answer").using(lm=lm)
    picture = tf.Image("https://pictures.example/cat.png")
    history = tf.History(messages=[{"question": "Hello?", "answer": "Yes?"}])
    step = program(picture=picture, history=history, question="What is it?").trace.steps[0]

    (live,) = from_steps(program, [{"path": "", "inputs": step.inputs, "outputs": step.outputs}])
    recorded = from_steps(program, to_record(Row(tf.Example(), trace=Trace([step])))["steps"])

    assert live.messages == lm.requests[0].messages
    assert recorded.examples == (live,)


def population(city: str) -> int:
    """How many people live in a city."""
    return 291_940


TEXT_STEPS = [
    {"next_thought": "look it up", "next_tool_name": "population", "next_tool_args": {"city": "Bergen"}},
    {"next_thought": "done", "next_tool_name": "submit", "next_tool_args": {"answer": 291940}},
]


def plain(example):
    """An example without the identities of earlier calls, which providers make up and records do not keep."""
    turns = [(m.role, m.content, [(c.name, c.arguments) for c in m.tool_calls]) for m in example.messages]
    return turns, example.completion, example.tools, example.calls


def agents():
    text = DummyLM(TEXT_STEPS)
    native = ScriptedLM(
        [calls(("population", {"city": "Bergen"}), thought="look it up"), calls(("submit", {"answer": 291940}))],
        capabilities=TOOLS,
    )
    return {"text": text, "native": native}


@pytest.mark.parametrize("taught_by", ["text", "native"])
@pytest.mark.parametrize("served_by", ["text", "native"])
def test_an_agent_learns_its_steps_in_the_protocol_in_which_it_will_be_asked(taught_by, served_by):
    agent = tf.ReAct("question -> answer: int", tools=[population])
    taught = agent.using(lm=agents()[taught_by])(question="Bergen?")
    served = agents()[served_by]
    agent.using(lm=served)(question="Bergen?")

    live = from_steps(
        agent, [{"path": s.path, "inputs": s.inputs, "outputs": s.outputs} for s in taught.trace], lm=served
    )
    recorded = from_steps(agent, to_record(Row(tf.Example(), trace=taught.trace))["steps"], lm=served)

    assert [e.path for e in live] == ["react", "react"]
    assert [plain(e) for e in live] == [plain(e) for e in recorded]
    assert live.examples[0].messages == served.requests[0].messages
    assert live.examples[0].tools == served.requests[0].tools
    assert bool(live.examples[0].calls) == (served_by == "native")
    if served_by == "native":
        assert (live.examples[0].calls[0].name, live.examples[0].calls[0].arguments) == (
            "population",
            '{"city": "Bergen"}',
        )
    if taught_by == served_by == "text":
        assert live.examples[1].messages == served.requests[1].messages


def test_calls_side_by_side_are_learnt_one_after_another_by_a_student_that_writes_them():
    both = calls(("population", {"city": "Bergen"}), ("population", {"city": "Oslo"}))
    native = ScriptedLM([both, calls(("submit", {"answer": 1}))], capabilities=TOOLS)
    agent = tf.ReAct("question -> answer: int", tools=[population])
    steps = to_record(Row(tf.Example(), trace=agent(question="Both?", lm=native).trace))["steps"]

    learnt = from_steps(agent, steps, lm=DummyLM([]))

    assert ["Bergen" in e.completion for e in learnt] == [True, False, False]
    assert ["Oslo" in e.completion for e in learnt] == [False, True, False]
    assert "291940" in learnt.examples[1].messages[-1].text


def test_tools_of_a_record_are_found_by_their_names_in_the_program():
    class Caller(tf.Module):
        def __init__(self):
            self.tools = [tf.Tool(population)]
            self.call = tf.Predict("question, tools: list[tf.Tool] -> calls: tf.ToolCalls")

        def forward(self, question):
            return self.call(question=question, tools=self.tools)

    lm = ScriptedLM([calls(("population", {"city": "Bergen"}))], capabilities=TOOLS)
    program = Caller().using(lm=lm)
    trace = program(question="Bergen?").trace
    record = to_record(Row(tf.Example(), trace=trace))["steps"]

    found = from_steps(program, record)
    stranger = from_steps(program, [{**record[0], "inputs": {**record[0]["inputs"], "tools": ["other"]}}])

    assert found.examples[0].messages == lm.requests[0].messages
    assert found.examples[0].tools == lm.requests[0].tools
    assert (len(stranger), stranger.dropped) == (0, {"field missing": 1})
