"""Training on this machine, with models so small that they learn in seconds."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

import tuneful as tf
from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.finetune.tuned_model import TunedModel
from tuneful.program.running.portal import portal
from tuneful.wire.messages import user
from tuneful.wire.request import Request, Sampling

torch = pytest.importorskip("torch")
pytest.importorskip("peft")


def trainer(**more):  # one thread: tiny models are slower in several, which wait for one another
    return tf.LocalTrainer(**{"lora": False, "learning_rate": 3e-3, "device": "cpu", "threads": 1, **more})


def losses(tuned):
    return [(p.step, p.loss, p.held_out_loss) for p in tuned.history]


def written(tuned, examples):
    """What a tuned checkpoint writes, greedily, for the prompts of some examples."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    from tuneful.backends.transformers.chat import ChatTokens

    folder = tuned.model.removeprefix("transformers/")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder_decoder = not tokenizer.chat_template
    model = (AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM).from_pretrained(folder)
    chat = ChatTokens(tokenizer, encoder_decoder=encoder_decoder)
    found = []
    for example in examples:
        prompt = torch.tensor([chat.prompt(example.messages)])
        mask = torch.ones_like(prompt)
        answer = model.generate(prompt, attention_mask=mask, max_new_tokens=12, do_sample=False)[0]
        own = answer if encoder_decoder else answer[prompt.shape[1] :]
        found.append(tokenizer.decode(own, skip_special_tokens=True))
    return found


def answer_of(lm, example):
    return portal.run(lm.complete(Request(example.messages, Sampling()))).choices[0]


# --- settings and bases: nothing is computed ---


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"learning_rate": -1},
        {"batch_size": 2.5},
        {"max_tokens": 0},
        {"tokens_at_once": True},
        {"warmup": 1},
        {"weight_decay": -0.1},
        {"max_grad_norm": 0},
        {"held_out_per_epoch": 0},
        {"patience": 0},
        {"threads": 0},
        {"checkpoint_every_s": -1},
        {"dtype": "int8"},
        {"lora": "yes"},
    ],
)
def test_a_setting_out_of_range_is_named(wrong):
    (name,) = wrong
    with pytest.raises(tf.UsageError, match=f"`{name}` is"):
        tf.LocalTrainer(**wrong)


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"alpha": 0}, {"dropout": 1}])
def test_a_setting_of_lora_out_of_range_is_named(wrong):
    (name,) = wrong
    with pytest.raises(tf.UsageError, match=f"`{name}` is"):
        tf.LoRA(**wrong)


def test_settings_are_json_and_hold_what_decides_the_result():
    one = tf.LocalTrainer(tf.LoRA(rank=4, targets=["q_proj"]))

    assert json.loads(json.dumps(one.settings()))["lora"]["rank"] == 4
    assert one.settings() != tf.LocalTrainer(tf.LoRA(rank=8, targets=["q_proj"])).settings()
    assert tf.LocalTrainer().settings() == tf.LocalTrainer(tokens_at_once=64, checkpoint_every_s=1).settings()


def test_a_lora_over_random_weights_could_not_be_served(tiny_llama):
    with pytest.raises(tf.UsageError, match="nobody else has those weights"):
        tf.LocalTrainer().check(f"random/{tiny_llama}")


def test_a_device_that_is_not_there_is_a_typed_error(tiny_llama):
    with pytest.raises(tf.UsageError, match="`device` is 'cuda:77'"):
        trainer(device="cuda:77").check(f"random/{tiny_llama}")


def test_nothing_to_learn_from_is_an_error_with_its_counts(tiny_llama, tmp_path):
    with pytest.raises(tf.DataError, match="metric below threshold 3"):
        trainer().train(TrainingSet((), {"metric below threshold": 3}), f"random/{tiny_llama}", folder=tmp_path / "new")
    assert not (tmp_path / "new").exists()


# --- learning ---


