"""Pretraining: from a corpus to a checkpoint."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import datasets
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.commands.building import build_batches, build_model, build_tokenizer, split_questions
from birthgpt.commands.dry_run import describe_run
from birthgpt.commands.evaluators import build_accuracy_evaluator, build_recall_evaluator
from birthgpt.commands.run_metadata import check_output_is_not_input, open_run_folder, save_run_metadata
from birthgpt.data.batching import EpochBatches, MixedBatches
from birthgpt.data.corpus import corpus_report, lines_by_name, load_corpus
from birthgpt.data.objectives import OBJECTIVES, QuestionAnswering, RecallFromName
from birthgpt.data.questions import load_questions
from birthgpt.data.tokenizers import warn_unknown_characters
from birthgpt.model.attention_types import get_attention_type
from birthgpt.training.arguments import (
    CorpusArguments,
    ModelArguments,
    OptimizationArguments,
    RunArguments,
    TokenizerArguments,
)
from birthgpt.training.stacked_models import StackedTrainer, Variant, summary_of, variants_of
from birthgpt.training.trainer import Trainer, TrainingSummary, build_accelerator

logger = logging.getLogger(__name__)


def pretrain(
    corpus_arguments: CorpusArguments,
    tokenizer_arguments: TokenizerArguments,
    model_arguments: ModelArguments,
    optimization: OptimizationArguments,
    run: RunArguments,
) -> TrainingSummary | None:
    """Train a new model on a corpus and leave it in `output_dir`; nothing but a report under `dry_run`.

    Raises:
        ValueError: what is wrong with the corpus, the settings or the folder, before any training.
    """
    check_output_is_not_input(
        run,
        train_file=corpus_arguments.train_file,
        question_file=corpus_arguments.question_file,
        tokenizer_name_or_path=tokenizer_arguments.tokenizer_name_or_path,
    )
    accelerator = build_accelerator(optimization, run)
    corpus = read_corpus(corpus_arguments, verbose=accelerator.is_main_process)
    tokenizer = build_tokenizer(tokenizer_arguments, texts_of(corpus), corpus_arguments.block_size)
    if accelerator.is_main_process and not corpus_arguments.streaming:
        warn_unknown_characters(tokenizer, corpus["text"], corpus_arguments.train_file)
    model = build_model(model_arguments, tokenizer, corpus_arguments.block_size)
    objective = build_objective(corpus_arguments, corpus, tokenizer, model)
    batches = build_batches(corpus, objective, tokenizer, optimization, accelerator, run.seed_of_data)
    if not corpus_arguments.streaming:
        _check_examples(batches, corpus_arguments, verbose=accelerator.is_main_process)
    evaluate = None
    if corpus_arguments.question_file is not None:
        trained, held_out = read_questions(corpus_arguments, tokenizer, accelerator, run.seed_of_data)
        if corpus_arguments.question_ratio:
            batches = mix_questions(
                batches, trained, corpus_arguments, tokenizer, optimization, accelerator, run.seed_of_data
            )
        if corpus_arguments.eval_steps:
            evaluate = build_evaluation(trained, held_out, corpus, tokenizer, accelerator)
    variants = variants_of(optimization, run, accelerator.num_processes)
    if variants and evaluate is not None:
        raise ValueError("eval_steps is for one model: leave it out, or seeds and learning_rates")
    if variants and model_arguments.gradient_checkpointing:
        raise ValueError("gradient_checkpointing is for one model: leave it out, or seeds and learning_rates")
    if run.dry_run:
        describe_run(model, tokenizer, batches, optimization, accelerator, models=max(1, len(variants)))
        return None
    arguments = (corpus_arguments, tokenizer_arguments, model_arguments)
    resume_from = open_run_folder((*arguments, optimization, run), accelerator, variants)
    settings = (tokenizer, batches, optimization, run, accelerator)
    if variants:
        build = partial(build_model, model_arguments, tokenizer, corpus_arguments.block_size)
        trainer = StackedTrainer(build, variants, *settings)
    else:
        trainer = Trainer(model, *settings, evaluate, corpus_arguments.eval_steps)
    summary = trainer.train(resume_from)
    if accelerator.is_main_process:
        save_records(arguments, optimization, run, variants, summary)
    return summary


def save_records(
    arguments: tuple,
    optimization: OptimizationArguments,
    run: RunArguments,
    variants: Sequence[Variant],
    summary: TrainingSummary,
) -> None:
    """`run.json` of the run or, where it trained several models, of each: as if it had been trained alone."""
    if not variants:
        save_run_metadata("pretraining", (*arguments, optimization, run), summary)
    for index, variant in enumerate(variants):
        alone = {"seeds": [], "seed": variant.seed, "data_seed": run.seed_of_data, "output_dir": str(variant.folder)}
        rate = dataclasses.replace(optimization, learning_rates=[], learning_rate=variant.learning_rate)
        own = (*arguments, rate, dataclasses.replace(run, **alone))
        save_run_metadata("pretraining", own, summary_of(summary, index))


def read_corpus(arguments: CorpusArguments, *, verbose: bool = False) -> datasets.Dataset | datasets.IterableDataset:
    """The corpus of a run; with `verbose`, what was found in it is logged."""
    corpus = load_corpus(
        arguments.train_file,
        streaming=arguments.streaming,
        text_column=arguments.text_column,
        name_column=arguments.name_column,
    )
    if verbose and not arguments.streaming:
        counts = ", ".join(f"{key.replace('_', ' ')} {count:,}" for key, count in corpus_report(corpus).items())
        logger.info("%s: %s", arguments.train_file, counts)
    return corpus


def texts_of(corpus: datasets.Dataset | datasets.IterableDataset) -> Iterator[str]:
    """The lines alone."""
    return (row["text"] for row in corpus)


def build_objective(
    arguments: CorpusArguments,
    corpus: datasets.Dataset | datasets.IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    model: PreTrainedModel,
) -> Callable:
    """The objective that the settings name, at their block size.

    Raises:
        ValueError: an objective that does not exist, recall from names for lines without any, or branches for an
            attention type that takes none.
    """
    if arguments.objective not in OBJECTIVES:
        raise ValueError(f"objective={arguments.objective!r} does not exist: choose {', '.join(OBJECTIVES)}")
    kind = OBJECTIVES[arguments.objective]
    if issubclass(kind, RecallFromName):
        _check_recall(arguments, corpus, model)
    settings = {
        "layout": arguments.objective_layout,
        "truncate_lines": arguments.truncate_lines,
        "max_span_words": arguments.max_span_words,
        "cue_probability": arguments.cue_probability,
        "cue_after_probability": arguments.cue_after_probability,
    }
    wanted = {field.name for field in dataclasses.fields(kind)}
    settings = {name: value for name, value in settings.items() if name in wanted}
    return kind(tokenizer, arguments.block_size, **settings)


def _check_recall(
    arguments: CorpusArguments, corpus: datasets.Dataset | datasets.IterableDataset, model: PreTrainedModel
) -> None:
    """ValueError for lines without names, or for branches with an attention type that takes none."""
    if not arguments.streaming and not any(corpus["name"]):
        raise ValueError(
            f"no line of {arguments.train_file} gives an example for {arguments.objective}: no name could be read "
            "from any; lines begin with `Name. `, or name_column names the column that holds it"
        )
    if arguments.objective_layout == "branches":
        for name in model.config.attention_types:
            if not get_attention_type(name).supports_branches:
                raise ValueError(f"attention_type={name!r} cannot take branches: set objective_layout to unrolled")


def read_questions(
    arguments: CorpusArguments, tokenizer: PreTrainedTokenizerBase, accelerator: Accelerator, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """The questions that are mixed in, and those left out.

    Raises:
        ValueError: a stream, looks at questions of which none are left out, or what is wrong with the questions.
    """
    if arguments.streaming:
        raise ValueError("question_file cannot be mixed into a stream: set streaming to false")
    if arguments.eval_steps and not arguments.validation_size:
        raise ValueError("eval_steps looks at questions that are left out: give their number, validation_size")
    questions = load_questions(arguments.question_file)
    if accelerator.is_main_process:
        texts = questions["question"][:] + questions["answer"][:]
        warn_unknown_characters(tokenizer, texts, arguments.question_file)
    return split_questions(questions, arguments.validation_size, seed)


def mix_questions(
    batches: EpochBatches,
    questions: datasets.Dataset,
    arguments: CorpusArguments,
    tokenizer: PreTrainedTokenizerBase,
    optimization: OptimizationArguments,
    accelerator: Accelerator,
    seed: int,
) -> MixedBatches:
    """The batches of the corpus with those of train questions strewn in (2309.14316, section 3)."""
    objective = QuestionAnswering(tokenizer, arguments.block_size)
    asked = build_batches(questions, objective, tokenizer, optimization, accelerator, seed)
    return MixedBatches(batches, asked, share=arguments.question_ratio, seed=seed)


def build_evaluation(
    trained: datasets.Dataset,
    held_out: datasets.Dataset,
    corpus: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
) -> Callable[[PreTrainedModel], dict[str, float]]:
    """What is looked at while training: are facts stored, and are questions answered?"""
    stored = build_recall_evaluator(held_out, lines_by_name(corpus), tokenizer)
    extracted = build_accuracy_evaluator(trained, held_out, tokenizer, accelerator)
    return lambda model: {**stored(model), **extracted(model)}


def _check_examples(batches: EpochBatches, arguments: CorpusArguments, *, verbose: bool) -> None:
    truncated = sum(batches.examples["truncated"])
    if verbose and truncated:
        logger.info(
            "%s: %s of %s examples of an epoch are truncated by %s at block_size=%d",
            arguments.train_file,
            f"{truncated:,}",
            f"{len(batches.examples):,}",
            arguments.objective,
            arguments.block_size,
        )
