"""What a training must hold to: goes on after a kill as if nothing had been, and is served as it was trained.

    python bench/training.py [--parts kill,t5,lora] [--folder .tuneful/bench-training]

kill: a LoRA over SmolLM2 is trained in a process that is killed (SIGKILL) after half of its steps; the same call goes
    on. The curve beside that of a training that nobody killed. The LoRA has dropout, so every step holds chance.
t5: a tiny encoder-decoder learns a task from random weights; held-out rows, after it was saved and read again.
lora: the embedded model with the LoRA of `kill`, against the trainer's own model: answers and log probabilities.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

import tuneful as tf
from tuneful.backends.transformers.chat import ChatTokens
from tuneful.backends.transformers.quiet import quiet
from tuneful.finetune import TrainingExample, TunedModel
from tuneful.finetune.base_model import find_base
from tuneful.program.running.portal import portal
from tuneful.wire.messages import system, user
from tuneful.wire.request import Request, Sampling

SOUNDS = {
    "cat": "meow", "dog": "woof", "cow": "moo", "duck": "quack", "bee": "buzz", "sheep": "baa", "lion": "roar",
    "snake": "hiss", "owl": "hoot", "pig": "oink", "horse": "neigh", "mouse": "squeak", "frog": "croak", "crow": "caw",
}  # fmt: skip
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def asked(words):
    return (system("Give the sound of the animal."), user(words))


def sounds():
    """Return 28 examples in two wordings."""
    words = ("animal: a {}", "animal: my old {}")
    return tf.TrainingSet(
        tuple(TrainingExample("", asked(w.format(name)), sound) for w in words for name, sound in SOUNDS.items())
    )


def lora_trainer():
    return tf.LocalTrainer(
        tf.LoRA(dropout=0.1), epochs=3, batch_size=7, learning_rate=2e-3, checkpoint_every_s=0, device="cpu", threads=1
    )


def train_sounds(folder, after=None):
    """Train; with `after`, this process is killed after so many steps."""

    def told(point):
        if point.step == after:
            os.kill(os.getpid(), signal.SIGKILL)

    learned, held_out = sounds().split(0.15)
    return lora_trainer().train(learned, "local/smollm2", folder=folder, held_out=held_out, progress=told)


# --- killed, and gone on ---


def kill(folder):
    whole = train_sounds(folder / "whole")
    started = time.monotonic()
    half = len([p for p in whole.history if p.loss is not None]) // 2
    words = [sys.executable, __file__, "--folder", str(folder), "--die", str(half)]
    dead = subprocess.run(words, check=False).returncode
    left = checkpoint_of(folder / "killed")
    goes_on = train_sounds(folder / "killed")
    print(
        f"killed after step {half} with status {dead}; gone on after step {left} in {time.monotonic() - started:.0f} s"
    )
    print(f"{'step':>6}{'loss':>12}{'killed':>12}{'held out':>12}{'killed':>12}")
    apart = []
    for one, two in zip(whole.history, goes_on.history, strict=True):
        pairs = [(one.loss, two.loss), (one.held_out_loss, two.held_out_loss)]
        print(f"{one.step:>6}" + "".join(f"{'' if x is None else f'{x:.6f}':>12}" for pair in pairs for x in pair))
        apart += [abs(a - b) for a, b in pairs if a is not None]
    print(
        f"largest difference {max(apart):g} over {len(apart)} losses; weights equal: {whole.digest == goes_on.digest}\n"
    )


def checkpoint_of(folder):
    """Return the step of the checkpoint that a killed training has left."""
    from tuneful.finetune import checkpoint

    file = folder / "checkpoint.safetensors"
    return checkpoint.read(file)[1]["step"] if file.exists() else 0


# --- an encoder-decoder from nothing ---


def tiny_t5(folder):
    from transformers import ByT5Tokenizer, T5Config

    tokenizer = ByT5Tokenizer(extra_ids=0)
    tokenizer.save_pretrained(folder)
    T5Config(
        vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", decoder_start_token_id=0,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def counting():
    """Return 324 examples: which number a text begins with, in words."""
    things = ("apples", "red pears", "big dogs", "cats")
    owners = ("Ann", "Bob", "Eve", "my aunt", "the king", "nobody", "us", "Dr Who", "a friend")
    texts = [(f"{i + 1} {t} of {o}", NUMBERS[i]) for t in things for o in owners for i in range(9)]
    return tf.TrainingSet(tuple(TrainingExample("", (system("Say the number."), user(x)), y) for x, y in texts))


def t5(folder):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    learned, held_out = counting().split(0.2)
    base = f"random/{tiny_t5(folder / 'config')}"
    trainer = tf.LocalTrainer(lora=False, epochs=8, learning_rate=5e-3, device="cpu", threads=1)
    tuned = trainer.train(learned, base, folder=folder / "t5", held_out=held_out)
    out = [p.held_out_loss for p in tuned.history if p.held_out_loss is not None]
    last = tuned.history[-1]
    weights = dict(tuned.notes)["trained_weights"]
    print(f"{len(learned)} examples, {last.step} steps in {last.seconds:.0f} s, {weights:,} weights")
    print(f"held-out loss {out[0]:.3f} to {min(out):.4f}: " + " ".join(f"{x:.3f}" for x in out))

    place = tuned.model.removeprefix("transformers/")
    chat = ChatTokens(AutoTokenizer.from_pretrained(place), encoder_decoder=True)
    with quiet():
        model = AutoModelForSeq2SeqLM.from_pretrained(place).eval()

    def own(example):
        prompt = torch.tensor([chat.prompt(example.messages)])
        found = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False)
        return chat.tokenizer.decode(found[0], skip_special_tokens=True)

    lm = TunedModel.load(folder / "t5" / "tuned_model.json").lm(max_tokens=12, device="cpu", threads=1)
    served = [answer(lm, e.messages).text for e in held_out]
    right = sum(text == e.completion for text, e in zip(served, held_out, strict=True))
    same = sum(text == own(e) for text, e in zip(served, held_out, strict=True))
    n = len(held_out)
    print(f"held-out rows right: {right} of {n}; served as transformers generates: {same} of {n}\n")


def answer(lm, messages):
    return portal.run(lm.complete(Request(messages, Sampling()))).choices[0]


# --- the LoRA in llama.cpp, and in the trainer ---


def lora(folder):
    tuned = train_sounds(folder / "whole")  # from the folder, where it is trained already
    model, chat = find_base("local/smollm2").load(dtype=torch.float32)
    with quiet():
        model.load_adapter(str(folder / "whole" / "model"))
    model.eval()
    lm = tuned.lm(max_tokens=8, logprobs=True, cache=False)
    prompts = {
        "trained": [e.messages for e in sounds()],
        "unseen wording": [asked(f"animal: the neighbour's {name}") for name in SOUNDS],
        "unseen animals": [
            asked(f"animal: a {name}") for name in ("wolf", "hen", "cricket", "bear", "goose", "donkey")
        ],
    }
    print(f"{'prompts':<16}{'n':>4}{'equal answers':>15}{'tokens':>8}{'mean log p apart':>18}{'most':>8}")
    for name, asks in prompts.items():
        equal, apart = 0, []
        for messages in asks:
            found = answer(lm, messages)
            equal += found.text == greedy(model, chat, messages)
            here = log_probabilities(model, chat, messages, found.text)
            if [t for t, _ in here][: len(found.logprobs)] == [
                t for t, _ in found.logprobs
            ]:  # cut into the same tokens
                apart += [abs(a - b) for (_, a), (_, b) in zip(here, found.logprobs, strict=False)]
        print(f"{name:<16}{len(asks):>4}{equal:>15}{len(apart):>8}{sum(apart) / len(apart):>18.4f}{max(apart):>8.3f}")


def greedy(model, chat, messages):
    prompt = torch.tensor([chat.prompt(messages)])
    mask = torch.ones_like(prompt)
    found = model.generate(prompt, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=chat.end)
    return chat.tokenizer.decode(found[0, prompt.shape[1] :], skip_special_tokens=True)


def log_probabilities(model, chat, messages, text):
    prompt, written = chat.prompt(messages), chat.answer(text)
    with torch.inference_mode():
        chances = model(input_ids=torch.tensor([prompt + written])).logits.log_softmax(-1)[0]
    words = [chat.tokenizer.decode([token]) for token in written]
    return [
        (word, chances[len(prompt) + i - 1, t].item()) for i, (t, word) in enumerate(zip(written, words, strict=True))
    ]


PARTS = {"kill": kill, "t5": t5, "lora": lora}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--folder", type=Path, default=Path(".tuneful/bench-training"))
    parser.add_argument("--die", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.die:
        train_sounds(given.folder / "killed", after=given.die)
        return
    parts = given.parts.split(",")
    if "kill" in parts:
        shutil.rmtree(given.folder, ignore_errors=True)
    for name in parts:
        print(f"--- {name}")
        PARTS[name](given.folder)


if __name__ == "__main__":
    main()
