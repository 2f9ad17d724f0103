"""AutoPrompt: where the words of a field decide, they are found; names and types stay."""

import pytest

import tuneful as tf
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

GOOD = "The city's name alone."
QA = tf.Predict("question -> answer")


def model(rows):
    return SimulatedLM(rows(700), Landscape(base=0.4, instructions={GOOD: 0.4}))


def compiled(rows, metric, lm, writer, student=QA, settings=None, **options):
    given = {"breadth": 3, "depth": 1, "prompt_model": writer, **(settings or {})}
    with tf.context(lm=lm):
        return tf.AutoPrompt(metric, **given).compile(
            student, trainset=rows(60), valset=rows(100, start=500), **options
        )


def test_the_description_that_helps_is_found(rows, metric, writer):
    program = compiled(rows, metric, model(rows), writer("Say it.", GOOD))

    assert program.report.verdict == "better"
    field = program.signature.output_fields["answer"]
    assert (field.name, field.desc, field.label) == ("answer", GOOD, GOOD.rstrip("."))
    assert program.signature.instructions == QA.signature.instructions
    assert list(program.report.candidate) == ["wording"]


def test_fields_are_reworded_one_after_the_other_and_keep_what_was_found(rows, metric):
    """Two fields must be right together: the second is tried beside the words found for the first."""

    def write(request):
        field = request.messages[-1].text.split("[[ ## field ## ]]\n")[1].split()[0]
        return f"[[ ## label ## ]]\n{field}\n\n[[ ## description ## ]]\nDescribed {field}."

    gains = {"Described question.": 0.2, "Described answer.": 0.25}
    lm = SimulatedLM(rows(700), Landscape(base=0.3, instructions=gains, difficulty=0.3))
    program = compiled(rows, metric, lm, ScriptedLM(write), settings={"fields": "all", "breadth": 2})

    assert program.report.verdict == "better"
    words = program.report.candidate["wording"]
    assert (words["question"]["desc"], words["answer"]["desc"]) == ("Described question.", "Described answer.")


@pytest.mark.parametrize(("fields", "asked"), [("outputs", {"answer"}), ("inputs", {"question"})])
def test_only_the_chosen_fields_are_reworded(rows, metric, writer, fields, asked):
    prompt_model = writer("Say it.")
    program = compiled(rows, metric, model(rows), prompt_model, settings={"fields": fields})

    shown = {r.messages[-1].text.split("[[ ## field ## ]]\n")[1].split()[0] for r in prompt_model.requests}
    assert shown == asked
    assert "for wording:" in str(program.report.found)


def test_a_compiled_wording_is_saved_and_loaded(rows, metric, writer, tmp_path):
    program = compiled(rows, metric, model(rows), writer(GOOD))
    program.save(tmp_path / "program.json")
    loaded = tf.Predict("question -> answer").load(tmp_path / "program.json")

    assert loaded.signature.output_fields["answer"].desc == GOOD


def test_the_same_script_again_pays_nothing(rows, metric, writer, tmp_path):
    with tf.context(journal=tmp_path / "journal.sqlite"):
        first = compiled(rows, metric, model(rows), writer(GOOD), run="a")
        lm, prompt_model = model(rows), writer(GOOD)
        again = compiled(rows, metric, lm, prompt_model, run="a")

    assert lm.requests == prompt_model.requests == []
    assert again.dump_state()["parameters"] == first.dump_state()["parameters"]


def test_a_proposer_whose_answers_cannot_be_read_is_counted_and_nothing_is_lost(rows, metric):
    report = compiled(rows, metric, model(rows), ScriptedLM(lambda _: "I cannot help with that.")).report

    assert report.warnings["wording failed"] == 2
    assert report.verdict == "nothing learned"


def test_a_small_budget_holds(rows, metric, writer):
    lm, prompt_model = model(rows), writer(GOOD)
    report = compiled(rows, metric, lm, prompt_model, budget=tf.Budget(calls=40)).report

    assert len(lm.requests) + len(prompt_model.requests) <= 40
    assert "calls" in report.stop_reason


@pytest.mark.parametrize("wrong", [{"fields": "some"}, {"breadth": 1}, {"depth": 0}])
def test_wrong_settings_are_told(metric, wrong):
    with pytest.raises(tf.UsageError, match=next(iter(wrong))):
        tf.AutoPrompt(metric, **wrong)
