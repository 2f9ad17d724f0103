"""An agent with tools."""

import asyncio
import importlib.util
import json
import re
import sys
import threading
from pathlib import Path

import pytest

import tuneful as tf
from tuneful.evaluate.rollout import Row
from tuneful.optimize.record import to_record
from tuneful.program.demos.demo_pool import DemoPool
from tuneful.testing import DummyLM, ScriptedLM, calls, check_module
from tuneful.wire.capabilities import Capabilities
from tuneful.wire.response import Choice, Response

_file = Path(__file__).parents[1] / "backends" / "conftest.py"
_spec = importlib.util.spec_from_file_location("loopback_for_agents", _file)
_loopback = sys.modules[_spec.name] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_loopback)
server = _loopback.server  # a fixture: a model server on the loopback interface

NATIVE = Capabilities(tools=True)


def population(city: str) -> int:
    """How many people live in a city."""
    return {"Bergen": 291940, "Oslo": 717710}[city]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def agent(**options):
    return tf.ReAct("question -> answer: int", tools=[population, add], **options)


def said(name, args, thought="t"):
    return {"next_thought": thought, "next_tool_name": name, "next_tool_args": args}


def text_lm(*steps, **options):
    """Return a model that writes calls in the text protocol."""
    return DummyLM([said(*step) for step in steps], **options)


def native_lm(*steps, **options):
    """Return a model that calls by itself, one call for each step."""
    return ScriptedLM([calls(step) for step in steps], capabilities=NATIVE, **options)


PROTOCOLS = pytest.mark.parametrize("lm", [text_lm, native_lm], ids=["text", "native"])
RUN = [("population", {"city": "Bergen"}), ("add", {"a": 291940, "b": 1}), ("submit", {"answer": 291941})]


# --- the run ---


@PROTOCOLS
def test_it_calls_tools_looks_at_what_came_of_it_and_submits(lm):
    found = agent()(question="People in Bergen, and one?", lm=lm(*RUN))
    assert found.answer == 291941
    assert [[c.name for c in step.calls] for step in found.trajectory] == [["population"], ["add"], ["submit"]]
    assert [step.observations[0] for step in found.trajectory][:2] == ["291940", "291941"]
    assert len(found.trace) == 3
    assert {s.path for s in found.trace} == {"react"}
    assert found.trace.noted == {}


def test_the_trajectory_is_the_same_value_in_both_protocols():
    text = agent()(question="q", lm=text_lm(*RUN)).trajectory
    native = agent()(question="q", lm=ScriptedLM([calls(s, thought="t") for s in RUN], capabilities=NATIVE)).trajectory
    assert text == native
    assert text.to_json() == native.to_json()
    assert type(text).from_json(json.loads(json.dumps(text.to_json()))) == text


@PROTOCOLS
async def test_it_runs_with_await_in_bulk_and_streamed(lm):
    assert (await agent().acall(question="q", lm=lm(*RUN))).answer == 291941
    several = await agent().using(lm=lm(*RUN)).abatch([{"question": "q"}], num_threads=1)
    assert several[0].answer == 291941
    events = [e async for e in agent().using(lm=lm(*RUN)).astream(question="q")]
    assert events[-1].prediction.answer == 291941
    assert any(isinstance(e, tf.FieldEnded) and e.path == "react" for e in events)


def test_it_is_a_module_like_any_other():
    check_module(agent(), {"question": "q"}, [said(*step) for step in RUN])


def test_it_is_a_module_like_any_other_where_the_model_calls_by_itself():
    def answer(request):
        past = [m for m in request.messages if m.role == "tool" and m.text != "Received."]
        live = 0
        for message in reversed(request.messages):
            if message.role == "user":
                break
            live += message.role == "tool"
        assert len(past) >= live
        return calls(RUN[live])

    check_module(agent(), {"question": "q"}, lambda: ScriptedLM(answer, capabilities=NATIVE))


def test_several_calls_of_one_answer_run_side_by_side():
    meet = threading.Barrier(2, timeout=20)

    def wait(name: str) -> str:
        meet.wait()
        return name

    lm = ScriptedLM(
        [calls(("wait", {"name": "a"}), ("wait", {"name": "b"})), calls(("submit", {"answer": "x"}))],
        capabilities=NATIVE,
    )
    found = tf.ReAct("question -> answer", tools=[wait])(question="q", lm=lm)
    assert found.trajectory[0].observations == ("a", "b")


