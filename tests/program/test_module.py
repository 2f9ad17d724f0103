"""A program as a tree of parts, and the ways to run it."""

import asyncio
import collections
import sqlite3
import threading
from contextlib import closing

import pytest

import tuneful as tf
from tuneful.errors import UsageError
from tuneful.testing import DummyLM, ScriptedLM


def echo(name="answer", **options):
    """Return an LM that answers with the last word it was asked."""
    return ScriptedLM(lambda r: f"[[ ## {name} ## ]]\n{r.messages[-1].content.split()[-1]}", **options)


class Step(tf.Module):
    def __init__(self):
        self.ask = tf.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question)


class AsyncStep(tf.Module):
    def __init__(self):
        self.ask = tf.Predict("question -> answer")

    async def forward(self, question):
        return await self.ask.acall(question=question)


class Nested(tf.Module):
    def __init__(self):
        self.direct = tf.Predict("a -> b")
        self.listed = [tf.Predict("a -> b"), [Step()]]
        self.paired = (tf.Predict("a -> b"), Step())
        self.named = {"x": tf.Predict("a -> b"), "with.dot]'\"": Step(), 3: tf.Predict("a -> b")}
        self.shared = self.direct
        self._private = tf.Predict("a -> b")
        self.number = 7


PATHS = [
    "direct",
    "listed[0]",
    "listed[1][0].ask",
    "paired[0]",
    "paired[1].ask",
    "named['x']",
    "named['with.dot]\\'\"'].ask",
    "named[3]",
    "_private",
]


# --- the tree ---


def test_parts_are_found_in_attributes_lists_tuples_and_dicts_at_any_depth():
    assert [path for path, _ in Nested().named_predictors()] == PATHS


def test_a_shared_part_counts_once():
    program = Nested()
    assert program.predictors().count(program.direct) == 1
    program.ring = program
    assert [path for path, _ in program.named_predictors()] == PATHS


def test_the_program_itself_is_the_first_sub_module():
    program = Step()
    assert program.named_sub_modules() == [("", program), ("ask", program.ask)]


def test_a_lone_predictor_is_a_program():
    predictor = tf.Predict("a -> b")
    assert predictor.named_predictors() == [("", predictor)]


def test_a_part_added_later_counts():
    program = Step()
    program.later = tf.Predict("a -> b")
    assert [path for path, _ in program.named_predictors()] == ["ask", "later"]


def test_map_named_predictors_replaces_every_one_wherever_it_is_used():
    program = Nested()
    made = {}

    def replaced(predictor):
        made[id(predictor)] = new = tf.Predict("c -> d")
        return new

    assert program.map_named_predictors(replaced) is program
    assert [path for path, _ in program.named_predictors()] == PATHS
    assert {str(p.signature) for p in program.predictors()} == {"c -> d"}
    assert len(made) == len(PATHS)
    assert program.shared is program.direct
    assert isinstance(program.paired, tuple)


def test_map_named_predictors_keeps_the_kind_of_a_named_tuple():
    Pair = collections.namedtuple("Pair", "one two")  # noqa: PYI024
    program = tf.Module()
    program.pair = Pair(tf.Predict("a -> b"), 5)
    program.map_named_predictors(lambda p: tf.Predict("c -> d"))
    assert str(program.pair.one.signature) == "c -> d"
    assert program.pair.two == 5


def test_map_named_predictors_of_a_lone_predictor_returns_its_replacement():
    new = tf.Predict("c -> d")
    assert tf.Predict("a -> b").map_named_predictors(lambda p: new) is new


def test_super_init_is_optional():
    class Bare(tf.Module):
        def __init__(self):
            self.k = tf.Choice([1, 2])

    assert Bare().k == 1


def test_an_unknown_attribute_names_the_nearest():
    with pytest.raises(AttributeError, match="Did you mean `ask`"):
        Step().aks


def test_the_repr_shows_numbers_and_predictors():
    program = Step()
    program.k = tf.Integer(1, 5, default=2)
    assert repr(program).splitlines() == ["Step(", "  k = 2  # integer", "  ask = Predict('question -> answer')", ")"]


# --- copies ---


def test_a_deep_copy_shares_nothing_that_can_change_but_the_lm():
    lm = DummyLM([])
    program = Nested()
    program.k = tf.Choice([1, 2])
    program.direct.demos = [{"a": "1", "b": "2"}]
    program.set_lm(lm)
    copy = program.deepcopy()
    copy.direct.demos[0]["b"] = "changed"
    copy.direct.signature = copy.direct.signature.with_instructions("Changed.")
    copy.listed.append(tf.Predict("c -> d"))
    copy.k = 2
    assert program.direct.demos == [{"a": "1", "b": "2"}]
    assert program.direct.signature.instructions != "Changed."
    assert len(program.listed) == 2
    assert program.k == 1
    assert copy.shared is copy.direct
    assert copy.direct.lm is lm