@pytest.mark.model
@pytest.mark.parametrize("architecture", ["tiny_llama", "tiny_t5"])
def test_a_task_is_learned_from_random_weights_saved_and_read_again(architecture, request, all_counting, tmp_path):
    learned, held_out = all_counting.split(0.1)
    base = f"random/{request.getfixturevalue(architecture)}"
    tuned = trainer(epochs=6, learning_rate=5e-3).train(learned, base, folder=tmp_path, held_out=held_out)

    before, *_, after = [p.held_out_loss for p in tuned.history if p.held_out_loss is not None]
    right = [e.completion for e in held_out]
    answers = written(tuned, held_out)
    lm = tuned.lm(max_tokens=12, device="cpu", threads=1)
    served = [c.text for c in map(partial(answer_of, lm), held_out)]
    assert after < 0.2 * before
    assert served == answers
    assert sum(a == r for a, r in zip(answers, right, strict=True)) >= 0.8 * len(right), list(zip(answers, right))
    assert TunedModel.load(tmp_path / "tuned_model.json") == tuned
    assert TrainingSet.load(tmp_path / "train.jsonl").examples == learned.examples
    assert not list(tmp_path.glob("*.safetensors"))  # checkpoints of what is done are gone


@pytest.mark.model
def test_a_lora_learns_beside_frozen_weights_and_lies_in_a_folder_as_peft_writes_it(tiny_llama, counting, tmp_path):
    from transformers import AutoModelForCausalLM

    base = trainer(epochs=1).train(counting, f"random/{tiny_llama}", folder=tmp_path / "base")
    more = tf.LoRA(rank=4, dropout=0.1)
    tuned = trainer(lora=more, epochs=2).train(counting, base.model, folder=tmp_path / "lora")

    model = AutoModelForCausalLM.from_pretrained(base.model.removeprefix("transformers/"))
    before = model.get_input_embeddings().weight.clone()
    model.load_adapter(tuned.model.removeprefix("transformers/"))
    updates = {n: w for n, w in model.named_parameters() if "lora_" in n}
    assert tuned.history[-1].loss < tuned.history[0].loss
    assert tuned.base == base.model
    assert dict(tuned.notes)["trained_weights"] == sum(w.numel() for w in updates.values())
    assert torch.equal(model.get_input_embeddings().weight, before)
    assert all(w.abs().max() > 0 for w in updates.values())


@pytest.mark.model
def test_a_lora_over_an_encoder_decoder_is_served(tiny_t5, counting, tmp_path):
    few = TrainingSet(counting.examples[:40])
    base = trainer(epochs=1).train(counting, f"random/{tiny_t5}", folder=tmp_path / "base")
    always = TrainingSet(tuple(TrainingExample("count", e.messages, "xyz") for e in few))
    tuned = trainer(lora=True, epochs=20, learning_rate=2e-2).train(always, base.model, folder=tmp_path / "lora")

    assert [answer_of(tuned.lm(max_tokens=8, device="cpu", threads=1), e).text for e in few.examples[:3]] == ["xyz"] * 3


@pytest.mark.model
def test_the_same_seed_gives_the_same_weights(tiny_llama, counting, tmp_path):
    def of(name, seed):
        return trainer(epochs=0.5).train(counting, f"random/{tiny_llama}", folder=tmp_path / name, seed=seed)

    one, same, other = of("one", 1), of("same", 1), of("other", 2)
    assert losses(one) == losses(same)
    assert one.digest == same.digest != other.digest


@pytest.mark.model
def test_computing_in_smaller_parts_changes_nothing_but_rounding(tiny_llama, counting, tmp_path):
    whole = trainer(epochs=0.5).train(counting, f"random/{tiny_llama}", folder=tmp_path / "whole")
    parts = trainer(epochs=0.5, tokens_at_once=90, gradient_checkpointing=True).train(
        counting, f"random/{tiny_llama}", folder=tmp_path / "parts"
    )

    assert [p.loss for p in parts.history] == pytest.approx([p.loss for p in whole.history], rel=0.02)


