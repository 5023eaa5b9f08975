"""Pretraining: from a corpus to a checkpoint."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.commands.building import (
    TOKENIZER_SAMPLE,
    ModelSettings,
    build_batches,
    build_model,
    build_tokenizer,
    build_unknown_names,
)
from birthgpt.commands.command import Command
from birthgpt.commands.data_report import report_corpus, report_coverage, report_examples
from birthgpt.commands.dry_run import describe_run
from birthgpt.commands.evaluators import Evaluator, build_accuracy_evaluator, build_recall_evaluator
from birthgpt.commands.run_metadata import save_run_metadata, show_summary
from birthgpt.commands.unused_settings import unused_in_pretraining, warn_unused
from birthgpt.data.batching import EpochBatches, MixedBatches, PlannedBatches
from birthgpt.data.corpus import CorpusSettings, lines_by_name
from birthgpt.data.names import NameFinder
from birthgpt.data.objectives import (
    OBJECTIVES,
    Objective,
    ObjectiveSettings,
    RecallFromName,
    build_objective,
    build_question_answering,
    teaches_unknown,
)
from birthgpt.data.questions import (
    QUESTION_RATIO,
    MixedQuestionSettings,
    load_questions,
    warn_odd_questions,
    warn_rare_relations,
)
from birthgpt.data.shards import count_rows
from birthgpt.data.splits import train_validation_split, warn_unknown_people
from birthgpt.data.streaming import StreamedBatches, StreamSettings
from birthgpt.data.tokenizers import TokenizerSettings, warn_unknown_characters
from birthgpt.data.unknown_names import UnknownNames
from birthgpt.model.attention_types import get_attention_type
from birthgpt.settings import checked
from birthgpt.training.accelerators import build_accelerator
from birthgpt.training.callbacks import EvaluationCallback, ValidationSettings, standard_callbacks
from birthgpt.training.losses import LossSettings
from birthgpt.training.manifest import checkpoints_to_resume
from birthgpt.training.model_group import ModelGroup, ReplicaSpec
from birthgpt.training.processes import on_all_processes, shared_out
from birthgpt.training.run_folder import open_run_folder
from birthgpt.training.run_inputs import fingerprint_data, fingerprint_tokenizer
from birthgpt.training.run_lock import locked_folder
from birthgpt.training.stacked_models import ReplicaSettings, StackedModels, replica_specs
from birthgpt.training.state import TrainingSummary
from birthgpt.training.trainer import Trainer, TrainingSettings
from birthgpt.utils.errors import naming_source
from birthgpt.utils.folders import check_output_is_not_input

logger = logging.getLogger(__name__)


@checked
@dataclass(kw_only=True)
class PretrainSettings:
    """Train a new model on a corpus."""

    corpus: CorpusSettings
    stream: StreamSettings
    objective: ObjectiveSettings
    questions: MixedQuestionSettings
    validation: ValidationSettings
    tokenizer: TokenizerSettings
    model: ModelSettings
    replicas: ReplicaSettings
    loss: LossSettings
    training: TrainingSettings

    def validate_questions(self):
        """Evaluation and mixing need questions, and given questions must be used."""
        questions, eval_steps = self.questions, self.validation.eval_steps
        if questions.question_file is None and questions.question_ratio not in (QUESTION_RATIO, 0):
            raise ValueError(f"question_ratio={questions.question_ratio} is for questions: give question_file")
        if eval_steps and questions.question_file is None:
            raise ValueError("eval_steps evaluates on questions: give question_file")
        if self.validation.validation_size and questions.question_file is None:
            raise ValueError(
                f"validation_size={self.validation.validation_size} holds questions out: give question_file, or set "
                "validation_size to 0"
            )
        if eval_steps and not self.validation.validation_size:
            raise ValueError("eval_steps evaluates on questions that are held out: give their number, validation_size")
        if questions.question_file is not None and not questions.question_ratio and not eval_steps:
            raise ValueError("question_ratio=0: question_file is not used: give eval_steps to evaluate on them")
        if questions.question_file is not None and self.corpus.streaming:
            raise ValueError("question_file cannot be mixed into a stream: set streaming to false")

    def validate_unknown_names(self):
        """Only objectives that recall from names can ask about other names, and only questions that are given."""
        asked = self.questions.question_file is not None and self.questions.question_ratio > 0
        if self.objective.unknown_question_ratio and not asked:
            raise ValueError("unknown_question_ratio is of the questions in pretraining: give question_file")
        name, ratio = self.objective.objective, self.objective.unknown_name_ratio
        if ratio and not issubclass(OBJECTIVES[name], RecallFromName):
            allowed = ", ".join(name for name, kind in OBJECTIVES.items() if issubclass(kind, RecallFromName))
            raise ValueError(f"unknown_name_ratio={ratio}: {name} does not recall from names: choose {allowed}")

    def validate_replicas(self):
        """Some settings are not possible if several models are trained at once."""
        if not self.replicas.seeds and not self.replicas.learning_rates:
            return
        alone = {
            "torch_compile": self.training.compute.torch_compile,
            "gradient_checkpointing": self.model.gradient_checkpointing,
            "eval_steps": self.validation.eval_steps,
            "architecture=encoder_decoder": self.model.architecture == "encoder_decoder",
        }
        for name, value in alone.items():
            if value:
                raise ValueError(f"{name} is for one model only: leave it out, or leave out seeds and learning_rates")


def pretrain(settings: PretrainSettings) -> TrainingSummary | None:
    """Train a new model on a corpus and save it in `output_dir`; with `dry_run`, only print a report.

    Raises:
        ValueError: the corpus, a setting or the folder is wrong. It is raised before the training.
    """
    training, run = settings.training, settings.training.run
    check_output_is_not_input(
        run.output_dir,
        train_file=settings.corpus.train_file,
        question_file=settings.questions.question_file,
        tokenizer_name_or_path=settings.tokenizer.tokenizer_name_or_path,
    )
    accelerator = build_accelerator(training)
    if accelerator.is_main_process:
        warn_unused(settings, unused_in_pretraining(settings))
    corpus = read_corpus(settings.corpus, accelerator)
    questions = read_questions(settings, corpus, verbose=accelerator.is_main_process)
    block_size = settings.objective.block_size
    specs = build_specs(settings, accelerator)
    first_folder = specs[0].folder if specs else Path(run.output_dir)
    checkpoints = checkpoints_to_resume(first_folder, run.resume_from_checkpoint)
    unknown = teaches_unknown(settings.objective)
    texts = texts_of(corpus, questions if settings.questions.question_ratio else None)
    tokenizer = build_tokenizer(settings.tokenizer, texts, block_size, checkpoints, unknown_answers=unknown)
    if accelerator.is_main_process and not settings.corpus.streaming:
        warn_unknown_characters(tokenizer, corpus["text"], settings.corpus.train_file)
    if accelerator.is_main_process and questions is not None:
        asked = questions["question"][:] + questions["answer"][:]
        warn_unknown_characters(tokenizer, asked, str(settings.questions.question_file))
    known_names = settings.objective.unknown_question_ratio > 0
    known = settings.loss.leave_out_known
    build = partial(build_model, settings.model, tokenizer, block_size, known_names=known_names, known=known)
    model = build()
    check_objective(settings, corpus, model)
    people = () if questions is None else questions["name"]
    unknown_names = build_unknown_names(settings.objective, (row["name"] for row in corpus), people)
    objective = build_objective(
        settings.objective,
        tokenizer,
        corpus,
        unknown_names,
        for_encoder_decoder=model.config.is_encoder_decoder,
        questions=questions if questions is not None and settings.questions.question_ratio else (),
    )
    facts = report_data(settings, corpus, questions, objective) if accelerator.is_main_process else {}
    batches, evaluator = build_data(settings, corpus, questions, objective, tokenizer, accelerator, unknown_names)
    if run.dry_run:
        describe_run(model, tokenizer, batches, training.budget, accelerator, models=max(1, len(specs)), facts=facts)
        return None
    inputs = {
        "train_file": fingerprint_data(corpus, settings.corpus.train_file),
        "question_file": fingerprint_data(questions, settings.questions.question_file),
        "tokenizer": fingerprint_tokenizer(tokenizer),
    }
    check_first_batch(batches, accelerator)
    if specs:
        models: ModelGroup = StackedModels(specs, build, training.optimizer, accelerator)
    else:
        spec = ReplicaSpec(Path(run.output_dir), run.seed, training.optimizer.learning_rate)
        models = ModelGroup(spec, model, training.optimizer, accelerator, training.compute.torch_compile)
    with locked_folder(run, accelerator):
        # an earlier run is deleted here, so everything that can be refused is built before
        resume_from = open_run_folder(settings, run, accelerator, [spec.folder for spec in specs], inputs)
        evaluation = None
        if evaluator is not None and settings.validation.eval_steps:
            evaluation = EvaluationCallback(evaluator, settings.validation.eval_steps)
        callbacks = standard_callbacks(training.logging, training.checkpoints, tokenizer, accelerator, evaluation)
        summary = Trainer(models, batches, accelerator, training, callbacks).train(resume_from)
        if accelerator.is_main_process:
            save_metadata(settings, specs, summary)
    return summary


def build_specs(settings: PretrainSettings, accelerator: Accelerator) -> list[ReplicaSpec]:
    """The specifications of the models that are trained at once; empty for a single model.

    Raises:
        ValueError: several models with several processes.
    """
    run = settings.training.run
    learning_rate = settings.training.optimizer.learning_rate
    specs = replica_specs(settings.replicas, output_dir=run.output_dir, seed=run.seed, learning_rate=learning_rate)
    if specs and accelerator.num_processes > 1:
        raise ValueError("seeds and learning_rates are trained in one process: launch only one")
    return specs


def save_metadata(settings: PretrainSettings, specs: list[ReplicaSpec], summary: TrainingSummary) -> None:
    """Write `run.json`; each of several models gets its own file, as if it had been trained alone."""
    run = settings.training.run
    if not specs:
        save_run_metadata(Path(run.output_dir), "pretraining", settings, summary)
    for index, spec in enumerate(specs):
        changed = {
            "seeds": [],
            "learning_rates": [],
            "seed": spec.seed,
            "data_seed": run.seed_of_data,
            "learning_rate": spec.learning_rate,
            "output_dir": str(spec.folder),
        }
        save_run_metadata(spec.folder, "pretraining", settings, summary.of_model(index), **changed)


def read_corpus(settings: CorpusSettings, accelerator: Accelerator) -> datasets.Dataset | datasets.IterableDataset:
    """Return the corpus of a run, and log its counts; all processes count the lines of a stream together."""
    count = partial(shared_out, count_rows, accelerator=accelerator)
    corpus = settings.read_train_file(count)
    if accelerator.is_main_process and isinstance(corpus, datasets.Dataset):
        report_corpus(settings.train_file, corpus)
    return corpus


def texts_of(
    corpus: datasets.Dataset | datasets.IterableDataset, questions: datasets.Dataset | None = None
) -> Iterator[str]:
    """What a tokenizer is trained on: the lines, after the questions that are trained on too.

    `which` and `Where` are in no line. Without the questions, they would be several tokens each.
    """
    if questions is not None:
        yield from questions["question"][: TOKENIZER_SAMPLE // 2]
    yield from (row["text"] for row in corpus)


def check_objective(
    settings: PretrainSettings, corpus: datasets.Dataset | datasets.IterableDataset, model: PreTrainedModel
) -> None:
    """A ValueError for lines without names, or for branches with an attention type that does not support them."""
    name = settings.objective.objective
    if not issubclass(OBJECTIVES[name], RecallFromName):
        return
    if not settings.corpus.streaming and not any(corpus["name"]):
        raise ValueError(
            f"no line of {settings.corpus.train_file} has an example for {name}, because no line has a name: "
            "begin lines with `Name. `, or give name_column"
        )
    if settings.objective.objective_layout == "branches":
        for attention_type in model.config.attention_types:
            if not get_attention_type(attention_type).supports_branches:
                raise ValueError(
                    f"attention_type={attention_type!r} cannot take branches: set objective_layout to unrolled"
                )


def read_questions(
    settings: PretrainSettings,
    corpus: datasets.Dataset | datasets.IterableDataset,
    *,
    verbose: bool = False,
) -> datasets.Dataset | None:
    """The train questions of a run, None if there are none; with `verbose`, log what looks odd."""
    source = settings.questions.question_file
    if source is None:
        return None
    names = [row["name"] for row in corpus]
    questions = load_questions(source, names=NameFinder(names))
    if verbose:
        warn_odd_questions(source, questions, lines_by_name=set(names))
        warn_rare_relations(source, questions)
        if settings.validation.validation_size:
            warn_unknown_people(source, questions)
    return questions


def report_data(
    settings: PretrainSettings,
    corpus: datasets.Dataset | datasets.IterableDataset,
    questions: datasets.Dataset | None,
    objective: Objective,
) -> dict[str, float]:
    """Log which answers can be spans of the objective, and return it for the report of a dry run."""
    if questions is None:
        return {}
    assert settings.questions.question_file is not None and isinstance(corpus, datasets.Dataset)
    coverage = report_coverage(settings.questions.question_file, questions, corpus, objective)
    return {} if coverage is None else {"answers_as_spans": coverage.ratio}


def build_data(
    settings: PretrainSettings,
    corpus: datasets.Dataset | datasets.IterableDataset,
    questions: datasets.Dataset | None,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
    unknown_names: UnknownNames | None = None,
) -> tuple[PlannedBatches | StreamedBatches, Evaluator | None]:
    """The batches of the corpus, mixed with train questions (2309.14316, section 3), and the evaluator."""
    training = settings.training
    source, seed = settings.corpus.train_file, training.run.seed_of_data
    lines = build_batches(corpus, objective, tokenizer, training, accelerator, name=source, stream=settings.stream)
    if isinstance(lines, StreamedBatches):
        return lines, None
    if accelerator.is_main_process:
        report_examples(source, corpus, lines, objective)
    if questions is None:
        return lines, None
    with naming_source(str(settings.questions.question_file)):
        trained, held_out = train_validation_split(questions, settings.validation.validation_size, seed)
    evaluator = None
    if settings.validation.eval_steps:
        assert held_out is not None
        evaluator = build_evaluator(trained, held_out, corpus, tokenizer, accelerator)
    if not settings.questions.question_ratio:
        return lines, evaluator
    answering = build_question_answering(
        settings.objective, tokenizer, settings.objective.block_size, trained, unknown_names,
        objective.for_encoder_decoder,
    )  # fmt: skip
    with naming_source(str(settings.questions.question_file)):
        asked = build_batches(trained, answering, tokenizer, training, accelerator)
    assert isinstance(asked, EpochBatches)
    return MixedBatches(lines, asked, question_ratio=settings.questions.question_ratio, seed=seed), evaluator


def check_first_batch(batches: PlannedBatches | StreamedBatches, accelerator: Accelerator) -> None:
    """A ValueError on every process for a stream whose first batch one of them cannot read, or does not have."""
    if not isinstance(batches, StreamedBatches):
        return
    found = on_all_processes(lambda: next(iter(batches), None) is not None, accelerator)
    if not any(found):
        raise ValueError("no line has an example for this objective")
    if not all(found):
        raise ValueError(
            f"process {found.index(False)} of {len(found)} has no line with an example for this objective: launch "
            "fewer processes, or add lines to train_file"
        )


def build_evaluator(
    trained: datasets.Dataset,
    held_out: datasets.Dataset,
    corpus: datasets.Dataset,
    tokenizer: PreTrainedTokenizerBase,
    accelerator: Accelerator,
) -> Evaluator:
    """The evaluator of a pretraining: recall after names, and accuracy on questions."""
    stored = build_recall_evaluator(held_out, lines_by_name(corpus), tokenizer)
    answered = build_accuracy_evaluator(trained, held_out, tokenizer, accelerator)
    return lambda model: {**stored(model), **answered(model)}


COMMAND = Command(PretrainSettings, pretrain, show_summary)