def test_a_program_with_a_retriever_can_be_copied():
    lock = threading.Lock()

    class Connected:
        def __init__(self):
            self.lock = lock

        def __call__(self, query, k):
            return ["passage"][:k]

    program = tf.Module()
    program.index = tf.BM25(["one passage"])
    program.find = tf.Retrieve(rm=Connected())
    copy = program.deepcopy()
    assert copy.find is not program.find
    assert copy.find.rm is program.find.rm
    assert copy.index("passage") == ["one passage"]
    assert program.using(temperature=0.5).find("x").passages == ["passage"]


def test_a_reset_copy_drops_demos_and_keeps_the_rest():
    program = Step()
    program.k = tf.Choice([1, 2])
    program.k = 2
    program.ask.demos = [{"question": "a", "answer": "b"}]
    program.ask.signature = program.ask.signature.with_instructions("Own words.")
    reset = program.reset_copy()
    assert reset.ask.demos == []
    assert reset.ask.signature.instructions == "Own words."
    assert reset.k == 2
    assert len(program.ask.demos) == 1


class Shop:
    """What a user's program may hold: a connection, and a list."""

    def __init__(self):
        self.connection = sqlite3.connect(":memory:")
        self.sold = []


class Seller(tf.Module):
    def __init__(self, shop):
        self.shop = shop
        self.same = shop
        self.prices = {"pen": [1]}
        self.answer = tf.Predict("question -> answer")


def test_copies_share_what_cannot_be_copied_and_nothing_else():
    with closing(sqlite3.connect(":memory:")) as shop:
        program = Seller(shop)
        copy = program.deepcopy()
        assert copy.shop is copy.same is shop
        assert copy.prices == program.prices
        assert copy.prices["pen"] is not program.prices["pen"]
        assert copy.answer is not program.answer


def test_what_holds_something_that_cannot_be_copied_is_shared_whole():
    shop = Shop()
    with closing(shop.connection):
        copy = Seller(shop).using(temperature=0.5)
        assert copy.shop is copy.same is shop


def test_modules_beside_something_that_cannot_be_copied_are_a_usage_error():
    with closing(sqlite3.connect(":memory:")) as shop:
        program = Seller([shop, tf.Predict("question -> answer")])
        with pytest.raises(UsageError, match=r"`shop` of Seller.*attributes of their own"):
            program.deepcopy()


def test_using_binds_a_copy_and_leaves_the_program_alone():
    lm = echo()
    program = Step()
    bound = program.using(lm=lm, adapter="chat", temperature=0.3)
    assert (program.ask.lm, program.ask.adapter, program.ask.sampling.temperature) == (None, None, None)
    assert (bound.ask.lm, bound.ask.adapter, bound.ask.sampling.temperature) == (lm, "chat", 0.3)
    assert bound(question="why").answer == "why"


def test_using_leaves_what_is_not_given():
    lm = echo()
    bound = Step().using(lm=lm, temperature=0.3).using(max_tokens=5)
    assert bound.ask.lm is lm
    assert (bound.ask.sampling.temperature, bound.ask.sampling.max_tokens) == (0.3, 5)


def test_an_unknown_sampling_option_is_a_usage_error():
    with pytest.raises(tf.UsageError, match="Did you mean `temperature`"):
        Step().using(temprature=0.5)


def test_set_lm_reaches_every_predictor_and_get_lm_returns_it():
    program, lm = Nested(), echo()
    assert program.get_lm() is None
    program.set_lm(lm)
    assert {id(p.lm) for p in program.predictors()} == {id(lm)}
    assert program.get_lm() is lm
    program.direct.lm = echo()
    with pytest.raises(tf.UsageError, match="2 different LMs"):
        program.get_lm()


# --- running ---


class Outer(tf.Module):
    def __init__(self, inner):
        self.inner = inner

    def forward(self, question):
        return self.inner(question=question)


class AsyncOuter(tf.Module):
    def __init__(self, inner):
        self.inner = inner

    async def forward(self, question):
        return await self.inner.acall(question=question)


PROGRAMS = {
    "sync": Step,
    "async": AsyncStep,
    "sync in sync": lambda: Outer(Step()),
    "async in sync": lambda: Outer(AsyncStep()),
    "sync in async": lambda: AsyncOuter(Step()),
    "async in async": lambda: AsyncOuter(AsyncStep()),
    "sync in async in sync": lambda: Outer(AsyncOuter(Step())),
    "async in sync in async": lambda: AsyncOuter(Outer(AsyncStep())),
}


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_every_nesting_runs_in_the_blocking_way(make):
    assert make().using(lm=echo())(question="why").answer == "why"


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
async def test_every_nesting_runs_with_await(make):
    assert (await make().using(lm=echo()).acall(question="why")).answer == "why"


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
async def test_every_nesting_runs_in_the_blocking_way_inside_a_running_loop(make):
    assert make().using(lm=echo())(question="why").answer == "why"