def test_a_submit_beside_other_calls_ends_the_run_after_them():
    lm = ScriptedLM([calls(("submit", {"answer": 3}), ("add", {"a": 1, "b": 2}))], capabilities=NATIVE)
    found = agent()(question="q", lm=lm)
    assert (found.answer, found.trajectory[0].observations[1]) == (3, "3")


def test_native_calling_can_be_declined():
    lm = DummyLM([said(*step) for step in RUN], capabilities=NATIVE)
    assert agent(native=False)(question="q", lm=lm).answer == 291941
    assert not lm.requests[0].tools


def test_with_no_tools_it_only_submits():
    assert tf.ReAct("q -> a", tools=[])(q="x", lm=native_lm(("submit", {"a": "y"}))).a == "y"


def test_async_tools_methods_and_programs_are_tools():
    async def later(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    class Twice(tf.Module):
        """Doubles."""

        async def forward(self, x: int):
            return tf.Prediction(y=2 * x)

    lm = ScriptedLM(
        [calls(("later", {"x": 1}), ("Twice", {"x": 2})), calls(("submit", {"a": "y"}))], capabilities=NATIVE
    )
    found = tf.ReAct("q -> a", tools=[later, Twice()])(q="x", lm=lm)
    assert found.trajectory[0].observations == ("2", '{"y": 4}')


@PROTOCOLS
def test_a_dialogue_goes_on_from_its_earlier_answers(lm):
    chat = tf.ReAct("history: tf.History, question -> answer: int", tools=[add])
    first = chat(history=tf.History(), question="one", lm=lm(("submit", {"answer": 1})))
    history = tf.History(messages=[{"question": "one", **first}])
    now = lm(("submit", {"answer": 2}))
    assert chat(history=history, question="and one more", lm=now).answer == 2
    past, current = (i for i, m in enumerate(now.requests[0].messages) if m.role == "user")
    between = now.requests[0].messages[past + 1 : current]
    assert any("submit" in (m.text + str(m.tool_calls)) for m in between)


# --- what goes wrong ---


@PROTOCOLS
@pytest.mark.parametrize(
    ("bad", "told", "noted"),
    [
        (("population", {"city": "Atlantis"}), "KeyError", "tool failed"),
        (("population", {"town": "Bergen"}), "It takes: city", "wrong arguments"),
        (("submit", {"answer": "many"}), "not accepted: `answer`", "wrong answer"),
        (("submit", {}), "missing", "wrong answer"),
    ],
)
def test_it_is_told_and_can_mend(lm, bad, told, noted):
    found = agent()(question="q", lm=lm(bad, ("submit", {"answer": 1})))
    assert found.answer == 1
    assert told in found.trajectory[0].observations[0]
    assert found.trace.noted == {noted: 1}


def test_an_unknown_tool_is_an_observation():
    found = agent()(question="q", lm=native_lm(("populations", {}), ("submit", {"answer": 1})))
    assert "Did you mean `population`?" in found.trajectory[0].observations[0]


def test_a_tool_that_hangs_is_an_observation():
    forever = threading.Event()
    hang = tf.Tool(forever.wait, name="hang", timeout_s=0.05)
    found = tf.ReAct("q -> a", tools=[hang])(q="x", lm=native_lm(("hang", {}), ("submit", {"a": "y"})))
    assert "did not end in 0.05 s" in found.trajectory[0].observations[0]
    assert found.trace.noted == {"tool timeout": 1}
    forever.set()


@pytest.mark.parametrize("value", ["5", " 5 ", 5.0, {"answer": 5}])
def test_a_submitted_value_is_read_as_tolerantly_as_any_answer(value):
    assert agent()(question="q", lm=native_lm(("submit", {"answer": value}))).answer == 5


def test_a_model_that_only_talks_is_asked_outright():
    lm = ScriptedLM(["I think 5."] * 4 + ["[[ ## answer ## ]]\n5"], capabilities=NATIVE)
    found = agent()(question="q", lm=lm)
    assert found.answer == 5
    assert found.trace.noted["unreadable step"] == 2
    assert found.trace.noted["answer asked for outright"] == 1


@PROTOCOLS
def test_after_the_most_steps_the_answer_is_asked_for_outright(lm):
    step = ("add", {"a": 1, "b": 1})
    asked = lm(step, step)
    asked._scripted._script = [*asked._scripted._script, "[[ ## answer ## ]]\n2"]
    found = agent(max_iters=2)(question="q", lm=asked)
    assert found.answer == 2
    assert len(found.trajectory) == 2
    assert found.trace.steps[-1].path == "extract"
    assert '"observations":["2"]' in asked.requests[-1].messages[-1].text


def test_where_that_fails_too_the_error_is_typed():
    lm = ScriptedLM(lambda request: "no idea", capabilities=Capabilities())
    with pytest.raises(tf.AdapterParseError):
        agent(max_iters=1)(question="q", lm=lm)


def test_a_call_may_say_how_many_steps():
    lm = ScriptedLM([calls(("add", {"a": 1, "b": 1})), "[[ ## answer ## ]]\n2"], capabilities=NATIVE)
    assert len(agent()(question="q", max_iters=1, lm=lm).trajectory) == 1


def test_the_number_of_steps_can_be_tuned():
    program = agent(max_iters=tf.Integer(1, 8, default=3))
    assert program.parameters()["max_iters"].value == 3
    assert program.with_parameters({"max_iters": 5}).max_iters == 5


@PROTOCOLS
def test_a_budget_is_never_swallowed(lm):
    def spend() -> str:
        raise tf.BudgetExceeded("used up", limit="usd")

    with pytest.raises(tf.BudgetExceeded):
        tf.ReAct("q -> a", tools=[spend])(q="x", lm=lm(("spend", {})))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tf.ReAct("q -> a", tools=[add, add]), "two tools of the name `add`"),
        (lambda: tf.ReAct("q -> a", tools=[tf.Tool(add, name="submit")]), "gives the answer"),
        (lambda: tf.ReAct("q -> a", tools=add), "list of functions"),
        (lambda: tf.ReAct("trajectory -> a", tools=[]), "name of one of its own"),
        (lambda: tf.ReAct("q -> a", tools=[], max_iters=0), "max_iters"),
        (lambda: tf.ReAct("q -> a", tools=[], max_prompt_tokens=0), "max_prompt_tokens"),
        (lambda: tf.ReAct("q -> a", tools=[])(q="x", max_iters=0, lm=ScriptedLM([])), "max_iters"),
        (lambda: tf.ReAct("q -> a", tools=[])(x="x", lm=ScriptedLM([])), "no value for input field `q`"),
    ],
)
def test_bad_input_is_a_usage_error_before_any_call(make, said):
    with pytest.raises(tf.UsageError, match=said):
        make()


