"""Saving and loading."""

import json
from pathlib import Path

import pytest

import tuneful as tf
from tuneful.testing import DummyLM


class Program(tf.Module):
    def __init__(self):
        self.k = tf.Choice([1, 3, 5], default=3)
        self.ask = tf.ChainOfThought("question -> answer")
        self.checks = [tf.Predict("answer -> ok: bool")]
        self.find = tf.Retrieve(rm=tf.BM25(["a passage"]))

    def forward(self, question):
        return self.ask(question=question)


def compiled():
    """Return a program with every kind of parameter set."""
    program = Program()
    program.k = 5
    program.ask.predict.signature = program.ask.predict.signature.with_instructions("Antworte kurz: \U0001f642 数.")
    program.ask.predict.demos = [tf.Example(question="a\nb", reasoning='"', answer="b", note={"x": [1, None]})]
    return program.with_parameters(
        {
            "ask.predict.wording": {"answer": {"label": "Short answer", "desc": "one word"}},
            "checks[0].adapter": "json",
            "checks[0].sampling": {"temperature": 0.5, "stop": ["END"]},
            "checks[0].lm": "openai/gpt-4o-mini",
        }
    )


def values(program):
    return {path: p.value for path, p in program.parameters().items()}


def refused(program, state, match):
    """Check that a state is refused with a StateError and that nothing changes."""
    before, demos = values(program), program.ask.predict.demos
    with pytest.raises(tf.StateError, match=match) as caught:
        program.load_state(state)
    assert values(program) == before
    assert program.ask.predict.demos is demos
    return str(caught.value)


# --- round trip ---


def test_a_saved_program_loads_into_a_new_one(tmp_path):
    saved = compiled()
    saved.save(tmp_path / "made" / "for_it" / "program.json")
    loaded = Program()
    assert loaded.load(tmp_path / "made" / "for_it" / "program.json") is loaded
    assert values(loaded) == values(saved)
    assert loaded.k == 5
    assert loaded.ask.predict.signature == saved.ask.predict.signature
    assert loaded.dump_state()["parameters"] == saved.dump_state()["parameters"]


def test_the_prompts_of_the_loaded_program_are_the_same_bytes(tmp_path):
    saved = compiled()
    saved.save(tmp_path / "p.json")
    loaded = Program().load(tmp_path / "p.json")
    for program in (saved, loaded):
        program.set_lm(DummyLM([]))
    for path, shown in saved.render(question="why?").items():
        assert shown.messages == loaded.render(question="why?")[path].messages


def test_the_file_is_readable_json(tmp_path):
    compiled().save(tmp_path / "p.json")
    text = (tmp_path / "p.json").read_text(encoding="utf-8")
    state = json.loads(text)
    assert (state["format"], state["program"], state["provenance"]) == (1, "Program", None)
    assert set(state["signatures"]) == {"ask.predict", "checks[0]"}
    assert state["signatures"]["checks[0]"]["signature"] == "answer -> ok: bool"
    assert state["parameters"]["k"] == 5
    assert "\U0001f642 数" in text
    assert [file.name for file in tmp_path.iterdir()] == ["p.json"]


def test_saving_again_replaces_the_file(tmp_path):
    Program().save(tmp_path / "p.json")
    compiled().save(tmp_path / "p.json")
    assert Program().load(tmp_path / "p.json").k == 5


def test_loading_keeps_the_objects_that_others_hold():
    program = Program()
    predictor = program.ask.predict
    program.load_state(compiled().dump_state())
    assert program.ask.predict is predictor
    assert predictor.signature.instructions.startswith("Antworte")


def test_a_loaded_program_traces_its_paths():
    program = Program().load_state(compiled().dump_state())
    program.set_lm(DummyLM([{"reasoning": "r", "answer": "a"}]))
    assert [s.path for s in program(question="x").trace] == ["ask.predict"]


def test_halves_of_characters_are_saved_and_loaded(tmp_path):
    file = tmp_path / "p.json"
    program = tf.Predict("question -> answer")
    program.demos = [tf.Example(question="\ud800 é 🙂 \\ud800", answer="x\udfff")]
    program.save(file)

    assert tf.Predict("question -> answer").load(file).demos == program.demos
    assert "é 🙂" in file.read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        tf.Predict("question -> answer").save(tmp_path / "p.json")

    assert list(tmp_path.iterdir()) == []


def test_frozen_parameters_are_saved_too(tmp_path):
    program = compiled().freeze()
    program.save(tmp_path / "p.json")
    assert values(Program().load(tmp_path / "p.json")) == values(program)


def test_the_lm_of_a_predictor_stays_where_the_name_is_the_same():
    program = Program()
    lm = DummyLM([], model="mine")
    program.set_lm(lm)
    state = json.loads(json.dumps(program.dump_state()))
    program.load_state(state)
    assert program.get_lm() is lm


