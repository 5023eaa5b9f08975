"""Pretraining and finetuning on a scale of seconds."""

from birthgpt.commands.finetune import finetune
from birthgpt.commands.pretrain import pretrain
from birthgpt.training.arguments import FINETUNE_ARGUMENTS, PRETRAIN_ARGUMENTS, parse_arguments
from birthgpt.training.trainer import TrainingSummary

TINY = (
    "--hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --tokens_per_batch 2000 --max_train_steps 4 "
    "--block_size 256 --tokenizer_type bpe --vocab_size 600 --learning_rate 1e-3"
).split()


def run_pretraining(*arguments) -> TrainingSummary | None:
    return pretrain(*parse_arguments(PRETRAIN_ARGUMENTS, [*TINY, *map(str, arguments)]))


def run_finetuning(*arguments) -> TrainingSummary | None:
    settings = "--tokens_per_batch 2000 --max_train_steps 4".split()
    return finetune(*parse_arguments(FINETUNE_ARGUMENTS, [*settings, *map(str, arguments)]))