# --- modules as tools ---


def asking():
    """Return an agent that asks a predictor, and may ask an agent."""
    inner = tf.ReAct("task -> result", tools=[add])
    tools = [tf.Tool(tf.Predict("question -> answer"), name="look_up"), tf.Tool(inner, name="delegate")]
    return tf.ReAct("question -> answer", tools=tools)


ASKED = [
    said("look_up", {"question": "Where?"}),
    {"answer": "in Bergen"},
    said("delegate", {"task": "add"}),
    said("submit", {"result": "done"}),
    said("submit", {"answer": "there"}),
]


async def test_modules_as_tools_are_parts_of_the_agent_and_of_its_run():
    program = asking()
    paths = [path for path, _ in program.named_predictors()]
    assert paths == ["tools['look_up']", "tools['delegate'].react", "tools['delegate'].extract", "react", "extract"]
    for found in (
        program.using(lm=DummyLM(ASKED))(question="q"),
        await program.using(lm=DummyLM(ASKED)).acall(question="q"),
    ):
        assert [s.path for s in found.trace] == ["react", paths[0], "react", paths[1], "react"]
        assert [s.observations[0] for s in found.trajectory][:2] == ['{"answer": "in Bergen"}', '{"result": "done"}']
    check_module(program, {"question": "q"}, ASKED)


def test_modules_as_tools_are_tuned_saved_and_copied_with_the_agent(tmp_path):
    program = asking()
    told = program.with_parameters({"tools['look_up'].instructions": "Be brief."})
    told.save(tmp_path / "agent.json")
    lm = DummyLM(ASKED)
    loaded = asking().load(tmp_path / "agent.json").using(lm=lm)
    loaded(question="q")
    assert lm.requests[1].messages[0].text.startswith("Be brief.")
    assert not program.tools["look_up"].func.signature.instructions.startswith("Be brief.")
    assert program.deepcopy().tools["look_up"].func is not program.tools["look_up"].func
    named = program.map_named_predictors(lambda p: p.suggest(lambda prediction: True, "fine"))
    assert all(p.constraints for p in named.predictors())


