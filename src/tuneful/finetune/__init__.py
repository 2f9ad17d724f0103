"""New weights: training data from a program's runs, and trainers that make a tuned model of it."""

from tuneful.finetune.from_steps import from_steps
from tuneful.finetune.hosting import host_lora
from tuneful.finetune.local_trainer import LocalTrainer
from tuneful.finetune.lora import LoRA
from tuneful.finetune.openai_trainer import OpenAITrainer
from tuneful.finetune.to_dataset import to_dataset
from tuneful.finetune.trainer import Trainer
from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.finetune.tuned_model import TunedModel

__all__ = [
    "LoRA",
    "LocalTrainer",
    "OpenAITrainer",
    "Trainer",
    "TrainingExample",
    "TrainingSet",
    "TunedModel",
    "from_steps",
    "host_lora",
    "to_dataset",
]
