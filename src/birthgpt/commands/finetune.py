"""Finetuning: train a pretrained checkpoint, or a new model, on questions with answers."""

from dataclasses import dataclass
from pathlib import Path

import datasets
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.commands.building import (
    ModelSettings,
    add_unknown_answer,
    build_batches,
    build_model,
    build_tokenizer,
    build_unknown_names,
    load_to_train,
)
from birthgpt.commands.command import Command
from birthgpt.commands.dry_run import describe_run
from birthgpt.commands.evaluators import build_accuracy_evaluator
from birthgpt.commands.pretrain import texts_of
from birthgpt.commands.run_metadata import save_run_metadata, show_summary
from birthgpt.commands.unused_settings import unused_in_finetuning, warn_unused
from birthgpt.data.corpus import ColumnSettings, lines_by_name
from birthgpt.data.names import NameFinder
from birthgpt.data.objectives import ExampleSettings, build_question_answering, teaches_unknown
from birthgpt.data.questions import QuestionSettings, load_questions, warn_odd_questions, warn_rare_relations
from birthgpt.data.splits import train_validation_split, warn_unknown_people
from birthgpt.data.tokenizers import TokenizerSettings, warn_unknown_characters
from birthgpt.evaluation.answering import check_question_lengths
from birthgpt.settings import checked, setting
from birthgpt.training.accelerators import build_accelerator
from birthgpt.training.callbacks import EvaluationCallback, ValidationSettings, standard_callbacks
from birthgpt.training.losses import teach_known_names
from birthgpt.training.manifest import checkpoints_to_resume
from birthgpt.training.model_group import ModelGroup, ReplicaSpec
from birthgpt.training.run_folder import open_run_folder
from birthgpt.training.run_inputs import Inputs, fingerprint_data, fingerprint_files, fingerprint_tokenizer
from birthgpt.training.run_lock import locked_folder
from birthgpt.training.state import TrainingSummary
from birthgpt.training.trainer import Trainer, TrainingSettings
from birthgpt.utils.errors import naming_source
from birthgpt.utils.folders import check_output_is_not_input

DEFAULT_EVAL_STEPS = 10


@checked
@dataclass(kw_only=True)
class StartSettings(ColumnSettings):
    """The checkpoint or the corpus that finetuning starts from."""

    model_name_or_path: str | None = setting(None, "pretrained checkpoint; a new model if not given")
    corpus_file: str | None = setting(
        None,
        "biographies: names to find in the questions, and text to train the tokenizer of a new model on",
    )


@checked
@dataclass(kw_only=True)
class FinetuneValidationSettings(ValidationSettings):
    """Evaluation on questions during training, and which weights are kept after it."""

    load_best_model_at_end: bool = setting(
        True, "finetuning keeps the weights with the best held-out accuracy; false: the last weights"
    )


@checked
@dataclass(kw_only=True)
class FinetuneSettings:
    """Teach a pretrained model, or a new one, to answer questions."""

    questions: QuestionSettings
    start: StartSettings
    validation: FinetuneValidationSettings
    examples: ExampleSettings
    tokenizer: TokenizerSettings
    model: ModelSettings
    training: TrainingSettings

    def validate_validation(self):
        """Evaluations ask either the questions of a file or held-out train questions."""
        if self.questions.validation_file is None:
            return
        if self.validation.validation_size:
            raise ValueError(
                f"validation_file={self.questions.validation_file} takes the place of held-out train questions: set "
                f"validation_size to 0, not {self.validation.validation_size}"
            )

    def validate_start(self):
        """A checkpoint has a tokenizer; a new model needs one."""
        start, tokenizer = self.start, self.tokenizer.tokenizer_name_or_path
        if start.model_name_or_path is not None and tokenizer is not None:
            raise ValueError("model_name_or_path has its own tokenizer: leave out tokenizer_name_or_path")
        if start.model_name_or_path is None and tokenizer is None and start.corpus_file is None:
            raise ValueError(
                "give model_name_or_path to finetune a checkpoint; a new model needs a tokenizer: give "
                "tokenizer_name_or_path, or corpus_file to train one on"
            )

    def validate_unknown_names(self):
        """A name is unknown if no line has it."""
        ratio = self.examples.unknown_question_ratio
        if ratio and self.start.corpus_file is None:
            raise ValueError(f"unknown_question_ratio={ratio} needs the names that the model knows: give corpus_file")