def test_no_key_is_in_the_file(tmp_path):
    program = Program()
    program.set_lm(tf.LM("openai/m", api_key="sk-do-not-show-me", api_base="http://127.0.0.1:9/v1"))
    program.save(tmp_path / "p.json")
    assert "openai/m" in (tmp_path / "p.json").read_text()
    assert "sk-do-not-show-me" not in (tmp_path / "p.json").read_text()


def test_wording_is_saved_by_name_whatever_the_order_of_the_fields():
    saved = tf.Predict("first, second -> answer").with_parameters(
        {"wording": {"first": {"desc": "the one"}, "second": {"desc": "the other"}}}
    )
    state = saved.dump_state()
    loaded = tf.Predict("first, second -> answer").load_state(state)
    assert [f.desc for f in loaded.signature.input_fields.values()] == ["the one", "the other"]
    with pytest.raises(tf.StateError, match="second, first -> answer"):
        tf.Predict("second, first -> answer").load_state(state)


def test_provenance_survives_a_round_trip(tmp_path):
    state = {**Program().dump_state(), "provenance": {"teleprompter": "X", "score": 0.5}}
    Program().load_state(state).save(tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["provenance"] == {"teleprompter": "X", "score": 0.5}


# --- mismatch ---


def test_another_signature_is_refused_and_both_are_shown():
    class Other(Program):
        def __init__(self):
            super().__init__()
            self.ask = tf.ChainOfThought("query -> answer: int")

    message = refused(Other(), compiled().dump_state(), "does not fit this Other")
    assert "`ask.predict`: saved as 'question -> reasoning, answer'" in message
    assert "here 'query -> reasoning, answer: int'" in message
    assert "Nothing was changed" in message


def test_missing_and_additional_parts_are_all_listed():
    class Other(Program):
        def __init__(self):
            super().__init__()
            del self.__dict__["_tunables"]["k"]
            self.extra = self.checks.pop()

    message = refused(Other(), compiled().dump_state(), "does not fit")
    lines = [line.strip() for line in message.splitlines() if line.startswith("  - ")]
    assert lines == [
        "- predictor `checks[0]` is saved, but the program has none there",
        "- predictor `extra` is in the program, but not saved",
        "- parameter `k` is saved, but the program has none there",
    ]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("k", 99),
        ("ask.predict.nonsense", 1),
        ("ask.predict.demos", 5),
        ("ask.predict.demos", ["text"]),
        ("ask.predict.wording", {"unknown": {"desc": "x"}}),
        ("ask.predict.wording", 3),
        ("ask.predict.sampling", {"temprature": 1}),
        ("ask.predict.sampling", {"temperature": "hot"}),
        ("ask.predict.lm", "nobody/knows"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(path, value):
    state = compiled().dump_state()
    state["parameters"][path] = value
    refused(Program(), state, "Nothing was changed")


@pytest.mark.parametrize("state", [{}, [], None, "text", {"format": 1}, {"format": 1, "parameters": [1]}])
def test_what_is_no_state_is_refused(state):
    refused(Program(), state, "no saved program")


@pytest.mark.parametrize("signatures", [[], {"ask.predict": {}}, {"ask.predict": None}, 5])
def test_damaged_signatures_are_refused(signatures):
    refused(Program(), {**compiled().dump_state(), "signatures": signatures}, "Nothing was changed")


def test_another_layout_is_refused():
    refused(Program(), {**compiled().dump_state(), "format": 2}, "layout 2; this version reads layout 1")


# --- files ---


@pytest.mark.parametrize("name", ["program.pkl", "program", "program.json.txt"])
def test_another_suffix_is_refused_when_saving(tmp_path, name):
    with pytest.raises(tf.StateError, match=r"\.json"):
        Program().save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\x80\x04\x95pickle", b"\xff\xfe\x00"])
def test_a_file_that_is_no_json_is_refused(tmp_path, content):
    file = tmp_path / "p.json"
    file.write_bytes(content)
    program = Program()
    before = values(program)
    with pytest.raises(tf.StateError, match="no JSON"):
        program.load(file)
    assert values(program) == before


def test_a_missing_file_is_a_state_error_that_names_it(tmp_path):
    with pytest.raises(tf.StateError, match=r"nothing\.json.*No such file"):
        Program().load(tmp_path / "nothing.json")


def test_a_module_with_a_parameter_of_its_own_saves_and_loads_it(tmp_path):
    class Styled(tf.Module):
        def __init__(self):
            self.style = "plain"

        def _own_parameters(self):
            return {"style": ("choice", self.style, None), **super()._own_parameters()}

    Styled().with_parameters({"style": "florid"}).save(tmp_path / "s.json")

    assert Styled().load(tmp_path / "s.json").style == "florid"
