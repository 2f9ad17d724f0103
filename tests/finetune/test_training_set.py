"""What a model is to learn: counts, parts, files."""

import json
import random

import pytest

import tuneful as tf
from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.wire.messages import Media, Message, Tool, ToolCall, assistant, system, user

TOOL = Tool("search", "Finds things.", '{"type": "object", "properties": {"query": {"type": "string"}}}')
CALL = ToolCall("call00001", "search", '{"query": "fjord"}')


def example(question="2+2?", answer="4", path="answer", **more):
    return TrainingExample(path, (system("Add."), user(question)), answer, **more)


def several(count, path="answer"):
    return tuple(example(f"{i}+{i}?", str(2 * i), path) for i in range(count))


def test_equal_examples_count_once():
    one, other = example(), example(path="other")

    found = TrainingSet((one, other, one, one), {"repaired": 2}) + TrainingSet(
        (other,), {"repaired": 1}, {"no metric": 3}
    )

    assert found.examples == (one, other)
    assert found.dropped == {"repaired": 3, "duplicate": 3}
    assert found.kept == {"no metric": 3}


def test_the_summary_says_what_was_kept_and_why_the_rest_was_not():
    found = TrainingSet(
        (*several(2), example(path="query")),
        {"metric below threshold": 2, "repaired": 1, "program error": 1, "superseded": 4},
        {"passed the metric": 1, "unlabelled, not judged": 1},
    )

    assert found.summary() == (
        "3 examples (2 of `answer`, 1 of `query`), from 2 runs (passed the metric 1, unlabelled, not judged 1). "
        "Left out: 3 runs (metric below threshold 2, program error 1) and 5 steps (repaired 1, superseded 4)."
    )


def test_an_empty_set_is_an_error_that_holds_the_counts():
    assert TrainingSet(several(1)).checked()
    with pytest.raises(tf.DataError, match=r"0 examples. Left out: 7 runs \(parse error 7\).*threshold"):
        TrainingSet((), {"parse error": 7}).checked()


def test_the_hash_is_that_of_the_examples():
    examples = several(3)
    same = TrainingSet(examples, {"repaired": 1})

    assert TrainingSet(examples).content_hash() == same.content_hash()
    changed = [
        examples[::-1],
        examples[:2],
        (*examples[:2], example("2+2?", "5")),
        (*examples[:2], example("2+2?", "4", "elsewhere")),
        (*examples[:2], example("2+2?", "4", tools=(TOOL,))),
        (*examples[:2], example("2+2?", "4", calls=(CALL,))),
    ]
    assert len({TrainingSet(e).content_hash() for e in (examples, *changed)}) == 7


def test_parts_by_predictor():
    whole = TrainingSet((*several(2), *several(3, "query")), {"repaired": 1})

    parts = whole.by_path()

    assert {path: len(part) for path, part in parts.items()} == {"answer": 2, "query": 3}
    assert sum(parts.values(), TrainingSet()).examples == whole.examples


def test_a_split_holds_out_a_share_of_the_prompts():
    whole = TrainingSet((*several(30), *(example(f"{i}+{i}?", "?") for i in range(30))), {"repaired": 1})

    learned, held_out = whole.split(0.2, seed=3)

    assert (len(learned), len(held_out)) == (48, 12)
    assert not {e.messages for e in learned} & {e.messages for e in held_out}  # two answers to a prompt stay together
    assert set(learned) | set(held_out) == set(whole)
    assert (learned + held_out).dropped == whole.dropped


def test_a_split_depends_on_seed_and_prompts_and_not_on_their_order():
    examples = list(several(40))
    held_out = TrainingSet(tuple(examples)).split(0.25, seed=1)[1]
    random.Random(0).shuffle(examples)

    assert set(TrainingSet(tuple(examples)).split(0.25, seed=1)[1]) == set(held_out)
    assert set(TrainingSet(tuple(examples)).split(0.25, seed=2)[1]) != set(held_out)


@pytest.mark.parametrize(
    ("count", "share", "held_out"), [(0, 0.5, 0), (1, 0.5, 0), (2, 0.01, 1), (10, 0, 0), (3, 0.99, 2)]
)
def test_a_split_of_few(count, share, held_out):
    learned, other = TrainingSet(several(count)).split(share)

    assert (len(learned), len(other)) == (count - held_out, held_out)


@pytest.mark.parametrize("share", [1, -0.1, "0.1", True])
def test_a_share_that_is_none(share):
    with pytest.raises(tf.UsageError, match="share"):
        TrainingSet(several(3)).split(share)


