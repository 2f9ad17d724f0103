"""The loss of answers is the same however the examples are put together."""

import pytest

from tuneful.finetune.encoding import Encoded

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread")]

from tuneful.finetune.objective import Objective  # noqa: E402

EXAMPLES = [
    Encoded([5, 6, 7, 8, 9, 10], [11, 2]),
    Encoded([5, 6, 7, 12], [13, 14, 15, 2]),
    Encoded([5, 6, 7, 16, 17], [2]),
    Encoded([5, 6, 7, 8], [18, 19, 2]),
]


def llama(**more):
    from transformers import LlamaConfig, LlamaForCausalLM

    return made(LlamaForCausalLM, LlamaConfig(**SMALL, num_attention_heads=4, num_key_value_heads=2, **more))


def made(kind, config):
    torch.manual_seed(0)
    return kind(config).eval()


SMALL = {"vocab_size": 40, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}


def objective(model, tokens_at_once=4096):
    return Objective(model, pad=0, dtype=torch.float32, tokens_at_once=tokens_at_once, longest=10)


def by_hand(model, example):
    """The loss of one example, as the definition has it."""
    row = torch.tensor([example.prompt + example.answer])
    chances = model(input_ids=row).logits.log_softmax(-1)[0]
    start = len(example.prompt)
    return -sum(chances[start + i - 1, token] for i, token in enumerate(example.answer))


def gradients(model, examples, way):
    model.zero_grad()
    loss = sum(way(part) for part in examples)
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("tokens", [4096, 14])
def test_examples_in_one_row_have_loss_and_gradients_of_each_alone(attention, tokens):
    model = llama(attn_implementation=attention)
    together = objective(model, tokens)
    parts = together.parts(EXAMPLES)
    loss, gradient = gradients(model, parts, together.loss)
    expected, alone = gradients(model, EXAMPLES, lambda e: by_hand(model, e))

    assert together._in_rows
    assert len(parts) == (1 if tokens == 4096 else 2)
    assert loss == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(gradient, alone, rtol=1e-4, atol=1e-6)


def test_equal_prompts_with_other_answers_share_all_but_their_last_token():
    model = llama()
    both = [Encoded([5, 6, 7], [8, 2]), Encoded([5, 6, 7], [9, 10, 2]), Encoded([4], [2])]

    assert objective(model).loss(both).item() == pytest.approx(sum(by_hand(model, e).item() for e in both), rel=1e-6)
    together = objective(model)
    assert together.loss(together.parts(both)[0]).item() == pytest.approx(
        sum(by_hand(model, e).item() for e in both), rel=1e-6
    )


def bloom():
    from transformers import BloomConfig, BloomForCausalLM

    return made(BloomForCausalLM, BloomConfig(vocab_size=40, hidden_size=32, n_layer=2, n_head=4))


def stubborn():
    """A model that is told positions and counts by itself."""
    from transformers import LlamaForCausalLM

    class Stubborn(LlamaForCausalLM):
        def forward(self, input_ids=None, position_ids=None, **more):
            return super().forward(input_ids=input_ids, **more)

    return made(Stubborn, llama().config)


def windowed():
    """A model whose tokens do not see as far as the longest example reaches."""
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(**SMALL, num_attention_heads=4, num_key_value_heads=2, sliding_window=4)
    return made(MistralForCausalLM, config)


@pytest.mark.parametrize("make", [bloom, stubborn, windowed])
def test_a_model_that_rows_do_not_suit_gets_one_example_a_row(make):
    model = make()
    rows = objective(model)
    parts = rows.parts(EXAMPLES)

    assert rows._in_rows is False
    assert sum(rows.loss(p).item() for p in parts) == pytest.approx(
        sum(by_hand(model, e).item() for e in EXAMPLES), rel=1e-5
    )


def test_a_model_that_is_trained_stays_so_when_rows_are_tried_out():
    model = llama().train()
    objective(model).parts(EXAMPLES)

    assert model.training


def test_examples_of_other_groups_are_not_in_one_row():
    model = llama()
    mixed = [Encoded([5, 6, 7], [8, 2], "a"), Encoded([9, 10], [2], "b"), Encoded([5, 6, 8], [2], "a")]

    assert [[e.group for e in p] for p in objective(model).parts(mixed)] == [["a", "a"], ["b"]]


def test_an_encoder_decoder_is_not_disturbed_by_padding():
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)
    model = made(T5ForConditionalGeneration, config)
    both = objective(model)

    expected = sum(
        model(input_ids=torch.tensor([e.prompt]), labels=torch.tensor([e.answer])).loss.item() * len(e.answer)
        for e in EXAMPLES
    )
    assert both.parts(EXAMPLES) == [sorted(EXAMPLES, key=lambda e: -len(e))]
    assert both.loss(EXAMPLES).item() == pytest.approx(expected, rel=1e-5)
