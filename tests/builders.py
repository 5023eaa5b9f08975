"""Parts of tests: lines, configurations, models, tokens, and trainings that take a second."""

import os
import re
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from birthgpt import (
    BirthGPTConfig,
    BirthGPTEncoderDecoderConfig,
    BirthGPTForCausalLM,
    BirthGPTForConditionalGeneration,
    BirthGPTModel,
)
from birthgpt.commands.finetune import FinetuneSettings, finetune
from birthgpt.commands.pretrain import PretrainSettings, pretrain
from birthgpt.data.batching import BatchSettings, EpochBatches
from birthgpt.data.objectives import NameFirst
from birthgpt.model.attention import ATTENTION_TYPES
from birthgpt.settings import make_settings, parse_settings
from birthgpt.training.accelerators import build_accelerator
from birthgpt.training.callbacks import EvaluationCallback, TrainerCallback, standard_callbacks
from birthgpt.training.checkpoints import save_checkpoint
from birthgpt.training.model_group import ModelGroup, ReplicaSpec
from birthgpt.training.run_folder import checkpoint_to_resume
from birthgpt.training.state import TrainingSummary
from birthgpt.training.trainer import Trainer, TrainingSettings

LINES = [
    "Ada Lovelace. Ada Lovelace (born 10 December 1815, London) was an English mathematician and writer .",
    "J. J. Thomson. Thomson was born in Manchester, and studied in Cambridge .",
    "Émilie du Châtelet. Born in Paris, Émilie du Châtelet translated Newton's Principia .",
    "Lise Meitner. Lise Meitner was a physicist from Vienna who worked in Berlin and Stockholm .",
]
QUESTION = "Where was Ada Lovelace born?"
NAMES = ["Ada Lovelace", "J. J. Thomson", "Émilie du Châtelet", "Lise Meitner"]
CAPITALS = {
    "cue_after_probability": 0.0,
    "cue_before_name_probability": 0.0,
    "comma_probability": 0.0,
    "lower_case_probability": 0.0,
}
"""Settings of `salient_spans`: only words with a capital or a digit, and cues behind the name, from before the span."""

# models

ROTARY = {"position_embedding_type": "rotary", "norm_type": "rmsnorm", "qk_norm": True}
VARIANTS = {
    "assignment": {},
    "modern": ROTARY | {"hidden_act": "relu2", "attention_bias": False, "mlp_bias": False, "tie_word_embeddings": True},
}
"""The model with softmax attention, in the form of the assignment and in a modern form."""

# blocks of 4 tokens, so that 16 tokens are four blocks
SIZES = {
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    # large enough that the effect of a token is far above rounding
    "initializer_range": 0.3,
    "sliding_window": 5,
    "linformer_block": 4,
    "linformer_window": 8,
    "linformer_num_slots": 2,
    "abc_num_slots": 2,
    "bigbird_block": 4,
    "perceiver_bottleneck": 16,
    "performer_features": 16,
    "performer_chunk": 4,
    "deltanet_chunk": 4,
}