def test_a_module_as_a_tool_gets_demos_from_the_agents_runs():
    program = tf.ReAct("question -> answer", tools=[tf.Tool(tf.Predict("place -> country"), name="where")])
    writer = tf.ChatAdapter()
    shapes = {"react": said("where", {"place": "Bergen"}), "end": said("submit", {"answer": "Norway"})}

    def answer(request):
        if "`place`" in request.messages[0].text and "trajectory" not in request.messages[0].text:
            return "[[ ## country ## ]]\nNorway"
        done = "Norway" in request.messages[-1].text
        return writer.output_text(program.react.signature, shapes["end" if done else "react"])

    lm = ScriptedLM(answer)
    rows = [tf.Example(question=f"q{i}", answer="Norway").with_inputs("question") for i in range(4)]
    with tf.context(lm=lm):
        recipe = tf.BootstrapFewShot(metric=exact, max_bootstrapped_demos=1, max_labeled_demos=0)
        compiled = recipe.compile(program, trainset=rows)
    assert compiled.report.candidate["tools['where'].demos"][0]["country"] == "Norway"


# --- room ---


def long_run(lm, **options):
    def read(page: int) -> str:
        """Read a page."""
        return f"page {page} " + "word " * 400

    steps = [("read", {"page": i}) for i in range(6)]
    program = tf.ReAct("question -> answer", tools=[read], **options)
    asked = lm(*steps, ("submit", {"answer": "x"}))
    return program(question="q", lm=asked), asked


@PROTOCOLS
def test_where_the_prompt_grows_too_long_older_observations_are_shortened(lm):
    found, asked = long_run(lm, max_prompt_tokens=1200)
    assert found.answer == "x"
    assert found.trace.noted["observation shortened"] >= 3
    last = "".join(m.text for m in asked.requests[-1].messages)
    assert "further characters are left out" in last
    assert "word " * 300 in last  # the newest is whole
    assert all(len(step.observations[0]) > 2000 for step in found.trajectory[:6])  # the result has all of them


@PROTOCOLS
def test_then_the_oldest_steps_are_left_out_and_the_prompt_says_so(lm):
    found, asked = long_run(lm, max_prompt_tokens=900)
    assert found.answer == "x"
    noted = found.trace.noted
    assert noted["observation shortened"] >= 3
    if noted.get("step left out"):
        assert any("left out" in m.text for m in asked.requests[-1].messages)


def test_a_model_that_refuses_a_prompt_as_too_long_is_asked_with_less():
    def answer(request):
        if sum(len(m.text) for m in request.messages) > 6000:
            return tf.ContextWindowExceededError("too long")
        past = sum(m.role == "tool" for m in request.messages)
        return (
            calls(("read", {"page": past})) if past < 3 and len(asked.requests) < 9 else calls(("submit", {"a": "y"}))
        )

    asked = ScriptedLM(answer, capabilities=NATIVE)
    found = tf.ReAct("q -> a", tools=[tf.Tool(lambda page: "word " * 600, name="read")])(q="x", lm=asked)
    assert found.a == "y"
    assert found.trace.noted["observation shortened"] >= 1


def test_inputs_that_are_too_long_by_themselves_are_a_typed_error():
    with pytest.raises(tf.ContextWindowExceededError):
        agent(max_prompt_tokens=50)(question="word " * 500, lm=text_lm(*RUN))


# --- tuning ---


def exact(example, prediction, trace=None):
    return prediction.answer == example.answer


@PROTOCOLS
def test_demos_come_from_its_own_runs_and_fit_either_protocol(lm, tmp_path):
    rows = [tf.Example(question=f"q{i}", answer=2).with_inputs("question") for i in range(8)]
    step, end = ("add", {"a": 1, "b": 1}), ("submit", {"answer": 2})

    def answer(request):
        text = "\n".join(m.text for m in request.messages)
        first = request.messages[-1].role != "tool" and '"observations":["2"]' not in request.messages[-1].text
        wanted = step if first else end
        if lm is native_lm:
            return calls(wanted)
        del text
        return tf.ChatAdapter().output_text(agent().react.signature, said(*wanted))

    asked = ScriptedLM(answer, capabilities=NATIVE if lm is native_lm else Capabilities())
    with tf.context(lm=asked):
        recipe = tf.BootstrapFewShot(metric=exact, max_bootstrapped_demos=2, max_labeled_demos=2)
        compiled = recipe.compile(agent(), trainset=rows[:4], valset=rows[4:])
    demos = compiled.report.candidate["react.demos"]
    assert demos
    assert all(d["next_tool_name"] in ("add", "submit") for d in demos)
    taught = agent().with_parameters({"react.demos": demos})
    taught.save(tmp_path / "agent.json")
    loaded = agent().load(tmp_path / "agent.json")
    for other in (text_lm, native_lm):
        now = other(end)
        assert loaded(question="x", lm=now).answer == 2
        shown = now.requests[0].messages
        assert sum(m.role == "assistant" for m in shown) >= len(demos)
        assert "How many people live" not in "".join(m.text for m in shown[:-1])  # tools are told once
        assert now.requests[0].tools or "How many people live" in shown[-1].text


