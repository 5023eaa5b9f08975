"""Finetuning: from questions with answers, and a pretrained checkpoint or none, to a checkpoint."""

import logging

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.commands.building import (
    build_batches,
    build_model,
    build_tokenizer,
    load_model,
    load_tokenizer,
    split_questions,
)
from birthgpt.commands.dry_run import describe_run
from birthgpt.commands.evaluators import build_accuracy_evaluator
from birthgpt.commands.pretrain import texts_of
from birthgpt.commands.run_metadata import check_output_is_not_input, open_run_folder, save_run_metadata
from birthgpt.data.corpus import load_corpus
from birthgpt.data.objectives import QuestionAnswering
from birthgpt.data.questions import load_questions
from birthgpt.data.tokenizers import warn_unknown_characters
from birthgpt.evaluation.answering import check_question_lengths
from birthgpt.training.arguments import (
    ModelArguments,
    OptimizationArguments,
    QuestionArguments,
    RunArguments,
    TokenizerArguments,
)
from birthgpt.training.stacked_models import variants_of
from birthgpt.training.trainer import Trainer, TrainingSummary, build_accelerator

logger = logging.getLogger(__name__)


def finetune(
    question_arguments: QuestionArguments,
    tokenizer_arguments: TokenizerArguments,
    model_arguments: ModelArguments,
    optimization: OptimizationArguments,
    run: RunArguments,
) -> TrainingSummary | None:
    """Teach a model to answer questions and leave it in `output_dir`; only a report under `dry_run`.

    With `validation_size`, that many train questions are held out, and the weights that answer most of them
    are kept.

    Raises:
        ValueError: what is wrong with the questions, the settings or the folder, before any training.
    """
    if variants_of(optimization, run):
        raise ValueError("seeds and learning_rates are for pretraining: finetune one checkpoint after the other")
    check_output_is_not_input(
        run,
        model_name_or_path=question_arguments.model_name_or_path,
        train_file=question_arguments.train_file,
        corpus_file=question_arguments.corpus_file,
        tokenizer_name_or_path=tokenizer_arguments.tokenizer_name_or_path,
    )
    accelerator = build_accelerator(optimization, run)
    questions = load_questions(question_arguments.train_file)
    model, tokenizer = _starting_point(question_arguments, tokenizer_arguments, model_arguments)
    if accelerator.is_main_process:
        texts = questions["question"][:] + questions["answer"][:]
        warn_unknown_characters(tokenizer, texts, question_arguments.train_file)
    check_question_lengths(model, tokenizer, questions["question"][:])
    questions, held_out = split_questions(questions, question_arguments.validation_size, run.seed_of_data)
    objective = QuestionAnswering(tokenizer, model.config.max_position_embeddings)
    batches = build_batches(questions, objective, tokenizer, optimization, accelerator, run.seed_of_data)
    if run.dry_run:
        describe_run(model, tokenizer, batches, optimization, accelerator)
        return None
    arguments = (question_arguments, tokenizer_arguments, model_arguments, optimization, run)
    resume_from = open_run_folder(arguments, accelerator)
    evaluate = build_accuracy_evaluator(questions, held_out, tokenizer, accelerator) if held_out is not None else None
    trainer = Trainer(
        model,
        tokenizer,
        batches,
        optimization,
        run,
        accelerator,
        evaluate,
        question_arguments.eval_steps,
        metric_for_best_model="held_out_accuracy",
    )
    summary = trainer.train(resume_from)
    if accelerator.is_main_process:
        save_run_metadata("finetuning", arguments, summary)
    return summary


def _starting_point(
    question_arguments: QuestionArguments,
    tokenizer_arguments: TokenizerArguments,
    model_arguments: ModelArguments,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    checkpoint, corpus_file = question_arguments.model_name_or_path, question_arguments.corpus_file
    if checkpoint is not None:
        if tokenizer_arguments.tokenizer_name_or_path is not None or corpus_file is not None:
            raise ValueError(
                "model_name_or_path brings its own tokenizer: leave out tokenizer_name_or_path and corpus_file"
            )
        return load_model(checkpoint, model_arguments), load_tokenizer(checkpoint)
    if corpus_file is None and tokenizer_arguments.tokenizer_name_or_path is None:
        raise ValueError(
            "give model_name_or_path to finetune a checkpoint; a new model needs a tokenizer: give "
            "tokenizer_name_or_path, or corpus_file to train one on"
        )
    texts = () if corpus_file is None else texts_of(load_corpus(corpus_file))
    tokenizer = build_tokenizer(tokenizer_arguments, texts, question_arguments.block_size)
    return build_model(model_arguments, tokenizer, question_arguments.block_size), tokenizer