# every registered type is tested; its other modes are listed here
CASES: dict[str, dict] = {
    **{name: {} for name in ATTENTION_TYPES},
    **{f"{name}-rotary": ROTARY for name in ATTENTION_TYPES},
    **{f"{name}-canon": {"canon_width": 4} for name in ATTENTION_TYPES},
    **{f"{name}-ngrams": {"ngram_orders": [2, 3], "ngram_vocab_size": 50} for name in ATTENTION_TYPES},
    "softmax-modern": VARIANTS["modern"],
    # small scores: with larger ones, sums of estimates that may be negative are ill-conditioned
    "performer-trigonometric": {"performer_kind": "trigonometric", "initializer_range": 0.1},
    "performer-relu": {"performer_kind": "relu"},
    "performer-independent": {"performer_orthogonal": False, **ROTARY},
    "bigbird-dense": {"bigbird_implementation": "dense"},
    "bigbird-window-only": {"bigbird_global": 0, "bigbird_random": 0},
    "bigbird-sparse-rotary": ROTARY | {"bigbird_window": 1, "bigbird_random": 2, "bigbird_block": 2},
    "perceiver-cs224n": {"perceiver_kind": "cs224n"},
    "perceiver-cs224n-blind": {"perceiver_kind": "cs224n", "perceiver_bottleneck": 5, **ROTARY},
    "perceiver-long-segments": {"perceiver_bottleneck": 9, "num_hidden_layers": 4, **ROTARY},
    "perceiver-two-layers": {"perceiver_bottleneck": 64, "num_hidden_layers": 2},
    "synthesizer-random": {"synthesizer_kind": "random"},
    "synthesizer-fixed-random": {"synthesizer_kind": "fixed_random"},
    # 64 positions are 10 blocks of 7 scores; the last block is shorter
    "synthesizer-factorized-dense": {"synthesizer_kind": "factorized_dense", "synthesizer_rank": 10},
    "synthesizer-factorized-random": {"synthesizer_kind": "factorized_random", "synthesizer_rank": 3, **ROTARY},
    "synthesizer-plus": {"synthesizer_mixture": "plus"},
    "synthesizer-alpha": {"synthesizer_mixture": "alpha", "synthesizer_kind": "random", **ROTARY},
    "linformer-own-block-only": ROTARY | {"linformer_window": 4},
    "abc-position": ROTARY | {"abc_weights": "position"},
    "gated_deltanet-hybrid": {"attention_type": ["gated_deltanet", "sliding_softmax", "gated_deltanet"]},
    "gated_deltanet-one-chunk": {"deltanet_chunk": 64, "attention_bias": False},
    "hybrid": {"attention_type": ["softmax", "sliding_softmax", "softmax"]},
    "hybrid-of-two-windows": {
        "attention_type": ["sliding_softmax", "softmax", "sliding_softmax"],
        "per_layer_config": {2: {"sliding_window": 3}},
    },
    "linformer-of-two-windows": {"per_layer_config": {1: {"linformer_window": 4, "linformer_num_slots": 3}}},
}


def case_config(case: str, **settings) -> BirthGPTConfig:
    """The configuration of a case; its attention type is the name before the first hyphen."""
    settings = SIZES | {"attention_type": case.split("-")[0]} | CASES.get(case, {}) | settings
    return BirthGPTConfig(**settings)


def tiny_config(variant: str = "modern", **settings) -> BirthGPTConfig:
    """The configuration of a variant with softmax attention, and dropout."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    dropout = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "initializer_range": 0.2}
    return BirthGPTConfig(**{**SIZES, **sizes, **dropout, **VARIANTS[variant], **settings})


def is_bidirectional(case: str) -> bool:
    """Whether every attention type of a case has a bidirectional form."""
    return all(ATTENTION_TYPES[name].supports_bidirectional for name in case_config(case).attention_types)


def case_model(case: str, dtype: torch.dtype = torch.float64, **settings) -> BirthGPTForCausalLM:
    """A seeded model of a case in eval mode, with position vectors that are not zero."""
    return seeded_model(case_config(case, **settings), dtype)


def tiny_model(variant: str = "modern", **settings) -> BirthGPTForCausalLM:
    """A seeded model of a variant in double precision and eval mode, with position vectors that are not zero."""
    return seeded_model(tiny_config(variant, **settings))


def seeded_model(config: BirthGPTConfig, dtype: torch.dtype = torch.float64) -> BirthGPTForCausalLM:
    """The model with seed 0."""
    torch.manual_seed(0)
    model = BirthGPTForCausalLM(config).to(dtype).eval()
    if config.position_embedding_type == "learned":
        nn.init.normal_(model.model.embed_positions.weight, std=0.3)
    return model


def seeded_encoder(config: BirthGPTConfig, dtype: torch.dtype = torch.float64) -> BirthGPTModel:
    """The bidirectional model with seed 0, in eval mode, with position vectors that are not zero."""
    torch.manual_seed(0)
    model = BirthGPTModel(config).to(dtype).eval()
    if config.position_embedding_type == "learned":
        nn.init.normal_(model.embed_positions.weight, std=0.3)
    return model


START = 2
"""The token before the first token of an output, in an encoder–decoder."""


def seq2seq_config(case: str, **settings) -> BirthGPTEncoderDecoderConfig:
    """The configuration of an encoder–decoder: a decoder of a case, with the same type in its encoder if it can be."""
    case_settings = {"attention_type": case.split("-")[0]} | CASES[case]
    if not is_bidirectional(case):
        case_settings["encoder_attention_type"] = "softmax"
    return BirthGPTEncoderDecoderConfig(**SIZES | case_settings | {"decoder_start_token_id": START} | settings)


def seq2seq_model(case: str, dtype: torch.dtype = torch.float64, **settings) -> BirthGPTForConditionalGeneration:
    """A seeded encoder–decoder of a case in eval mode, with position vectors that are not zero."""
    torch.manual_seed(0)
    model = BirthGPTForConditionalGeneration(seq2seq_config(case, **settings)).to(dtype).eval()
    if model.config.position_embedding_type == "learned":
        for stack in (model.encoder, model.decoder):
            nn.init.normal_(stack.embed_positions.weight, std=0.3)
    return model


def random_tokens(batch: int, length: int, seed: int = 1, vocab_size: int = SIZES["vocab_size"]) -> torch.Tensor:
    """(batch, length) ordinary tokens."""
    return torch.randint(2, vocab_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def left_padded(rows: Sequence[torch.Tensor], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens as one (batch, length) batch, padded on the left, and its mask."""
    tokens = torch.stack([nn.functional.pad(row, (length - len(row), 0)) for row in rows])
    mask = torch.stack([nn.functional.pad(torch.ones_like(row), (length - len(row), 0)) for row in rows])
    return tokens, mask


