"""Tools of a real MCP server, in a process of its own."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

import tuneful as tf
from tuneful.testing import DummyLM, ScriptedLM, calls
from tuneful.wire.capabilities import Capabilities

pytest.importorskip("mcp")

from tuneful.integrations.mcp import MCPTools, tool_of

COMMAND = [sys.executable, str(Path(__file__).with_name("mcp_server.py"))]
NATIVE = Capabilities(tools=True)


@pytest.fixture(scope="module")
def tools():
    with MCPTools(COMMAND, timeout_s=20) as found:
        yield {tool.name: tool for tool in found}


def test_tools_carry_what_the_server_says_of_them(tools):
    assert set(tools) == {"add", "stock_level", "sleep", "die"}
    assert tools["add"].description == "Add two whole numbers."
    assert tools["add"].parameters["properties"]["a"]["type"] == "integer"


def test_a_tool_is_called_in_the_blocking_way(tools):
    assert tools["add"](a=2, b=3) == "5"
    assert tools["stock_level"](item="pen") == "12 pens"


async def test_a_tool_is_called_from_another_event_loop(tools):
    assert await tools["add"].acall(a=2, b=3) == "5"


@pytest.mark.parametrize(("name", "args"), [("stock_level", {"item": "unicorn"}), ("add", {"a": "x", "b": 1})])
async def test_an_error_of_the_server_is_an_observation_and_typed_where_it_is_called(tools, name, args):
    seen = await tools[name].observe(args)
    assert seen.problem == "tool failed"
    with pytest.raises(tf.ToolError):
        await tools[name].acall(**args)


async def test_a_tool_that_hangs_is_abandoned_and_the_session_lives_on(tools):
    with MCPTools(COMMAND, timeout_s=0.3) as hasty:
        slow = next(t for t in hasty if t.name == "sleep")
        assert (await slow.observe({"seconds": 60})).problem == "tool timeout"
    assert await tools["add"].acall(a=1, b=1) == "2"


TEXT = [
    {"next_thought": "look", "next_tool_name": "stock_level", "next_tool_args": {"item": "pen"}},
    {"next_thought": "one comes", "next_tool_name": "add", "next_tool_args": {"a": 12, "b": 1}},
    {"next_thought": "done", "next_tool_name": "submit", "next_tool_args": {"pens": 13}},
]
CALLS = [
    calls(("stock_level", {"item": "pen"}), ("add", {"a": 12, "b": 1})),
    calls(("submit", {"pens": 13})),
]


@pytest.mark.parametrize("lm", [lambda: DummyLM(TEXT), lambda: ScriptedLM(list(CALLS), capabilities=NATIVE)])
def test_an_agent_uses_them_in_both_protocols(tools, lm):
    found = tf.ReAct("order -> pens: int", tools=tools.values())(order="one more pen", lm=lm())
    assert found.pens == 13
    assert [o for step in found.trajectory for o in step.observations][:2] == ["12 pens", "13"]


async def test_an_agent_uses_them_in_an_event_loop(tools):
    agent = tf.ReAct("order -> pens: int", tools=tools.values())
    found = await agent.acall(order="one more pen", lm=ScriptedLM(list(CALLS), capabilities=NATIVE))
    assert found.pens == 13


async def test_a_server_that_dies_is_an_observation():
    async with MCPTools(COMMAND, timeout_s=10) as found:
        die = next(t for t in found if t.name == "die")
        add = next(t for t in found if t.name == "add")
        assert (await die.observe({})).problem
        assert (await add.observe({"a": 1, "b": 1})).problem


def test_two_servers_with_tools_of_one_name():
    with MCPTools(COMMAND) as first, MCPTools(COMMAND, prefix="b_") as second:
        with pytest.raises(tf.UsageError, match="two tools of the name `add`"):
            tf.ReAct("q -> a", tools=[*first, *first])
        assert "b_add" in tf.ReAct("q -> a", tools=[*first, *second]).tools


@pytest.mark.parametrize("command", [["no-such-command-of-ours"], [sys.executable, "-c", "raise SystemExit(1)"]])
def test_a_server_that_does_not_start_is_a_typed_error(command):
    with pytest.raises(tf.ToolError, match="cannot be used"), MCPTools(command):
        pass


def test_a_server_that_says_nothing_is_a_typed_error():
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with pytest.raises(tf.ToolError, match="did not answer"), MCPTools(silent, connect_timeout_s=0.5):
        pass


@pytest.mark.parametrize("server", ["server.py", [], ["python", 3]])
def test_what_is_no_server_is_a_usage_error(server):
    with pytest.raises(tf.UsageError):
        MCPTools(server)


def test_after_the_block_its_tools_fail():
    with MCPTools(COMMAND) as found:
        add = next(t for t in found if t.name == "add")
    with pytest.raises(Exception, match=r".*"):
        add(a=1, b=1)


async def test_a_session_that_is_the_users_own():
    from mcp import Client, StdioServerParameters

    async with Client(StdioServerParameters(command=COMMAND[0], args=COMMAND[1:])) as client:
        described = next(t for t in (await client.list_tools()).tools if t.name == "add")
        assert await tool_of(client, described).acall(a=4, b=4) == "8"


def test_over_http():
    process = subprocess.Popen([*COMMAND, "http"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{int(process.stdout.readline())}/mcp"
        for _ in range(100):
            try:
                with MCPTools(address, headers={"X-Desk": "1"}) as found:
                    assert next(t for t in found if t.name == "add")(a=2, b=2) == "4"
                return
            except tf.ToolError:  # it is not listening yet
                time.sleep(0.1)
        raise AssertionError("the server was never reached")
    finally:
        process.kill()
        process.communicate()