@pytest.mark.model
def test_the_result_has_as_many_bits_as_the_base(tiny_llama, counting, tmp_path):
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    base = trainer(epochs=0.1).train(counting, f"random/{tiny_llama}", folder=tmp_path / "base")
    folder = tmp_path / "base" / "model"
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    tuned = trainer(epochs=0.1).train(counting, base.model, folder=tmp_path / "tuned")

    with safe_open(tmp_path / "tuned" / "model" / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118 (no mapping)
    assert dict(tuned.notes)["trained_weights"] > 0


@pytest.mark.model
def test_bfloat16_learns_too(tiny_llama, counting, tmp_path):
    tuned = trainer(epochs=2, dtype="bfloat16").train(counting, f"random/{tiny_llama}", folder=tmp_path)

    assert tuned.history[-1].loss < 0.5 * tuned.history[0].loss


# --- the held-out loss decides ---


@pytest.mark.model
def test_training_ends_when_the_held_out_loss_no_longer_falls_and_the_best_weights_are_kept(tiny_llama, tmp_path):
    def noise(start, stop):  # nothing that could be learned
        return TrainingSet(tuple(TrainingExample("", (user(f"{i}"),), f"{i * 7919 % 997}") for i in range(start, stop)))

    tuned = trainer(epochs=40, patience=2, held_out_per_epoch=1).train(
        noise(0, 24), f"random/{tiny_llama}", folder=tmp_path, held_out=noise(100, 124)
    )

    facts = dict(tuned.notes)
    measured = {p.step: p.held_out_loss for p in tuned.history if p.held_out_loss is not None}
    assert facts["ended_early"]
    assert facts["kept_step"] == min(measured, key=measured.get) == list(measured)[-3]
    again = trainer(epochs=0.01, learning_rate=1e-12).train(  # measures what was kept
        noise(0, 24), tuned.model, folder=tmp_path / "again", held_out=noise(100, 124)
    )
    assert again.history[0].held_out_loss == pytest.approx(min(measured.values()), rel=1e-6)


@pytest.mark.model
def test_a_training_that_only_harms_gives_the_base_back(tiny_llama, counting, tmp_path):
    learned, held_out = counting.split(0.2)
    base = trainer(epochs=4).train(learned, f"random/{tiny_llama}", folder=tmp_path / "base")
    spoilt = TrainingSet(tuple(TrainingExample("count", e.messages, "no") for e in learned))
    tuned = trainer(epochs=1).train(spoilt, base.model, folder=tmp_path / "spoilt", held_out=held_out)

    assert dict(tuned.notes)["kept_step"] == 0
    assert tuned.digest == base.digest


# --- stop, kill, go on ---


@pytest.mark.model
def test_a_training_that_is_stopped_goes_on_to_the_same_weights(tiny_llama, counting, tmp_path):
    learned, held_out = counting.split(0.1)
    heard = []

    def train(folder, **more):
        return trainer(epochs=1).train(
            learned, f"random/{tiny_llama}", folder=tmp_path / folder, held_out=held_out, **more
        )

    whole = train("whole")
    with pytest.raises(tf.TrainingStopped, match="stopped after step 0"):
        train("parts", progress=heard.append, stop=lambda: True)
    with pytest.raises(tf.TrainingStopped, match="stopped after step 7 of 18") as caught:
        train("parts", progress=heard.append, stop=lambda: len(heard) > 7)
    goes_on = train("parts", progress=heard.append)

    assert caught.value.folder == str(tmp_path / "parts")
    assert losses(goes_on) == losses(whole)
    assert goes_on.digest == whole.digest
    assert [p.step for p in heard] == list(range(19))  # no step was taken twice
    assert train("parts", progress=heard.append) == goes_on  # done: nothing is computed
    assert len(heard) == 19


_CHILD = """
import os, signal, sys
from pathlib import Path
import safetensors.torch
import tuneful as tf
from tuneful.finetune import training
from tuneful.finetune.training_set import TrainingSet

training._MOST_WRITING = 1e9  # a checkpoint at every step, however long it takes
base, folder, how, number = sys.argv[1:]
write, writes = safetensors.torch.save_file, 0

def killed(point):
    if how == "step" and point.step == int(number):
        os.kill(os.getpid(), signal.SIGKILL)

def half(tensors, name, **more):
    global writes
    writes += 1
    write(tensors, name, **more)
    if how == "write" and writes == int(number):
        os.truncate(name, os.path.getsize(name) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

safetensors.torch.save_file = half
learned, held_out = TrainingSet.load(Path(folder).parent / "data.jsonl").split(0.1)
tf.LocalTrainer(False, learning_rate=3e-3, epochs=1, checkpoint_every_s=0, device="cpu", threads=1).train(
    learned, base, folder=Path(folder), held_out=held_out, progress=killed
)
"""


@pytest.mark.model
@pytest.mark.parametrize(("how", "number"), [("step", 5), ("write", 9), ("write", 2)])
def test_a_training_that_is_killed_has_the_same_loss_curve_to_the_last_digit(tiny_t5, counting, tmp_path, how, number):
    counting.save(tmp_path / "data.jsonl", "tool")
    learned, held_out = counting.split(0.1)
    base = f"random/{tiny_t5}"
    dead = subprocess.run([sys.executable, "-c", _CHILD, base, str(tmp_path / "killed"), how, str(number)])

    def train(folder, **more):
        return trainer(epochs=1).train(learned, base, folder=tmp_path / folder, held_out=held_out, **more)

    heard = []
    goes_on, whole = train("killed", progress=heard.append), train("whole")
    assert dead.returncode == -signal.SIGKILL
    assert losses(goes_on) == losses(whole)
    assert goes_on.digest == whole.digest
    assert 0 < len(heard) < len(whole.history) or number == 2  # it did go on


@pytest.mark.model
def test_a_folder_with_another_training_is_left_alone(tiny_llama, counting, tmp_path):
    few = TrainingSet(counting.examples[:8])
    done = trainer(epochs=1).train(few, f"random/{tiny_llama}", folder=tmp_path)

    for changed, named in [({"seed": 1}, "seed"), ({"dataset": counting}, "training set")]:
        with pytest.raises(tf.StateError, match=f"another training: its {named} differ"):
            trainer(epochs=1).train(
                **{"dataset": few, "base_model": f"random/{tiny_llama}", "folder": tmp_path, **changed}
            )
    with pytest.raises(tf.StateError, match="its settings differ"):
        trainer(epochs=2).train(few, f"random/{tiny_llama}", folder=tmp_path)
    assert TunedModel.load(tmp_path / "tuned_model.json") == done


@pytest.mark.model
def test_a_folder_in_which_a_training_goes_on_is_left_alone(tiny_llama, counting, tmp_path):
    few, refused = TrainingSet(counting.examples[:8]), []

    def heard(point):
        if not refused:
            with pytest.raises(tf.StateError, match="a training goes on in"):
                trainer(epochs=1).train(few, f"random/{tiny_llama}", folder=tmp_path)
            refused.append(point)

    done = trainer(epochs=1).train(few, f"random/{tiny_llama}", folder=tmp_path, progress=heard)

    assert refused
    assert trainer(epochs=1).train(few, f"random/{tiny_llama}", folder=tmp_path) == done


@pytest.mark.model
def test_a_damaged_checkpoint_is_a_typed_error(tiny_llama, counting, tmp_path):
    with pytest.raises(tf.TrainingStopped):
        trainer().train(counting, f"random/{tiny_llama}", folder=tmp_path, stop=lambda: True)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"no tensors")

    with pytest.raises(tf.StateError, match=r"checkpoint .* is damaged.*Delete it"):
        trainer().train(counting, f"random/{tiny_llama}", folder=tmp_path)


