"""What teleprompters and `compile` are given is checked by name, before anything is paid."""

import importlib.util

import pytest

import tuneful as tf
from tuneful.testing import ScriptedLM

QA = tf.Predict("question -> answer")


def exact(example, prediction, trace=None):
    return example.answer == prediction.answer


def made(name, **given):
    return getattr(tf, name)(**{"metric": exact, **given})


def refused(action, error=tf.UsageError, match=None):
    lm = ScriptedLM(lambda r: "[[ ## answer ## ]]\na1")
    with tf.context(lm=lm, cache=False), pytest.raises(error, match=match) as caught:
        action()
    assert lm.requests == []
    return str(caught.value)


SELECTING = ["BootstrapRS", "COPRO", "GEPA", "SIMBA", "InferRules", "AutoPrompt", "Tune"]
SELECTING += ["MIPROv2", "BootstrapFewShotWithOptuna"] if importlib.util.find_spec("optuna") else []


@pytest.mark.parametrize("name", ["BootstrapFewShot", *SELECTING])
@pytest.mark.parametrize(
    "wrong",
    [
        {"num_threads": 0},
        {"num_threads": "4"},
        {"max_bootstrapped_demos": -1},
        {"max_labeled_demos": 1.5},
        {"max_errors": -1},
        {"metric_threshold": "high"},
        {"metric_threshold": float("nan")},
        {"init_temperature": -1},
        {"temperature_for_sampling": "warm"},
        {"prompt_model": "openai/gpt-4o"},
        {"reflection_lm": "openai/gpt-4o"},
        {"teacher_settings": "gpt-4o"},
        {"teacher_settings": {"llm": None}},
        {"metric": "exact"},
        {"models": "openai/gpt-4o"},
        {"temperatures": 0.7},
        {"adapters": 3},
        {"fields": []},
        {"auto": []},
        {"earlier": [3]},
        {"embedder": "words"},
        {"num_candidate_programs": "x"},
    ],
    ids=lambda wrong: "{}={!r}".format(*next(iter(wrong.items()))),
)
def test_an_argument_out_of_question_is_told_by_its_name(name, wrong):
    told = refused(lambda: made(name, **wrong))  # also where the teleprompter has no argument of that name
    assert f"`{next(iter(wrong))}`" in told or "words" in told


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ({"seed": 9}, "argument of `compile`"),
        ({"log_dir": "x"}, "Name the run"),
        ({"track_stats": True}, "program.report"),
        ({"task_model": None}, "using"),
        ({"max_labelled_demos": 3}, "Did you mean `max_labeled_demos`"),
        ({"zzz": 3}, "It takes metric"),
    ],
)
def test_arguments_that_mean_nothing_here_are_told_with_what_to_write_instead(given, instead):
    refused(lambda: made("BootstrapFewShot", **given), match=instead)


def test_a_missing_argument_is_a_usage_error():
    refused(tf.InferRules, match="metric")


def test_arguments_of_the_constructor_may_be_given_to_compile_and_hold_for_it_alone(rows):
    teleprompter = tf.BootstrapFewShot(exact, max_labeled_demos=0)
    with tf.context(lm=ScriptedLM(lambda r: "[[ ## answer ## ]]\na1"), cache=False):
        short = teleprompter.compile(QA, rows(6), max_labeled_demos=2, max_bootstrapped_demos=0)
        usual = teleprompter.compile(QA, trainset=rows(6))

    assert len(short.demos) == 2
    assert len(usual.demos) == 1
    assert teleprompter.max_labeled_demos == 0


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ({"requires_permission_to_run": False}, "plan"),
        ({"eval_kwargs": {"num_threads": 2}}, "num_threads"),
        ({"num_thread": 2}, "Did you mean `num_threads`"),
        ({"num_threads": 0}, "at least 1"),
    ],
)
def test_what_compile_does_not_know_is_told(rows, given, instead):
    refused(lambda: tf.Tune(exact).compile(QA, trainset=rows(6), **given), match=instead)
    refused(lambda: tf.compile(QA, rows(6), exact, **given), match=instead)


def test_what_proposes_stays_where_compile_changes_an_argument(writer, rows):
    teleprompter = tf.COPRO(metric=exact, prompt_model=writer("Count."), breadth=2, depth=1)
    other = teleprompter.proposers["instructions"].with_parameters({"predict.instructions": "Write one instruction."})
    teleprompter.proposers["instructions"] = other
    with tf.context(lm=ScriptedLM(lambda r: "[[ ## answer ## ]]\na1"), cache=False):
        teleprompter.compile(QA, trainset=rows(6), breadth=3)

    assert "Write one instruction." in teleprompter.prompt_model.requests[0].messages[0].text


class Table:
    """What is no list, though it has a length and can be iterated, such as a data frame."""

    def __len__(self):
        return 1

    def __iter__(self):
        return iter(["question", "answer"])

    def __bool__(self):
        raise ValueError("ambiguous")


NO_ROWS = [None, 5, "abc", [{"question": "q"}], ["a"], (r for r in ()), Table(), {"a": 1}, [], exact]


@pytest.mark.parametrize("name", ["LabeledFewShot", "BootstrapFewShot", "Tune"])
@pytest.mark.parametrize("given", NO_ROWS, ids=lambda given: type(given).__name__)
def test_rows_that_are_no_list_of_examples_are_a_data_error(rows, name, given):
    teleprompter = getattr(tf, name)() if name == "LabeledFewShot" else made(name)
    refused(lambda: teleprompter.compile(QA, trainset=given), tf.DataError, "`trainset")
    refused(lambda: teleprompter.plan(QA, trainset=given), tf.DataError, "`trainset")
    if given is not None:
        refused(lambda: teleprompter.compile(QA, trainset=rows(3), valset=given), tf.DataError, "`valset")


def test_evaluate_says_the_same_of_its_rows():
    for given in NO_ROWS:
        refused(lambda given=given: tf.Evaluate(devset=given, metric=exact)(QA), tf.DataError, "`devset")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("budget", 5),
        ("budget", 0),
        ("budget", "$2"),
        ("budget", {"usd": 2}),
        ("run", ""),
        ("run", "half \ud83d"),
        ("run", 5),
        ("history", 5),
        ("objectives", "total_tokens"),
        ("objectives", None),
        ("seed", None),
        ("seed", 1.5),
        ("seed", True),
        ("teacher", [QA]),
        ("teacher", "gpt-4o"),
        ("replaces", 3),
    ],
)
def test_each_argument_of_compile_is_of_its_kind(rows, name, given):
    refused(lambda: made("BootstrapFewShot").compile(QA, trainset=rows(3), **{name: given}), match=f"`{name}`")


@pytest.mark.parametrize(
    ("teacher", "told"),
    [
        ("topic -> poem", "the teacher cannot run the trainset"),
        ("question, hint -> answer", "hint"),
        ("question -> poem", "shares no predictor"),
    ],
)
def test_a_teacher_of_another_shape_is_refused(rows, teacher, told):
    refused(lambda: made("Tune").compile(QA, trainset=rows(3), teacher=tf.Predict(teacher)), match=told)


def test_a_stage_that_is_no_teleprompter_is_refused():
    refused(lambda: tf.BetterTogether(exact, p="copro"), match="`p`")
    refused(lambda: tf.BetterTogether(exact, valset_ratio=0.2), match="valset=rows")