def test_its_predictors_can_be_tuned():
    program = agent()
    assert [path for path, _ in program.named_predictors()] == ["react", "extract"]
    told = program.with_parameters({"react.instructions": "Be quick."})
    lm = native_lm(("submit", {"answer": 1}))
    told(question="q", lm=lm)
    assert lm.requests[0].messages[0].text.startswith("Be quick.")


def test_it_can_be_looked_at_before_it_runs():
    with tf.context(lm=ScriptedLM([])):
        shown = str(agent().render(question="q")["react"])
    assert "How many people live in a city." in shown


def side_by_side_lm():
    """Return a model that looks two cities up at once, then submits."""
    both = calls(("population", {"city": "Bergen"}), ("population", {"city": "Oslo"}), thought="look both up")
    return ScriptedLM([both, calls(("submit", {"answer": 1009650}), thought="add them")], capabilities=NATIVE)


def taught(lm, **options):
    """Return an agent whose demos are the steps of a run of its own, as a compile records them."""
    steps = to_record(Row(tf.Example(), trace=agent()(question="Both?", lm=lm).trace))["steps"]
    demos = [{**step["inputs"], **step["outputs"]} for step in steps]
    return agent(**options).with_parameters({"react.demos": demos})


@PROTOCOLS
@pytest.mark.parametrize("teacher", [lambda: text_lm(*RUN), side_by_side_lm], ids=["text demos", "native demos"])
@pytest.mark.parametrize("shown_by", ["demos", "demo_pool"])
def test_what_render_shows_is_what_is_sent_in_every_step(lm, teacher, shown_by):
    """Law 7: byte for byte, the demos in the form of the protocol that is in force."""
    program = taught(teacher())
    if shown_by == "demo_pool":
        program.react.demo_pool = DemoPool(lambda texts: [[len(t)] for t in texts]).with_value(
            {"rows": program.parameters()["react.demos"].value, "k": 1}
        )
        program.react.demos = []
    model = lm(*RUN)
    program = program.using(lm=model)
    before = program.render(question="q", trajectory=tf.Trajectory())["react"]
    found = program(question="q")
    assert len(model.requests) == 3
    assert model.requests[0] == before.request
    for number, request in enumerate(model.requests):
        past = tf.Trajectory(found.trajectory.steps[:number])
        assert program.react.render(question="q", trajectory=past).request == request
    assert sum(m.role == "assistant" for m in before.messages) >= 1


@PROTOCOLS
def test_what_render_shows_of_a_dialogue_is_what_is_sent(lm):
    model = lm(("submit", {"answer": 2}))
    chat = tf.ReAct("history: tf.History, question -> answer: int", tools=[add]).using(lm=model)
    history = tf.History(messages=[{"question": "one", "answer": 1}])
    shown = chat.render(history=history, question="and one more", trajectory=tf.Trajectory())["react"]
    chat(history=history, question="and one more")
    assert model.requests[0] == shown.request


def test_a_demo_of_native_calls_shows_all_calls_of_a_turn_and_what_came_of_each():
    lm = native_lm(("submit", {"answer": 1}))
    taught(side_by_side_lm())(question="q", lm=lm)
    turns = lm.requests[0].messages
    first = next(i for i, m in enumerate(turns) if m.role == "assistant")
    assert [json.loads(c.arguments)["city"] for c in turns[first].tool_calls] == ["Bergen", "Oslo"]
    assert [m.text for m in turns[first + 1 : first + 3]] == ["291940", "717710"]
    assert [m.call_id for m in turns[first + 1 : first + 3]] == [c.id for c in turns[first].tool_calls]
    assert "Received." not in [m.text for m in turns]


