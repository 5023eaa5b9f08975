"""The settings of a run: one dataclass a concern; command line over file over default."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import yaml
from transformers import HfArgumentParser

from birthgpt.training.optimizers import check_optimizer
from birthgpt.training.schedules import lr_scale

TRACKERS = ("tensorboard", "trackio", "wandb")


def setting(default, help: str):
    """A field with its help text."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """The architecture of a new model; the keys of `BirthGPTConfig`."""

    attention_type: list[str] = setting(["softmax"], "attention type, or one a layer")
    hidden_size: int = setting(256, "width of the model")
    intermediate_size: int | None = setting(None, "width of the MLP; 4 × hidden_size if not given")
    num_hidden_layers: int = setting(4, "number of blocks")
    num_attention_heads: int = setting(8, "attention heads a layer")
    position_embedding_type: str = setting("learned", "learned or rotary")
    rope_theta: float = setting(10000.0, "base of the rotary angles")
    norm_type: str = setting("layernorm", "layernorm or rmsnorm")
    hidden_act: str = setting("gelu", "activation of the MLP: gelu, relu2, …")
    attention_bias: bool = setting(True, "biases in the attention's linear maps")
    mlp_bias: bool = setting(True, "biases in the MLP")
    qk_norm: bool = setting(False, "normalise queries and keys")
    hidden_dropout: float = setting(0.1, "dropout on embeddings and residual branches")
    attention_dropout: float = setting(0.1, "dropout on attention weights")
    ngram_orders: list[int] = setting([], "lengths of n-grams that have embeddings of their own, such as: 2 3")
    ngram_vocab_size: int = setting(32768, "rows of each order's table of n-grams")
    canon_width: int = setting(0, "taps of the causal convolution before attention and MLP; 0: none")
    sliding_window: int | None = setting(None, "tokens that sliding_softmax sees")
    synthesizer_kind: str = setting("dense", "dense, random, fixed_random, factorized_dense or factorized_random")
    synthesizer_rank: int = setting(8, "rank of the factorised kinds")
    synthesizer_mixture: str = setting("none", "with the scores of softmax: none, plus or alpha")
    perceiver_kind: str = setting("stretches", "stretches, or assignment (blind to most of the past)")
    perceiver_bottleneck: int = setting(32, "latents")
    linformer_kind: str = setting("blockwise", "blockwise or abc")
    linformer_block: int = setting(16, "blockwise: tokens that are summarised together")
    linformer_summaries: int = setting(4, "summaries a block, or slots in all (abc)")
    linformer_window: int = setting(32, "blockwise: tokens seen exactly, a multiple of linformer_block")
    linformer_weights: str = setting("content", "abc: a token's slots by its content or its position")
    bigbird_block: int = setting(16, "tokens a block")
    bigbird_global: int = setting(1, "blocks at the start that every token sees")
    bigbird_window: int = setting(2, "blocks seen up to the own one")
    bigbird_random: int = setting(1, "older blocks seen, drawn at random")
    bigbird_seed: int = setting(0, "of the random blocks")
    bigbird_implementation: str = setting("gathered", "gathered (sparse), dense (by a mask) or flex (CUDA)")
    performer_kind: str = setting("positive", "feature map: positive, trigonometric or relu")
    performer_features: int = setting(64, "random features a head")
    performer_orthogonal: bool = setting(True, "orthogonal rows of the random projection")
    performer_redraw_steps: int = setting(0, "updates between two draws of the features; 0: never")
    performer_chunk: int = setting(64, "tokens handled together where the form is linear")
    deltanet_chunk: int = setting(32, "tokens that gated_deltanet handles together")
    initializer_range: float = setting(0.02, "standard deviation of the initial weights")
    zero_init_residual: bool = setting(False, "start the maps into the residual stream at zero")
    tie_word_embeddings: bool = setting(False, "share token embedding and output head")
    attn_implementation: str = setting("sdpa", "eager, sdpa, flash_attention_2 or flex_attention")
    gradient_checkpointing: bool = setting(False, "recompute activations in the backward pass to save memory")


@dataclass
class TokenizerArguments:
    """How text is cut into tokens, where no checkpoint says it."""

    tokenizer_name_or_path: str | None = setting(None, "take this tokenizer instead of training one")
    tokenizer_type: str = setting("character", "train this kind on the corpus: character or bpe")
    vocab_size: int = setting(2048, "tokens of a bpe tokenizer")


@dataclass
class CorpusArguments:
    """The text and what is asked of it."""

    train_file: str = field(metadata={"help": "biographies: a text, JSON, CSV or Parquet file, or a Hub id"})
    text_column: str = setting("text", "column of the lines, where the file has columns")
    name_column: str | None = setting(None, "column of the names; read from the line if not given")
    streaming: bool = setting(False, "read the corpus as it is trained on, for one larger than memory")
    objective: str = setting("span_corruption", "span_corruption, language_modeling, name_first or salient_spans")
    objective_layout: str = setting("branches", "from the name: branches (one pass a line) or unrolled")
    truncate_lines: bool = setting(True, "span_corruption: cut lines to a random length, as the assignment does")
    max_span_words: int = setting(4, "name_first: words of the longest run that a line is cut into")
    cue_probability: float = setting(0.8, "salient_spans: share of the spans that words of the line hint at")
    cue_after_probability: float = setting(0.0, "salient_spans: of hints that could stand on either side, share behind")
    question_file: str | None = setting(None, "train questions to mix in from the start; none if not given")
    question_ratio: float = setting(0.1, "share of the batches that are questions; 0: they are looked at alone")
    validation_size: int = setting(0, "questions of it left out: those that finetuning with this seed holds out")
    eval_steps: int = setting(0, "updates between two looks at what is stored and what is answered; 0: none")
    block_size: int = setting(128, "longest example, in tokens")

    def __post_init__(self):
        if self.eval_steps < 0:
            raise ValueError(f"eval_steps={self.eval_steps}: it must be at least 0")
        if self.eval_steps and self.question_file is None:
            raise ValueError("eval_steps looks at the accuracy on questions: give question_file")
        if not 0 <= self.question_ratio < 1:
            raise ValueError(f"question_ratio={self.question_ratio}: a share of the batches lies between 0 and 1")
        if self.question_file is not None and not self.question_ratio and not self.eval_steps:
            raise ValueError("question_ratio=0 leaves question_file without a use: give eval_steps to look at them")


@dataclass
class QuestionArguments:
    """The questions to learn to answer, what to start from, and when to stop."""

    train_file: str = field(metadata={"help": "questions with answers: TSV, JSON, CSV, Parquet or a Hub id"})
    model_name_or_path: str | None = setting(None, "pretrained checkpoint; a new model if not given")
    corpus_file: str | None = setting(None, "text to train the tokenizer of a new model on")
    block_size: int = setting(128, "longest example of a new model, in tokens")
    validation_size: int = setting(0, "train questions held out to choose the best moment; 0: train to the end")
    eval_steps: int = setting(10, "updates between two looks at the held-out train questions")

    def __post_init__(self):
        if self.validation_size < 0 or self.eval_steps < 1:
            raise ValueError("validation_size must be at least 0, and eval_steps at least 1")


@dataclass
class OptimizationArguments:
    """How long to train, on what batches, and by which steps."""

    max_train_steps: int | None = setting(None, "updates; give one of steps, epochs and FLOPs")
    num_train_epochs: float | None = setting(None, "passes over the data")
    max_train_flops: float | None = setting(None, "budget: 6 × parameters (without embeddings) × tokens")
    tokens_per_batch: int | None = setting(
        None, "plan batches of like length under this many tokens, pads and all processes counted"
    )
    per_device_train_batch_size: int | None = setting(None, "or: examples a batch")
    gradient_accumulation_steps: int = setting(1, "batches an update")
    shuffle: bool = setting(True, "shuffle the examples every epoch")
    optimizer: str = setting("adamw", "adamw, or muon for the matrices of the blocks and adamw for the rest")
    learning_rate: float = setting(1e-3, "peak learning rate")
    learning_rates: list[float] = setting([], "pretraining: train a model at each peak rate at once")
    lr_scheduler_type: str = setting("linear", "linear, cosine, constant, warmup_stable_decay or assignment_cosine")
    warmup_steps: int = setting(0, "updates until the peak rate")
    lr_cycle_steps: int | None = setting(None, "half-period of assignment_cosine, in updates")
    weight_decay: float = setting(0.0, "decay of the matrices")
    adam_beta1: float = setting(0.9, "AdamW's average of gradients")
    adam_beta2: float = setting(0.95, "AdamW's average of squared gradients")
    max_grad_norm: float = setting(1.0, "clip the gradient at this norm; 0: not at all")
    ema_decay: float = setting(0.0, "evaluate and keep an average of the weights that keeps this much an update")
    torch_compile: bool = setting(False, "compile the model: about a minute at the start, faster after that")
    mixed_precision: str | None = setting(None, "no or bf16; if not given, as accelerate was launched")

    def __post_init__(self):
        budgets = ("max_train_steps", "num_train_epochs", "max_train_flops")
        given = [name for name in budgets if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(budgets)}, not {' and '.join(given) or 'none'}")
        check_optimizer(self.optimizer)
        # asking for the first factor checks the name and what it needs
        lr_scale(self.lr_scheduler_type, step=0, progress=0.0, cycle_steps=self.lr_cycle_steps)
        if (self.tokens_per_batch is None) == (self.per_device_train_batch_size is None):
            raise ValueError("give exactly one of tokens_per_batch and per_device_train_batch_size")
        if self.mixed_precision not in (None, "no", "bf16"):
            raise ValueError(f"mixed_precision={self.mixed_precision!r} does not exist: choose no or bf16")
        if any(rate <= 0 for rate in self.learning_rates):
            raise ValueError(f"learning_rates={self.learning_rates}: each must be greater than 0")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay={self.ema_decay}: it lies between 0 and 1, as 0.999 does; 0 for no average")
        positive = (*given, "learning_rate", "gradient_accumulation_steps")
        if self.tokens_per_batch is not None and not self.shuffle:
            raise ValueError(
                "shuffle=false: batches of like length (tokens_per_batch) are not in the order of the lines; give "
                "per_device_train_batch_size instead"
            )
        for name in ("warmup_steps", "max_grad_norm", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 0")
        for name in (*positive, "tokens_per_batch", "per_device_train_batch_size"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value}: it must be greater than 0")


@dataclass
class RunArguments:
    """Where a run lives and what it leaves."""

    output_dir: str = field(metadata={"help": "folder of the checkpoint"})
    overwrite_output_dir: bool = setting(False, "delete what the folder holds")
    resume_from_checkpoint: str | None = setting(None, "a checkpoint of this run, or: latest")
    seed: int = setting(0, "of weights, dropout, examples and their order")
    data_seed: int | None = setting(None, "of the examples and their order, if another than seed")
    seeds: list[int] = setting([], "pretraining: train a model of each seed at once, in output_dir/seed-N")
    logging_steps: int = setting(50, "updates between two reports")
    save_steps: int = setting(500, "updates between two checkpoints; 0: none, the finished model alone")
    save_total_limit: int = setting(2, "checkpoints to keep")
    dataloader_num_workers: int = setting(0, "processes that make batches beside the training; they change no batch")
    with_tracking: bool = setting(False, "write curves while training, TensorBoard's under output_dir/logs")
    report_to: str = setting("tensorboard", "whose curves: tensorboard, trackio or wandb")
    dry_run: bool = setting(False, "print sizes, FLOPs, time and examples, and train nothing")

    @property
    def seed_of_data(self) -> int:
        """The seed of the examples and their order."""
        return self.seed if self.data_seed is None else self.data_seed

    def __post_init__(self):
        if self.report_to not in TRACKERS:
            raise ValueError(f"report_to={self.report_to!r} does not exist: choose {', '.join(TRACKERS)}")
        if self.with_tracking and find_spec(self.report_to) is None:
            raise ValueError(f"report_to={self.report_to} needs its package: pip install {self.report_to}")
        for name in ("logging_steps", "save_total_limit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 1")
        for name in ("save_steps", "dataloader_num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: it must be at least 0")


@dataclass
class EvaluationArguments:
    """A checkpoint to ask, and what its answers are held against."""

    question_file: str = field(metadata={"help": "questions, with answers or without"})
    output_dir: str = field(metadata={"help": "folder for predictions.txt and metrics.json"})
    model_name_or_path: str | None = setting(None, "checkpoint to ask")
    name: str | None = setting(None, "label of this run in tables; the checkpoint's folder if not given")
    table: str | None = setting(None, "table this run belongs to; the question file's name if not given")
    note: str | None = setting(None, "a remark for the reader of the table")
    order: int | None = setting(None, "place of this run's row in its table; after the others if not given")
    train_file: str | None = setting(None, "train questions, for baselines and slices by seen answers")
    corpus_file: str | None = setting(None, "biographies, for slices by where the answer stands in its line")
    baseline: str | None = setting(None, "instead of a model: this place for every question, or: most_common")
    batch_size: int = setting(256, "questions answered at a time")
    max_new_tokens: int = setting(48, "longest answer, in tokens")
    num_beams: int = setting(1, "beams; 1: greedy")
    results_file: str | None = setting(None, "also write the metrics here, for RESULTS.md")
    dry_run: bool = setting(False, "check the inputs, show three prompts, and answer nothing")


@dataclass
class ProbeArguments:
    """A checkpoint, and the people whose answers it is to bring up."""

    model_name_or_path: str = field(metadata={"help": "checkpoint to probe"})
    question_file: str = field(metadata={"help": "questions with answers"})
    corpus_file: str = field(metadata={"help": "biographies, in which the answers stand"})
    output_dir: str = field(metadata={"help": "folder for probe.json"})
    batch_size: int = setting(256, "prompts read at a time")


@dataclass
class EnsembleArguments:
    """Checkpoints that are asked as one."""

    model_names_or_paths: list[str] = field(metadata={"help": "finetuned checkpoints"})
    question_file: str = field(metadata={"help": "questions, with answers or without"})
    output_dir: str = field(metadata={"help": "folder for predictions.txt and metrics.json"})
    name: str | None = setting(None, "label in tables; ensemble of K if not given")
    table: str | None = setting(None, "table this row belongs to; the question file's name if not given")
    note: str | None = setting(None, "a remark for the reader of the table")
    order: int | None = setting(None, "place of this row in its table; after the others if not given")
    train_file: str | None = setting(None, "train questions, for slices by seen answers and for label_names")
    corpus_file: str | None = setting(None, "biographies, for slices by the answer's place and for label_names")
    label_names: str | None = setting(
        None, "a question with {name}: ask it about every name of the corpus, for labelled.tsv"
    )
    batch_size: int = setting(256, "questions answered at a time")
    max_new_tokens: int = setting(48, "longest answer, in tokens")
    results_file: str | None = setting(None, "also write the metrics here, for RESULTS.md")


PRETRAIN_ARGUMENTS = (CorpusArguments, TokenizerArguments, ModelArguments, OptimizationArguments, RunArguments)
FINETUNE_ARGUMENTS = (QuestionArguments, TokenizerArguments, ModelArguments, OptimizationArguments, RunArguments)


def parse_arguments(argument_classes: Sequence[type], arguments: Sequence[str] | None = None, **kwargs) -> tuple:
    """Read `--config FILE.yaml` and the command line into one instance of each class.

    The command line wins over the file, and the file over the defaults. Values of the file are read as the
    command line would read them, so `6e-3` is a number.

    Raises:
        ValueError: a file that is missing or no flat YAML mapping, a key that does not exist (with the
            nearest that does), a setting that must be given, a value that a class refuses.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _Parser(argument_classes, allow_abbrev=False, **kwargs)
    parser.add_argument("--config", metavar="FILE.yaml", help="settings, one a line; the command line wins")
    config_file, arguments = _pop_config(arguments)
    if _pop_config(arguments)[0] is not None:
        raise ValueError("--config is given twice: settings come from one file, and from the command line over it")
    if config_file is not None:
        arguments = _config_as_arguments(config_file, argument_classes) + arguments
    *parsed, _, unknown = parser.parse_args_into_dataclasses(arguments, return_remaining_strings=True)
    if unknown:
        raise ValueError(_unknown_key(unknown[0].lstrip("-").split("=")[0], argument_classes, "command line"))
    return tuple(parsed)


