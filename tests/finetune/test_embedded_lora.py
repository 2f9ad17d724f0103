"""A LoRA that is trained over the embedded model, and served by it: the same answers in both."""

import pytest

import tuneful as tf
from tuneful.backends.local.find import is_available
from tuneful.backends.transformers.chat import ChatTokens
from tuneful.finetune.training_folder import TrainingFolder
from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.program.running.portal import portal
from tuneful.wire.messages import system, user
from tuneful.wire.request import Request, Sampling

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not is_available(), reason="the embedded model is not installed"),
]

ANIMALS = {"a cat": "meow", "a dog": "woof", "a cow": "moo", "a duck": "quack", "a bee": "buzz", "a sheep": "baa"}


def messages(animal):
    return (system("Give the sound of the animal."), user(f"animal: {animal}"))


def log_probabilities(model, chat: ChatTokens, asked, answer):
    prompt, written = chat.prompt(asked), chat.answer(answer)
    with torch.inference_mode():
        chances = model(input_ids=torch.tensor([prompt + written])).logits.log_softmax(-1)[0]
    return [chances[len(prompt) + i - 1, token].item() for i, token in enumerate(written)]


def greedy(model, chat: ChatTokens, asked):
    prompt = torch.tensor([chat.prompt(asked)])
    mask = torch.ones_like(prompt)
    found = model.generate(prompt, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=chat.end)
    return chat.tokenizer.decode(found[0, prompt.shape[1] :], skip_special_tokens=True)


def test_the_embedded_model_with_the_lora_answers_as_the_trainers_model_does(tmp_path, monkeypatch):
    kept = {}
    finish = TrainingFolder.finish

    def keeping(self, model, tokens, *rest):
        kept.update(model=model.eval(), chat=tokens)
        return finish(self, model, tokens, *rest)

    monkeypatch.setattr(TrainingFolder, "finish", keeping)
    data = TrainingSet(tuple(TrainingExample("", messages(a), sound) for a, sound in ANIMALS.items()))
    tuned = tf.LocalTrainer(epochs=8, batch_size=6, learning_rate=3e-3, device="cpu").train(
        data, "local/smollm2", folder=tmp_path
    )
    lm = tuned.lm(max_tokens=8, logprobs=True)

    def served(asked):
        (choice,) = portal.run(lm.complete(Request(asked, Sampling()))).choices
        return choice

    assert (tuned.model, tuned.lora) == ("local/smollm2", str(tmp_path / "lora.gguf"))
    assert tuned.history[-1].loss < 0.2 * tuned.history[0].loss
    differences = []
    for animal, sound in ANIMALS.items():
        asked = messages(animal)
        choice = served(asked)
        assert choice.text == greedy(kept["model"], kept["chat"], asked) == sound
        there = [chance for _, chance in choice.logprobs]
        here = log_probabilities(kept["model"], kept["chat"], asked, sound)
        differences += [abs(a - b) for a, b in zip(here, there, strict=False)]
    # llama.cpp multiplies quantized weights by activations of 8 bits; the trainer computes in 32.
    assert max(differences) < 0.05
    assert sum(differences) / len(differences) < 0.01
    assert tf.LM("local/smollm2", max_tokens=8)(messages=[m.to_json() for m in messages("a bee")]) != ["buzz"]
