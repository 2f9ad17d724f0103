"""An agent whose actions are code."""

import asyncio

import pytest

import tuneful as tf
from tuneful.evaluate.rollout import Row
from tuneful.optimize.record import to_record
from tuneful.program.demos.demo_pool import DemoPool
from tuneful.testing import DummyLM, ScriptedLM
from tuneful.wire.capabilities import Capabilities

PEOPLE = {"Bergen": 291940, "Oslo": 717710}


def population(city: str) -> int:
    """How many people live in a city."""
    return PEOPLE[city]


async def search(query: str, k: int = 3) -> list[str]:
    """Find cities."""
    await asyncio.sleep(0)
    return [name for name in PEOPLE if query.lower() in name.lower()][:k]


def agent(tools=(population, search), **options):
    return tf.CodeAct("question -> answer: int", tools=list(tools), **options)


def acting(*codes, **answer):
    return DummyLM([*({"next_thought": "t", "code": code} for code in codes), *([answer] if answer else [])])


def test_code_calls_tools_of_either_kind_and_submits():
    lm = acting("names = search('o', k=5)\nprint(names)", "submit(sum(population(n) for n in names))")
    found = agent()(question="How many?", lm=lm)
    assert found.answer == 717710
    assert found.trajectory[0].observations == ("['Oslo']",)
    assert "'Oslo'" in lm.requests[1].messages[-1].text
    assert {s.path for s in found.trace} == {"act"}


def test_the_model_is_told_what_its_functions_take_and_give():
    lm = acting("submit(1)")
    agent()(question="q", lm=lm)
    prompt = lm.requests[0].messages[-1].text
    assert "- population(city: str) -> int: How many people live in a city." in prompt
    assert "- search(query: str, k: int = 3) -> list[str]: Find cities." in prompt
    assert "- submit(answer: int)" in prompt


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("population('Rome')", "KeyError: Rome"),
        ("population(town='Rome')", "wrong arguments for the tool `population`"),
        ("people('Oslo')", "name 'people' is not defined"),
        ("print(1)\nsubmit('many')", "not accepted: `answer`"),
        ("population(", "SyntaxError"),
        ("x = 1", "Nothing was printed"),
        ("", "Nothing was printed"),
    ],
)
def test_what_goes_wrong_is_an_observation(code, told):
    lm = ScriptedLM(
        [f"[[ ## next_thought ## ]]\nt\n\n[[ ## code ## ]]\n```python\n{c}\n```" for c in (code, "submit(5)")]
    )
    found = agent()(question="q", lm=lm)
    assert found.answer == 5
    assert told in found.trajectory[0].observations[0]


def test_after_its_last_step_the_answer_is_asked_for_outright():
    found = agent(max_iters=2)(question="q", lm=acting("a = 1", "print(a)", answer=7))
    assert found.answer == 7
    assert [s.path for s in found.trace] == ["act", "act", "extract"]
    assert found.trace.noted["answer asked for outright"] == 1


def test_an_answer_that_cannot_be_read_either_is_a_typed_error():
    lm = ScriptedLM(lambda request: "no idea")
    with pytest.raises(tf.AdapterParseError):
        agent(max_iters=3)(question="q", lm=lm)


def test_a_call_may_set_the_number_of_steps_and_the_model():
    found = agent()(question="q", max_iters=1, lm=acting("print(1)", answer=1))
    assert len(found.trajectory) == 1


def test_a_tool_that_hangs_is_told_and_left():
    async def stuck() -> str:
        """Never ends."""
        await asyncio.sleep(600)

    lm = acting("stuck()", "submit(1)")
    found = agent([tf.Tool(stuck, timeout_s=0.1)])(question="q", lm=lm)
    assert "did not end in 0.1 s" in found.trajectory[0].observations[0]


def test_long_trajectories_are_shortened():
    lm = DummyLM(
        [{"next_thought": "t", "code": "print('word ' * 800)"}] * 4 + [{"next_thought": "t", "code": "submit(1)"}],
        capabilities=Capabilities(context_tokens=2500),
        max_tokens=100,
    )
    found = agent(max_iters=6)(question="q", lm=lm)
    assert found.answer == 1
    assert found.trace.noted["observation shortened"] >= 1
    assert len(found.trajectory[0].observations[0]) > 3900


