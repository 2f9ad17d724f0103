"""Programs as this field writes them run with the import changed."""

import json
from typing import Literal

import tuneful as dspy
from tuneful.testing import DummyLM, ScriptedLM


class Emotion(dspy.Signature):
    """Classify emotion."""

    sentence: str = dspy.InputField()
    sentiment: Literal["sadness", "joy", "love"] = dspy.OutputField(desc="the strongest one")


class RAG(dspy.Module):
    def __init__(self, num_passages=3):
        super().__init__()
        self.retrieve = dspy.Retrieve(k=num_passages)
        self.generate_answer = dspy.ChainOfThought("context, question -> answer")

    def forward(self, question):
        context = self.retrieve(question).passages
        prediction = self.generate_answer(context=context, question=question)
        return dspy.Prediction(context=context, answer=prediction.answer)


def validate_context_and_answer(example, pred, trace=None):
    answer_em = dspy.metrics.answer_exact_match(example, pred)
    answer_pm = dspy.metrics.answer_passage_match(example, pred)
    return answer_em and answer_pm


CORPUS = [f"The colour of thing{i} is shade{i}." for i in range(30)]


def model(request):
    number = request.messages[-1].content.rsplit("thing", 1)[1].split("?")[0]
    return f"[[ ## reasoning ## ]]\nIt says so.\n\n[[ ## answer ## ]]\nshade{number}\n\n[[ ## completed ## ]]"


def dataset(start, stop):
    return [
        dspy.Example(question=f"What is the colour of thing{i}?", answer=f"shade{i}").with_inputs("question")
        for i in range(start, stop)
    ]


def test_a_class_signature_in_a_predictor():
    with dspy.context(lm=DummyLM([{"sentiment": "joy"}])):
        assert dspy.Predict(Emotion)(sentence="I won!").sentiment == "joy"


def test_rag_compiled_evaluated_saved_and_loaded(tmp_path, capsys):
    with dspy.context(lm=ScriptedLM(model), rm=dspy.BM25(CORPUS)):
        teleprompter = dspy.BootstrapFewShot(metric=validate_context_and_answer, max_bootstrapped_demos=2)
        compiled_rag = teleprompter.compile(RAG(), trainset=dataset(0, 10))
        evaluate = dspy.Evaluate(devset=dataset(10, 30), num_threads=4, display_progress=True, display_table=5)
        result = evaluate(compiled_rag, metric=validate_context_and_answer)
        compiled_rag.save(str(tmp_path / "rag.json"))
        loaded = RAG()
        loaded.load(path=str(tmp_path / "rag.json"))
        dspy.inspect_history(n=1)

    assert result.score == 100.0
    assert [x.get("reasoning") for x in loaded.generate_answer.predict.demos[:2]] == ["It says so."] * 2
    assert [name for name, _ in loaded.named_predictors()] == ["generate_answer.predict"]
    assert json.loads((tmp_path / "rag.json").read_text())["parameters"]["generate_answer.predict.demos"]
    assert "[[ ## answer ## ]]" in capsys.readouterr().out


def test_several_completions_and_the_majority():
    lm = ScriptedLM([[f"[[ ## answer ## ]] {a}" for a in ("4", "5", "4.")]])
    with dspy.context(lm=lm):
        prediction = dspy.Predict("question -> answer", n=3)(question="2+2?")

    assert prediction.completions.answer == ["4", "5", "4."]
    assert dspy.majority(prediction.completions).answer == "4"


def test_an_lm_is_called_directly():
    lm = ScriptedLM(lambda request: "This is a test!")

    assert lm("Say this is a test!", temperature=0.7) == ["This is a test!"]
    assert lm(messages=[{"role": "user", "content": "Say this is a test!"}]) == ["This is a test!"]


def test_several_attempts_compared_chosen_and_refined():
    qa = dspy.ChainOfThought("question -> answer")

    def one_word_answer(args, pred):
        return 1.0 if len(pred.answer.split()) == 1 else 0.0

    said = [{"reasoning": "r", "answer": a} for a in ("It is Brussels", "Brussels")]
    advice = {"discussion": "too long", "advice": {"module.predict": "One word."}}
    with dspy.context(lm=DummyLM(said)):
        best = dspy.BestOfN(module=qa, N=3, reward_fn=one_word_answer, threshold=1.0)
        assert best(question="What is the capital of Belgium?").answer == "Brussels"
    with dspy.context(lm=DummyLM([said[0], advice, said[1]])):
        refine = dspy.Refine(module=qa, N=3, reward_fn=one_word_answer, threshold=1.0)
        assert refine(question="What is the capital of Belgium?").answer == "Brussels"
    with dspy.context(lm=DummyLM([{"rationale": "r", "answer": "Brussels"}])):
        compare = dspy.MultiChainComparison("question -> answer", M=2)
        assert compare(said, question="What is the capital of Belgium?").answer == "Brussels"


def test_the_bootstrap_family():
    def metric(example, prediction, trace=None):
        return example.output == prediction.output

    trainset = [dspy.Example(input=str(i), output=str(i)).with_inputs("input") for i in range(24)]
    few = {"max_bootstrapped_demos": 2, "max_labeled_demos": 2}
    student = dspy.Predict("input -> output")
    with dspy.context(lm=ScriptedLM(lambda r: f"[[ ## output ## ]] {r.messages[-1].text.split()[-1]}")):
        search = dspy.BootstrapFewShotWithRandomSearch(metric=metric, num_candidate_programs=2, num_threads=2, **few)
        best = search.compile(student, trainset=trainset[:19], valset=trainset[19:])
        knn = dspy.KNNFewShot(k=2, trainset=trainset, vectorizer=dspy.Embedder(lambda t: [[len(x), 1] for x in t]))
        picked = knn.compile(student)
        voting = dspy.Ensemble(reduce_fn=dspy.majority).compile([best, picked, student])
        assert voting(input="7").output == "7"
    assert dspy.BootstrapRS is dspy.BootstrapFewShotWithRandomSearch


def test_parallel_and_nearest_examples():
    trainset = [dspy.Example(input=w, output=w.upper()).with_inputs("input") for w in ("hello", "goodbye")]
    knn = dspy.KNN(k=1, trainset=trainset, vectorizer=lambda texts: [[t.count("l"), t.count("o")] for t in texts])
    assert knn(input="hell")[0].output == "HELLO"
    predict = dspy.Predict("input -> output")
    with dspy.context(lm=ScriptedLM(lambda request: "[[ ## output ## ]] x")):
        results, failed, errors = dspy.Parallel(num_threads=2, return_failed_examples=True)(
            [(predict, trainset[0]), (predict, {"wrong": 1})]
        )
    assert [r and r.output for r in results] == ["x", None]
    assert (failed, [type(e) for e in errors]) == ([{"wrong": 1}], [dspy.InputError])