# --- what goes wrong ---


@pytest.mark.model
def test_what_is_too_long_is_left_out_and_counted(tiny_llama, counting, tmp_path):
    long = TrainingExample("count", (user("7 " + "apples " * 100),), "seven")  # longer than the model's positions
    tuned = trainer(epochs=0.2).train(counting + TrainingSet((long,)), f"random/{tiny_llama}", folder=tmp_path)

    assert dict(tuned.notes)["left_out"] == {"examples that are too long": 1}


@pytest.mark.model
def test_a_training_that_diverges_says_so_and_keeps_its_data(tiny_llama, counting, tmp_path):
    with pytest.raises(tf.TrainingError, match=r"diverged: at step \d+ .*Lower `learning_rate`"):
        trainer(learning_rate=1e30, warmup=0).train(counting, f"random/{tiny_llama}", folder=tmp_path)
    assert (tmp_path / "train.jsonl").exists()


@pytest.mark.model
def test_out_of_memory_says_what_to_lower(tiny_llama, counting, tmp_path, monkeypatch):
    from tuneful.finetune.objective import Objective

    monkeypatch.setattr(Objective, "_one_a_row", lambda *_: torch.empty(10**15))
    monkeypatch.setattr(Objective, "_in_one_row", lambda *_: torch.empty(10**15))
    with pytest.raises(tf.TrainingError, match=r"out of memory.*`tokens_at_once`"):
        trainer().train(counting, f"random/{tiny_llama}", folder=tmp_path)
    assert TrainingSet.load(tmp_path / "train.jsonl").examples == counting.examples