@pytest.mark.parametrize("make", PROGRAMS.values(), ids=PROGRAMS)
def test_every_nesting_runs_in_a_loop_of_another_thread(make):
    program, found = make().using(lm=echo()), []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(program.acall(question="why")).answer))
    thread.start()
    thread.join(20)
    assert found == ["why"]


async def test_a_plain_forward_does_not_hold_up_the_loop():
    class Blocking(tf.Module):
        def forward(self):
            return released.wait(10)

    released = threading.Event()
    running = asyncio.create_task(Blocking().acall())
    await asyncio.sleep(0.01)
    released.set()
    assert await running is True


@pytest.mark.parametrize("inner", [Step, AsyncStep, lambda: tf.Predict("question -> answer")])
def test_a_blocking_call_inside_an_async_forward_is_a_usage_error_and_no_hang(inner):
    class Wrong(tf.Module):
        def __init__(self):
            self.step = inner()

        async def forward(self, question):
            return self.step(question=question)

    lm = echo()
    with pytest.raises(tf.UsageError, match=r"await self\.step\.acall"):
        Wrong().using(lm=lm)(question="x")
    assert lm.requests == []


def test_a_module_without_forward_says_so():
    with pytest.raises(tf.UsageError, match="def forward"):
        tf.Module()()


@pytest.mark.parametrize("program", [Step, AsyncStep])
@pytest.mark.parametrize("wrong", [{}, {"query": "x"}, {"question": "x", "extra": 1}])
def test_wrong_arguments_are_an_input_error_before_any_call(program, wrong):
    lm = echo()
    with pytest.raises(tf.InputError, match=r"question.*No model was called"):
        program().using(lm=lm)(**wrong)
    assert lm.requests == []


def test_an_exception_of_the_users_code_comes_out_as_it_is():
    class Broken(tf.Module):
        def forward(self):
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        Broken()()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(Broken().acall())


def test_cancelling_a_program_cancels_its_call_to_the_model():
    state = []

    async def slow(request):
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            state.append("cancelled")
            raise

    async def main():
        running = asyncio.create_task(AsyncStep().using(lm=ScriptedLM(slow)).acall(question="x"))
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        for _ in range(100):
            if state:
                break
            await asyncio.sleep(0.01)

    asyncio.run(main())
    assert state == ["cancelled"]


# --- batch ---


def test_a_batch_keeps_the_order_and_the_limit():
    active, most = 0, 0

    async def answer(request):
        nonlocal active, most
        active += 1
        most = max(most, active)
        number = int(request.messages[-1].content.split()[-1])
        await asyncio.sleep(0.02 if number % 2 else 0.001)
        active -= 1
        return f"[[ ## answer ## ]]\n{number}"

    program = AsyncStep().using(lm=ScriptedLM(answer))
    rows = [tf.Example(question=str(i), answer="?").with_inputs("question") for i in range(20)]
    assert [p.answer for p in program.batch(rows, num_threads=4)] == [str(i) for i in range(20)]
    assert most == 4


def test_the_first_failure_of_a_batch_is_raised():
    program = Step().using(lm=ScriptedLM(lambda r: tf.LMAuthError("no")))
    with pytest.raises(tf.LMAuthError):
        program.batch([{"question": "x"}] * 3)


def test_a_batch_can_return_its_failures_beside_its_results():
    def answer(request):
        text = request.messages[-1].content.split()[-1]
        return tf.LMAuthError("no") if text == "bad" else f"[[ ## answer ## ]]\n{text}"

    rows = [{"question": "a"}, {"question": "bad"}, {"question": "c"}]
    results, failed, errors = Step().using(lm=ScriptedLM(answer)).batch(rows, return_failed_examples=True)
    assert [r and r.answer for r in results] == ["a", None, "c"]
    assert failed == [rows[1]]
    assert [type(e) for e in errors] == [tf.LMAuthError]


def test_a_batch_of_examples_without_inputs_is_a_data_error_before_any_call():
    lm = echo()
    with pytest.raises(tf.DataError, match="with_inputs"):
        Step().using(lm=lm).batch([tf.Example(question="x")])
    assert lm.requests == []


def test_freezing_what_does_not_exist_is_an_error():
    with pytest.raises(tf.UsageError, match="Did you mean `instructions`"):
        tf.Predict("question -> answer").freeze("instruction")