class Helper(tf.Module):
    """Answer a question."""

    def __init__(self):
        self.ask = tf.Predict("question -> answer")

    def forward(self, question: str):
        return self.ask(question=question)


def test_what_a_program_as_a_tool_asks_counts():
    code = "said = ask(question='one?')\nsubmit(len(said['answer']))"
    with tf.context(lm=DummyLM([{"next_thought": "t", "code": code}, {"answer": "abc"}])):
        found = agent([tf.Tool(Helper(), name="ask")])(question="q")
    assert found.answer == 3
    assert found.trace.usage.calls == 2


async def test_runs_beside_one_another_do_not_share_state():
    def reply(request):
        text = request.messages[-1].text
        number = int(text.split("number ")[1].split()[0])
        if "mine" not in text.split("trajectory")[-1]:
            return f"[[ ## next_thought ## ]] t\n\n[[ ## code ## ]]\nmine = {number}"
        return "[[ ## next_thought ## ]] t\n\n[[ ## code ## ]]\nsubmit(mine)"

    with tf.context(lm=ScriptedLM(reply, seconds=0.01)):
        found = await asyncio.gather(*(agent().acall(question=f"number {n} please") for n in range(6)))
    assert [f.answer for f in found] == list(range(6))


@pytest.mark.parametrize(
    ("signature", "tools", "message"),
    [
        ("question -> answer", [population, population], "two tools of the name"),
        ("question -> answer", [tf.Tool(population, name="submit")], "gives the answer"),
        ("population -> answer", [population], "name of a function"),
        ("code -> answer", [population], "name of one of its own"),
        ("question -> answer", population, "list of functions"),
    ],
)
def test_what_cannot_work_is_refused(signature, tools, message):
    with pytest.raises(tf.UsageError, match=message):
        tf.CodeAct(signature, tools=tools)


def test_a_picture_among_the_inputs_is_no_hindrance():
    program = tf.CodeAct(tf.Signature("picture: tf.Image, n: int -> answer: int", custom_types={"tf": tf}), tools=[])
    lm = acting("submit(n + 1)")
    assert program(picture=tf.Image("https://example.com/a.png"), n=1, lm=lm).answer == 2


@pytest.mark.parametrize("shown_by", ["demos", "demo_pool"])
def test_what_render_shows_is_what_is_sent_in_every_step(shown_by):
    """Law 7: demos do not tell what code could use when they were made; what is in force is told once."""
    answers = [
        {"next_thought": "look", "code": "people = population('Bergen')"},
        {"next_thought": "done", "code": "submit(answer=people)"},
    ]
    past = tf.CodeAct("question -> answer: int", tools=[population])(question="Bergen?", lm=DummyLM(answers)).trace
    demos = [{**s["inputs"], **s["outputs"]} for s in to_record(Row(tf.Example(), trace=past))["steps"]]
    lm = DummyLM(answers)
    program = tf.CodeAct("question -> answer: int", tools=[population]).using(lm=lm)
    if shown_by == "demos":
        program = program.with_parameters({"act.demos": demos})
    else:
        program.act.demo_pool = DemoPool(lambda texts: [[len(t)] for t in texts]).with_value({"rows": demos, "k": 2})
    found = program(question="q")
    for number, request in enumerate(lm.requests):
        steps = tf.Trajectory(found.trajectory.steps[:number])
        assert program.render(question="q", trajectory=steps)["act"].request == request
    told = "".join(m.text for m in lm.requests[0].messages)
    assert told.count(tf.MontyInterpreter().description) == 1
    assert "Bergen?" in told


def test_code_calls_a_module_and_gets_its_outputs():
    look_up = tf.Tool(tf.ChainOfThought("city: str -> people: int"), name="look_up")
    lm = DummyLM(
        [
            {"next_thought": "t", "code": "found = look_up('Bergen')\nsubmit(answer=found['people'] + 1)"},
            {"reasoning": "r", "people": 291940},
        ]
    )
    found = tf.CodeAct("question -> answer: int", tools=[look_up]).using(lm=lm)(question="q")
    assert found.answer == 291941
    assert [s.path for s in found.trace] == ["act", "tools['look_up'].predict"]
    assert "- look_up(city: str)" in lm.requests[0].messages[-1].text