class _Parser(HfArgumentParser):
    """Says what is wrong as a ValueError, without the usage of forty settings before it."""

    def error(self, message: str):
        raise ValueError(f"{message} (--help lists the settings)")

    def add_argument(self, *names, **settings):
        # a list that has a default may be emptied: `--ngram_orders` without a number leaves them out
        if settings.get("nargs") == "+" and not settings.get("required"):
            settings["nargs"] = "*"
        return super().add_argument(*names, **settings)


def _pop_config(arguments: list[str]) -> tuple[str | None, list[str]]:
    for index, argument in enumerate(arguments):
        if argument == "--config":
            if index + 1 == len(arguments):
                raise ValueError("--config needs a YAML file")
            return arguments[index + 1], arguments[:index] + arguments[index + 2 :]
        if argument.startswith("--config="):
            return argument.removeprefix("--config="), arguments[:index] + arguments[index + 1 :]
    return None, arguments


def _config_as_arguments(config_file: str, argument_classes: Sequence[type]) -> list[str]:
    path = Path(config_file)
    if not path.is_file():
        raise ValueError(f"{config_file}: there is no such configuration file")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{config_file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{config_file}: expected one `key: value` a line")
    known, arguments = field_names(argument_classes), []
    for key, value in settings.items():
        if key not in known:
            raise ValueError(_unknown_key(key, argument_classes, config_file))
        if isinstance(value, dict):
            raise ValueError(f"{config_file}: {key} holds a mapping: settings are flat, one `key: value` a line")
        if value is not None:
            values = value if isinstance(value, list) else [value]
            arguments += [f"--{key}", *map(str, values)]
    return arguments


def field_names(argument_classes: Sequence[type]) -> list[str]:
    """Every setting of these classes."""
    return [entry.name for argument_class in argument_classes for entry in dataclasses.fields(argument_class)]


def _unknown_key(key: str, argument_classes: Sequence[type], where: str) -> str:
    nearest = get_close_matches(str(key), field_names(argument_classes), n=1)
    return f"{where}: {key!r} is no setting of this script" + (f"; did you mean {nearest[0]!r}?" if nearest else "")
