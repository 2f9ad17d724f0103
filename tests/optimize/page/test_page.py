"""The report as a page: what it says, that it needs nothing, and that no text of the data gets out of its place."""

from html.parser import HTMLParser

import pytest

import tuneful as tf
from tuneful.optimize.page.html import escaped, tag
from tuneful.optimize.page.page import page
from tuneful.testing import ScriptedLM

HOSTILE = "</pre></style><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' &lt; \ud83d \x00"


class Parsed(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def compiled(rows, metric, landscape):
    with tf.context(lm=landscape(0.3, 0.8)):
        return tf.BootstrapFewShotWithRandomSearch(metric=metric, num_candidate_programs=3).compile(
            tf.Predict("question -> answer"), trainset=rows(40), valset=rows(60, start=500), seed=3
        )


def test_the_page_holds_verdict_rows_curve_tree_diff_demos_costs_and_words(compiled):
    report = compiled.report
    found = Parsed(page(report))

    assert report.advice[1:] in found.text
    assert found.text.index(report.advice[1:]) < found.text.index("Row by row")
    for said in ("wins and", "Prompts", "Demos", "The search", "Candidates", "Cost", "Warnings", "Words"):
        assert said in found.text
    assert [v for k, v in found.attributes if k == "data-kind"].count("win") == report.comparison.wins
    assert found.tags.count("circle") == len(report.evidence.curve)
    assert f"candidate {report.evidence.tried[0].number}" in found.text
    assert "training row" in found.text or "labelled row" in found.text
    assert "+ [assistant]" in found.text


def test_the_page_needs_no_network_and_runs_only_its_own_script(compiled):
    found = Parsed(page(compiled.report))

    assert not {"link", "img", "iframe", "object", "base"} & set(found.tags)
    assert not [v for k, v in found.attributes if k in ("src", "href", "action")]
    assert found.tags.count("script") == found.tags.count("style") == 1
    assert any("default-src 'none'" in (v or "") for k, v in found.attributes if k == "content")


@pytest.mark.filterwarnings("ignore:.*have the same inputs")  # the rows are much alike
def test_hostile_text_in_rows_outputs_prompts_and_errors_stays_text(tmp_path):
    def script(request):
        if "explode" in request.messages[-1].content:
            raise ZeroDivisionError(HOSTILE)
        return f"[[ ## answer ## ]] {HOSTILE}"

    def right(example, prediction, trace=None):
        return tf.Score(float("7" in example.question), feedback=HOSTILE)

    rows = [
        tf.Example(question=f"{'explode' if i % 5 == 4 else ''} {HOSTILE} {i}", answer=HOSTILE).with_inputs("question")
        for i in range(60)
    ]
    program = tf.Predict(tf.Signature("question -> answer", HOSTILE))
    with tf.context(lm=ScriptedLM(script)):
        compiled = tf.BootstrapFewShot(metric=right).compile(program, trainset=rows[:30], valset=rows[30:])
    compiled.report.save(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = Parsed(text)

    assert found.tags.count("script") == found.tags.count("style") == 1
    assert "img" not in found.tags
    assert not [k for k, _ in found.attributes if k.startswith("on")]
    assert "<script>alert(1)</script>" in found.text  # as text, where people read it
    assert not [c for c in text if c < " " and c not in "\n\t"]

    compiled.save(tmp_path / "program.json")  # half a character in its demos and instructions
    loaded = tf.Predict("question -> answer").load(tmp_path / "program.json")
    assert loaded.signature.instructions == HOSTILE
    assert loaded.parameters()["demos"].value == compiled.parameters()["demos"].value


def test_a_report_without_comparison_search_or_demos_is_a_page_too(rows, metric, landscape):
    with tf.context(lm=landscape(0.0, 0.0)):
        nothing = tf.BootstrapFewShot(metric=metric, max_labeled_demos=0).compile(
            tf.Predict("question -> answer"), trainset=rows(30)
        )
        small = tf.LabeledFewShot(k=2).compile(tf.Predict("question -> answer"), trainset=rows(3))

    assert "nothing was learned" in page(nothing.report).lower()
    assert "not validated" in page(small.report).lower()


def test_escaping_is_not_left_to_who_writes():
    assert tag("p", ["<b>", tag("b", "&")], title='"<') == '<p title="&quot;&lt;">&lt;b&gt;<b>&amp;</b></p>'
    assert escaped(None) == ""