@pytest.mark.model
def test_two_trainings_at_once_do_not_disturb_each_others_chance(tiny_llama, counting, tmp_path):
    def of(name, seed, **more):
        return trainer(epochs=0.3).train(counting, f"random/{tiny_llama}", folder=tmp_path / name, seed=seed, **more)

    with ThreadPoolExecutor(2) as threads:
        together = [future.result() for future in [threads.submit(of, f"{seed}", seed) for seed in (1, 2)]]
    begun, tried = threading.Event(), threading.Event()

    def hold(_):
        begun.set()
        assert tried.wait(60)  # it is not done before the other has had to wait for it

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(of, "first", 1, progress=hold)
        assert begun.wait(60)
        try:
            with pytest.raises(tf.TrainingStopped, match="waited for another one"):
                of("second", 2, stop=lambda: True)
        finally:
            tried.set()
        alone = first.result()

    assert together[0].digest == alone.digest
    assert together[1].digest != alone.digest


@pytest.mark.model
def test_targets_that_the_base_does_not_have_are_named(tiny_llama, counting, tmp_path):
    base = trainer(epochs=0.1).train(counting, f"random/{tiny_llama}", folder=tmp_path / "base")

    with pytest.raises(tf.UsageError, match=r"`targets`.*no_such_layer"):
        trainer(lora=tf.LoRA(targets=("no_such_layer",))).train(counting, base.model, folder=tmp_path / "lora")


@pytest.mark.model
def test_others_keep_their_chance_and_their_threads(tiny_llama, counting, tmp_path):
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    trainer(epochs=0.1).train(counting, f"random/{tiny_llama}", folder=tmp_path)

    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads


# --- several processes ---

_SCRIPT = """
import sys
from pathlib import Path
import tuneful as tf

base, folder = sys.argv[1:]
learned, held_out = tf.TrainingSet.load(Path(folder).parent / "data.jsonl").split(0.1)
heard = []
tuned = tf.LocalTrainer(False, learning_rate=3e-3, epochs=0.5, device="cpu", threads=1).train(
    learned, base, folder=Path(folder), held_out=held_out, progress=heard.append
)
sys.stdout.write(f"{len(heard)} {tuned.digest}\\n")  # in one piece: two processes write
"""


@pytest.mark.model
def test_processes_that_share_the_batches_come_to_the_same_result(tiny_llama, counting, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_llama, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.0}))  # chance is each process's own
    counting.save(tmp_path / "data.jsonl", "tool")
    (tmp_path / "train.py").write_text(_SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*launch, str(tmp_path / "train.py"), f"random/{base}", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    learned, held_out = counting.split(0.1)
    alone = trainer(epochs=0.5).train(learned, f"random/{base}", folder=tmp_path / "one", held_out=held_out)

    assert run.returncode == 0, run.stderr
    together = TunedModel.load(tmp_path / "two" / "tuned_model.json")

    assert sorted(run.stdout.split()) == sorted(["0", together.digest, str(len(together.history)), together.digest])

    def numbers(tuned):
        return [x for p in tuned.history for x in (p.loss, p.held_out_loss) if x is not None]

    assert numbers(together) == pytest.approx(numbers(alone), rel=1e-3)