def finetune(settings: FinetuneSettings) -> TrainingSummary | None:
    """Teach a model to answer questions and save it in `output_dir`; with `dry_run`, only print a report.

    `validation_size` train questions are held out, or the questions of `validation_file` are asked, and the weights
    with the best accuracy on them are kept, unless `load_best_model_at_end` is false.

    Raises:
        ValueError: the questions, a setting or the folder is wrong. It is raised before the training.
    """
    training, run = settings.training, settings.training.run
    train_file = settings.questions.train_file
    check_output_is_not_input(
        run.output_dir,
        model_name_or_path=settings.start.model_name_or_path,
        train_file=train_file,
        validation_file=settings.questions.validation_file,
        corpus_file=settings.start.corpus_file,
        tokenizer_name_or_path=settings.tokenizer.tokenizer_name_or_path,
    )
    accelerator = build_accelerator(training)
    if accelerator.is_main_process:
        warn_unused(settings, unused_in_finetuning(settings))
    corpus = read_start_corpus(settings.start)
    lines = None if corpus is None else lines_by_name(corpus)
    names = None if lines is None else NameFinder(lines)
    questions = load_questions(train_file, names=names)
    development = read_development(settings, questions, lines, names, verbose=accelerator.is_main_process)
    with naming_source(train_file):
        trained, held_out = train_validation_split(questions, settings.validation.validation_size, run.seed_of_data)
    model, tokenizer = starting_point(settings, corpus)
    if accelerator.is_main_process:
        warn_odd_questions(train_file, questions, lines_by_name=lines)
        warn_rare_relations(train_file, questions)
        if settings.validation.validation_size:
            warn_unknown_people(train_file, questions)
        warn_unknown_characters(tokenizer, questions["question"][:] + questions["answer"][:], train_file)
    for file, asked in ((train_file, questions), (settings.questions.validation_file, development)):
        if asked is not None:
            with naming_source(str(file)):
                check_question_lengths(model, tokenizer, asked["question"][:])
    people = [*questions["name"], *(() if development is None else development["name"])]
    unknown_names = build_unknown_names(settings.examples, () if lines is None else lines, people)
    inputs = fingerprints(settings, questions, development, corpus, tokenizer)
    held_out = development or held_out
    block_size, has_encoder = model.config.max_position_embeddings, model.config.is_encoder_decoder
    if unknown_names is not None:
        teach_known_names(model, tokenizer)
    objective = build_question_answering(settings.examples, tokenizer, block_size, trained, unknown_names, has_encoder)
    with naming_source(train_file):
        batches = build_batches(trained, objective, tokenizer, training, accelerator)
    if run.dry_run:
        describe_run(model, tokenizer, batches, training.budget, accelerator)
        return None
    spec = ReplicaSpec(Path(run.output_dir), run.seed, training.optimizer.learning_rate)
    models = ModelGroup(spec, model, training.optimizer, accelerator, training.compute.torch_compile)
    with locked_folder(run, accelerator):
        # an earlier run is deleted here, so everything that can be refused is built before
        resume_from = open_run_folder(settings, run, accelerator, [], inputs)
        evaluation = None
        eval_steps = settings.validation.eval_steps
        eval_steps = DEFAULT_EVAL_STEPS if eval_steps is None else eval_steps
        if held_out is not None and eval_steps:
            evaluator = build_accuracy_evaluator(trained, held_out, tokenizer, accelerator)
            metric = "held_out_accuracy" if settings.validation.load_best_model_at_end else None
            evaluation = EvaluationCallback(evaluator, eval_steps, metric_for_best_model=metric)
        callbacks = standard_callbacks(training.logging, training.checkpoints, tokenizer, accelerator, evaluation)
        summary = Trainer(models, batches, accelerator, training, callbacks).train(resume_from)
        if accelerator.is_main_process:
            save_run_metadata(spec.folder, "finetuning", settings, summary)
    return summary


def read_development(
    settings: FinetuneSettings,
    train: datasets.Dataset,
    lines: dict[str, list[str]] | None,
    names: NameFinder | None,
    *,
    verbose: bool,
) -> datasets.Dataset | None:
    """The questions of `validation_file`, None if it is not given; with `verbose`, log what looks odd."""
    source = settings.questions.validation_file
    if source is None:
        return None
    development = load_questions(source, names=names)
    if verbose:
        warn_odd_questions(source, development, lines_by_name=lines, train=train)
    return development


def read_start_corpus(settings: StartSettings) -> datasets.Dataset | None:
    """The lines of `corpus_file`; None if it is not given."""
    if settings.corpus_file is None:
        return None
    corpus = settings.read_lines(settings.corpus_file)
    assert isinstance(corpus, datasets.Dataset)
    return corpus


def fingerprints(
    settings: FinetuneSettings,
    questions: datasets.Dataset,
    development: datasets.Dataset | None,
    corpus: datasets.Dataset | None,
    tokenizer: PreTrainedTokenizerBase,
) -> Inputs:
    """The fingerprints of what the run reads; of a checkpoint that it starts from, those of settings and tokenizer."""
    checkpoint = settings.start.model_name_or_path
    return {
        "train_file": fingerprint_data(questions, settings.questions.train_file),
        "validation_file": fingerprint_data(development, settings.questions.validation_file),
        "corpus_file": fingerprint_data(corpus, settings.start.corpus_file),
        "model_name_or_path": None if checkpoint is None else fingerprint_files(f"{checkpoint}/config.json"),
        "tokenizer": fingerprint_tokenizer(tokenizer),
    }


def starting_point(
    settings: FinetuneSettings, corpus: datasets.Dataset | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The pretrained model and its tokenizer, or a new model and a new tokenizer."""
    checkpoint = settings.start.model_name_or_path
    unknown = teaches_unknown(settings.examples)
    if checkpoint is not None:
        model, tokenizer = load_to_train(checkpoint, settings.model)
        if unknown:
            add_unknown_answer(model, tokenizer)
        return model, tokenizer
    texts = () if corpus is None else texts_of(corpus)
    run = settings.training.run
    checkpoints = checkpoints_to_resume(Path(run.output_dir), run.resume_from_checkpoint)
    block_size = settings.examples.block_size
    tokenizer = build_tokenizer(settings.tokenizer, texts, block_size, checkpoints, unknown_answers=unknown)
    return build_model(settings.model, tokenizer, block_size), tokenizer


COMMAND = Command(FinetuneSettings, finetune, show_summary)