TALK = TrainingExample(
    "react",
    (
        system("Find out."),
        user("Which fjord?"),
        Message("assistant", "I look.", (ToolCall("call00000", "search", "{}"),)),
        Message("tool", "nothing", call_id="call00000"),
    ),
    "Again.",
    (TOOL,),
    (CALL,),
)
SEEN = TrainingExample(
    "look",
    (
        user(("What is it?\nA or B?", Media("image", "image/png", "aGk="), Media("audio", "audio/mpeg", "aGk="))),
        assistant("A"),
        user((Media("file", "application/pdf", "aGk=", name="a.pdf"), Media("image", url="https://a.example/b.png"))),
    ),
    "B \u2028 \U0001f642",
)


@pytest.mark.parametrize(
    ("layout", "examples"),
    [
        ("chat", (example(), example('\u2028\n"quoted"', "\n"), SEEN)),
        ("tool", (example(path=""), TALK, SEEN)),
        ("completion", (TrainingExample("answer", (user("2+2?"),), "4"),)),
    ],
)
def test_a_file_gives_the_examples_back(tmp_path, layout, examples):
    path = tmp_path / "made" / "data.jsonl"
    whole = TrainingSet(examples)

    whole.save(path, layout=layout)

    assert TrainingSet.load(path) == whole
    assert TrainingSet.load(path).content_hash() == whole.content_hash()
    assert [p.name for p in path.parent.iterdir()] == ["data.jsonl"]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_chat_layout_is_that_of_services(tmp_path):
    shown = TrainingExample("", (system("Add."), user("1+1?"), assistant("2"), user("2+2?")), "4")

    TrainingSet((example(), shown)).save(tmp_path / "data.jsonl")

    assert lines(tmp_path / "data.jsonl") == [
        {
            "path": "answer",
            "messages": [
                {"role": "system", "content": "Add."},
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4"},
            ],
        },
        {
            "messages": [
                {"role": "system", "content": "Add."},
                {"role": "user", "content": "1+1?"},
                {"role": "assistant", "content": "2", "weight": 0},
                {"role": "user", "content": "2+2?"},
                {"role": "assistant", "content": "4"},
            ],
        },
    ]


def test_the_tool_layout_holds_tools_and_calls(tmp_path):
    TrainingSet((TALK,)).save(tmp_path / "data.jsonl", layout="tool")

    (line,) = lines(tmp_path / "data.jsonl")
    function = {"name": "search", "arguments": '{"query": "fjord"}'}
    assert line["messages"][-1]["tool_calls"] == [{"id": "call00001", "type": "function", "function": function}]
    assert line["messages"][3] == {"role": "tool", "content": "nothing", "tool_call_id": "call00000"}
    assert line["tools"] == [
        {
            "type": "function",
            "function": {"name": "search", "description": "Finds things.", "parameters": json.loads(TOOL.parameters)},
        }
    ]


def test_the_completion_layout_is_two_texts(tmp_path):
    TrainingSet((example(),)).save(tmp_path / "data.jsonl", layout="completion")

    assert lines(tmp_path / "data.jsonl") == [{"path": "answer", "prompt": "Add.\n\n2+2?", "completion": "4"}]


@pytest.mark.parametrize(
    ("layout", "held", "said"), [("chat", TALK, "tool"), ("completion", TALK, "tool"), ("completion", SEEN, "chat")]
)
def test_a_layout_without_room_says_which_one_has(tmp_path, layout, held, said):
    with pytest.raises(tf.DataError, match=f"layout='{said}'"):
        TrainingSet((example(), held)).save(tmp_path / "data.jsonl", layout=layout)
    assert list(tmp_path.iterdir()) == []


def test_a_layout_that_there_is_not(tmp_path):
    with pytest.raises(tf.UsageError, match="Did you mean `chat`"):
        TrainingSet(several(1)).save(tmp_path / "data.jsonl", layout="chats")


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        "3",
        "{}",
        '{"messages": []}',
        '{"messages": [{"role": "user", "content": "a"}]}',
        '{"messages": [{"role": "oracle", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        '{"messages": [{"role": "user", "content": [{"type": "smell"}]}, {"role": "assistant", "content": "b"}]}',
        '{"prompt": "a"}',
        '{"prompt": ["a"], "completion": "b"}',
    ],
)
def test_a_line_that_is_no_example_is_named(tmp_path, line):
    path = tmp_path / "data.jsonl"
    TrainingSet(several(1)).save(path)
    path.write_text(path.read_text(encoding="utf-8") + "\n" + line + "\n", encoding="utf-8")

    with pytest.raises(tf.DataError, match=r"line 3 of .*data\.jsonl"):
        TrainingSet.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(tf.DataError, match="cannot be read"):
        TrainingSet.load(tmp_path / "none.jsonl")


def test_text_that_is_no_unicode_survives_a_file(tmp_path):
    odd = TrainingSet((example("half of a pair: \ud83d"),))

    odd.save(tmp_path / "data.jsonl")

    assert TrainingSet.load(tmp_path / "data.jsonl") == odd
    assert odd.content_hash()
    assert odd.split(0.5)[0] == odd
