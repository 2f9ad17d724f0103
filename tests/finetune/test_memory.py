"""Out of memory, in plain words."""

from pathlib import Path

import pytest

import tuneful as tf
from tuneful.finetune import memory


class Weight:
    requires_grad = True

    def __init__(self, count):
        self.count = count

    def numel(self):
        return self.count


class Model:
    def __init__(self, count):
        self.weights = [Weight(count)]

    def parameters(self):
        return self.weights


def test_an_optimizer_that_cannot_fit_is_refused_before_anything_is_computed(tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(tf.TrainingError, match=r"at least 12000000.0 GB more.*LoRA"):
        memory.check_room(Model(10**15), "cpu", folder=tmp_path)
    memory.check_room(Model(1000), "cpu", folder=tmp_path)


def test_where_nobody_knows_how_much_there_is_nothing_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(memory, "_of_machine", lambda: None)
    monkeypatch.setattr(memory, "_of_container", lambda: None)

    memory.check_room(Model(10**15), "cpu", folder=tmp_path)


def test_a_real_failure_to_allocate_says_what_to_lower():
    torch = pytest.importorskip("torch")
    words = r"out of memory.*tokens_at_once.*max_tokens.*checkpoint"
    with pytest.raises(tf.TrainingError, match=words) as caught, memory.out_of_memory_explained(Path("/somewhere")):
        torch.empty(10**15)

    assert caught.value.folder == "/somewhere"
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), memory.out_of_memory_explained(Path()):
        raise RuntimeError("shapes do not fit")