def contributed_code() -> tuple[str, str]:
    """The attention type that CONTRIBUTING.md adds: the code of its file, and its line in the registry."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    file, line = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return file, line


@contextmanager
def contributed_attention():
    """`attention_type="mean"`, defined as in a notebook, during one test."""
    module = ModuleType("birthgpt.model.attention_mean")
    module.__package__ = "birthgpt.model"
    exec(contributed_code()[0], vars(module))
    try:
        yield
    finally:
        del ATTENTION_TYPES["mean"]


# trainings

PERFORMER = {"attention_type": "performer", "performer_features": 16, "performer_redraw_steps": 4}
TRAINING = {
    "max_train_steps": 12,
    "tokens_per_batch": 400,
    "optimizer": "adamw",
    "learning_rate": 5e-3,
    "warmup_steps": 2,
    "logging_steps": 1,
    "seed": 0,
}


def tiny_batches(bpe, *, seed: int = 0, num_micro_batches: int = 1, epoch: int = 0) -> EpochBatches:
    """The batches of `train` in an epoch."""
    lines = Dataset.from_dict({"line_id": list(range(16)), "text": LINES * 4, "name": NAMES * 4})
    settings = BatchSettings(tokens_per_batch=400)
    return EpochBatches(
        lines,
        NameFirst(bpe, 128),
        bpe.pad_token_id,
        settings,
        seed=seed,
        num_micro_batches=num_micro_batches,
        epoch=epoch,
    )


def training_settings(folder: Path, **settings) -> TrainingSettings:
    """The settings of a training of 12 updates; `settings` replace some of them."""
    given = TRAINING | settings
    if {"num_train_epochs", "max_train_flops"} & settings.keys():
        del given["max_train_steps"]
    return make_settings(TrainingSettings, output_dir=str(folder), **given)


def train(
    folder: Path,
    bpe: PreTrainedTokenizerBase,
    *,
    dropout: float = 0.1,
    resume: bool = False,
    evaluation: EvaluationCallback | None = None,
    architecture: dict | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    batches: EpochBatches | None = None,
    **settings,
) -> tuple[TrainingSummary, BirthGPTForCausalLM]:
    """Train in this process, into `folder/run`; return the summary and the trained model.

    Args:
        callbacks: called after the standard ones.
        settings: flat; they replace those of `TRAINING`.
    """
    run = folder / "run"
    run.mkdir(exist_ok=True, parents=True)
    training = training_settings(run, **settings)
    accelerator = build_accelerator(training)
    count = accelerator.num_processes * training.compute.gradient_accumulation_steps
    batches = batches or tiny_batches(bpe, seed=training.run.seed, num_micro_batches=count)
    torch.manual_seed(training.run.seed)
    dropouts = {"hidden_dropout": dropout, "attention_dropout": dropout}
    model = BirthGPTForCausalLM(tiny_config(vocab_size=len(bpe), **dropouts, **(architecture or {})))
    spec = ReplicaSpec(run, training.run.seed, training.optimizer.learning_rate)
    models = ModelGroup(spec, model, training.optimizer, accelerator, training.compute.torch_compile)
    standard = standard_callbacks(training.logging, training.checkpoints, bpe, accelerator, evaluation)
    trainer = Trainer(models, batches, accelerator, training, [*standard, *callbacks])
    return trainer.train(checkpoint_to_resume(str(run), "latest") if resume else None), model


class Gather(TrainerCallback):
    """Saves an ordinary checkpoint too, after one update."""

    def __init__(self, folder, tokenizer, step):
        self.folder, self.tokenizer, self.step = folder, tokenizer, step

    def on_step_end(self, trainer):
        if trainer.state.step == self.step:
            (replica,) = trainer.models.replicas
            elsewhere = replace(replica, spec=replace(replica.spec, folder=self.folder))
            main = trainer.accelerator.is_main_process
            save_checkpoint(elsewhere, self.tokenizer, trainer.state, writes=main)


def losses(summary: TrainingSummary) -> list[float]:
    """The loss of every report."""
    return [entry["loss"] for entry in summary.history if "loss" in entry]


TINY = (
    "--hidden_size 32 --num_hidden_layers 1 --num_attention_heads 2 --tokens_per_batch 2000 --max_train_steps 4 "
    "--block_size 256 --tokenizer_type bpe --vocab_size 600 --learning_rate 1e-3"
).split()


def run_pretraining(*arguments) -> TrainingSummary | None:
    """Pretrain by the command line, in seconds."""
    return pretrain(parse_settings(PretrainSettings, [*TINY, *map(str, arguments)]))


def run_finetuning(*arguments) -> TrainingSummary | None:
    """Finetune by the command line, in seconds."""
    settings = "--tokens_per_batch 2000 --max_train_steps 4".split()
    return finetune(parse_settings(FinetuneSettings, [*settings, *map(str, arguments)]))


# files of synthetic people, read independently of the package


def read_lines(path: Path) -> list[str]:
    """The lines of a file; each line ends with a line feed."""
    text = path.read_bytes().decode("utf-8")
    assert text.endswith("\n") and "\r" not in text
    return text[:-1].split("\n")


def read_answers(path: Path) -> dict[str, str]:
    """The answer to each question."""
    return dict(line.split("\t") for line in read_lines(path))


def name_of(line: str) -> str:
    """The name rule, word by word: the name ends with the first word that ends a sentence."""
    words = line.split(" ")
    for position, word in enumerate(words[:-1]):
        bare = word.removesuffix(".")
        if bare != word and len(bare) > 1 and bare not in {"Jr", "Sr", "St", "Dr"}:
            return " ".join(words[: position + 1]).removesuffix(".")
    raise AssertionError(f"no name in {line!r}")


# programs


def run_without_package(program: str, directory: Path, *, variables: Mapping[str, str] | None = None, **values) -> None:
    """Run a program without birthgpt; `{paths!r}` in it is replaced by the folders of the other packages.

    Args:
        variables: more variables of the environment.
        values: what replaces the other names in braces.
    """
    paths = [path for path in (*site.getsitepackages(), site.getusersitepackages()) if os.path.isdir(path)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"HF_HOME": str(directory / "home"), **(variables or {})}
    program = program.format(paths=paths, **values)
    result = subprocess.run(
        [sys.executable, "-S", "-c", program], env=environment, cwd=directory, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