def test_in_the_text_protocol_calls_side_by_side_are_shown_one_after_another():
    lm = text_lm(("submit", {"answer": 1}))
    taught(side_by_side_lm())(question="q", lm=lm)
    _, *turns, _ = lm.requests[0].messages
    asked, answered = turns[::2], [m.text for m in turns[1::2]]
    assert len(answered) == 3  # two look-ups, then the answer
    assert ["Bergen" in answered[0], "Oslo" in answered[1], "submit" in answered[2]] == [True] * 3
    assert "look both up" in answered[0]
    assert "717710" not in asked[1].text
    assert "291940" in asked[1].text  # what came of the first is known when the second is made
    assert "717710" in asked[2].text
    shown = json.loads(re.search(r"\[\{.*\}\]", asked[2].text).group())
    assert [len(step["calls"]) for step in shown] == [1, 1]  # as steps of this protocol are


def test_an_answer_beside_other_calls_is_shown_as_the_last_of_them():
    end = calls(("submit", {"answer": 3}), ("add", {"a": 1, "b": 2}))
    lm = text_lm(("submit", {"answer": 1}))
    taught(ScriptedLM([end], capabilities=NATIVE))(question="q", lm=lm)
    answered = [m.text for m in lm.requests[0].messages if m.role == "assistant"]
    assert ["add" in answered[0], "submit" in answered[1], len(answered)] == [True, True, 2]


# --- over the wire ---


def wire_call(*wanted):
    made = [
        {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": json.dumps(args)}}
        for i, (name, args) in enumerate(wanted)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": made}
    return _loopback.Reply(
        body={
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        }
    )


def test_with_a_server_that_speaks_openais_tool_calling(server):
    server.script = [
        wire_call(("population", {"city": "Bergen"}), ("population", {"city": "Oslo"})),
        wire_call(("submit", {"answer": 1009650})),
    ]
    lm = tf.LM("openai/gpt-4o-mini", api_base=server.url, api_key="k")
    found = agent()(question="People in both?", lm=lm)
    assert found.answer == 1009650
    first, second = server.bodies
    assert [t["function"]["name"] for t in first["tools"]] == ["population", "add", "submit"]
    assert first["tool_choice"] == "required"
    turns = second["messages"][2:]
    assert [t["role"] for t in turns] == ["assistant", "tool", "tool"]
    assert [t["tool_call_id"] for t in turns[1:]] == [c["id"] for c in turns[0]["tool_calls"]] == ["call_0", "call_1"]
    assert [t["content"] for t in turns[1:]] == ["291940", "717710"]


def wire_message(name, args):
    block = {"type": "tool_use", "id": "toolu_1", "name": name, "input": args}
    body = {"model": "m", "content": [block], "stop_reason": "tool_use", "usage": {"input_tokens": 9}}
    return _loopback.Reply(body={**body, "type": "message", "role": "assistant"})


@pytest.mark.parametrize(("effort", "choice", "noted"), [("low", "auto", 2), (None, "any", 0)])
def test_a_call_that_cannot_be_forced_beside_thinking_is_counted(server, effort, choice, noted):
    server.script = [wire_message("add", {"a": 1, "b": 1}), wire_message("submit", {"answer": 2})]
    lm = tf.LM("anthropic/claude-opus-4-6", api_base=server.url, api_key="k", reasoning_effort=effort)
    program = agent().using(lm=lm)
    shown = str(program.render(question="One and one?")["react"])
    assert f"the choice of a tool: {'auto' if effort else 'required'}" in shown
    found = program(question="One and one?")
    assert found.answer == 2
    assert [body["tool_choice"]["type"] for body in server.bodies] == [choice, choice]
    assert found.trace.noted.get("tool call left to the model", 0) == noted


@pytest.mark.model
def test_a_small_model_in_the_text_protocol_always_ends_with_the_declared_fields():
    lm = tf.LM("local/smollm2", max_tokens=80)
    program = tf.ReAct("question -> answer: int, sure: bool", tools=[population, add], max_iters=2)
    for question in ("How many people live in Bergen?", "What is 3 plus 4?"):
        found = program(question=question, lm=lm)
        assert type(found.answer) is int
        assert type(found.sure) is bool
        assert 1 <= len(found.trajectory) <= 2


def test_an_answer_of_several_samples_is_the_first():
    two = Response((calls(("submit", {"answer": 1})).choices[0], Choice("x")))
    assert agent()(question="q", lm=ScriptedLM([two], capabilities=NATIVE)).answer == 1
