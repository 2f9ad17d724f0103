"""One list of passages from several retrievers."""

import asyncio

import pytest

import tuneful as tf


def fixed(*passages):
    return lambda query, k: list(passages)[:k]


async def test_ranks_are_fused_by_the_formula_and_retrievers_are_of_any_kind():
    async def second(query, k):
        return ["b", "d", "a"]

    find = tf.Hybrid([fixed("a", "b", "c"), second, tf.Retrieve(rm=fixed("c"))], k=9)
    found = (await find.acall("q")).passages
    scores = {"a": 1 / 61 + 1 / 63, "b": 1 / 62 + 1 / 61, "c": 1 / 63 + 1 / 61, "d": 1 / 62}
    assert {p: p.score for p in found} == pytest.approx(scores)
    assert found == sorted(scores, key=lambda p: -scores[p])


def test_weights_count():
    assert tf.Hybrid([fixed("a"), fixed("b")])("q").passages == ["a", "b"]
    assert tf.Hybrid([fixed("a"), fixed("b")], weights=[1, 2])("q").passages == ["b", "a"]
    assert tf.Hybrid([fixed("a", "b"), fixed("c", "b")], weights=[1, 0], k=1)("q").passages == ["a"]


def test_one_passage_is_one_by_its_text_or_by_an_id_that_is_a_text():
    def passages(*pairs):
        return lambda query, k: [tf.Passage(text, id=id_) for text, id_ in pairs]

    same = tf.Hybrid([passages(("long text", "x"), ("other", "y")), passages(("long", "x"))])("q").passages
    assert [(p.text, p.id) for p in same] == [("long text", "x"), ("other", "y")]
    by_text = tf.Hybrid([passages(("a", 0)), passages(("a", 7)), fixed("a")])("q").passages
    assert by_text == ["a"]
    assert by_text[0].score == pytest.approx(3 / 61)
    positions = tf.Hybrid([passages(("a", 0)), passages(("b", 0))])("q").passages
    assert positions == ["a", "b"]


def test_a_retriever_that_repeats_itself_counts_once():
    assert tf.Hybrid([fixed("a", "b", "b", "b")])("q").passages == ["a", "b"]


def test_each_is_asked_for_more_than_is_returned():
    asked = []

    def counting(query, k):
        asked.append(k)
        return ["a", "b", "c"]

    find = tf.Hybrid([counting], k=2, k0=30)
    assert find("q").passages == ["a", "b"]
    find("q", k=40)
    assert asked == [30, 40]


async def test_they_are_asked_at_the_same_time():
    together = asyncio.Barrier(2)

    async def waiting(query, k):
        await together.wait()
        return ["a"]

    async with asyncio.timeout(20):
        assert (await tf.Hybrid([waiting, waiting]).acall("q")).passages == ["a"]


def test_one_that_raises_is_a_typed_error():
    def breaking(query, k):
        raise OSError("gone")

    with pytest.raises(tf.RetrieverError, match="gone"):
        tf.Hybrid([fixed("a"), breaking])("q")


@pytest.mark.parametrize(
    ("retrievers", "options"),
    [
        ([], {}),
        ([3], {}),
        ([fixed("a")], {"weights": [1, 2]}),
        ([fixed("a")], {"weights": [-1]}),
        ([fixed("a")], {"weights": [0]}),
        ([fixed("a")], {"weights": ["1"]}),
        ([fixed("a")], {"weights": [float("nan")]}),
        ([fixed("a")], {"k": 0}),
        ([fixed("a")], {"k0": 0}),
        ([fixed("a")], {"damping": -1}),
    ],
)
def test_settings_are_checked(retrievers, options):
    with pytest.raises(tf.UsageError):
        tf.Hybrid(retrievers, **options)


def test_its_numbers_are_tunable():
    find = tf.Hybrid([fixed(*"abcdef")], k=tf.Integer(1, 5, default=2), damping=tf.Real(0.0, 100.0, default=60.0))
    assert {*find.parameters()} == {"k", "damping"}
    assert len(find.with_parameters({"k": 4})("q").passages) == 4
