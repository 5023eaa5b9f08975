"""An ensemble of checkpoints: its answers, its accuracy, and its answers as training data of one model."""

import logging
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from birthgpt.commands.command import Command
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.report_answers import (
    Questions,
    ReportSettings,
    check_outputs,
    report_answers,
    show_accuracy,
    training_cost,
)
from birthgpt.data.names import normalize
from birthgpt.data.questions import identity
from birthgpt.data.tokenizers import RESERVED_TOKENS
from birthgpt.evaluation.answering import AnsweringSettings
from birthgpt.evaluation.ensembling import Member, ensemble_answers
from birthgpt.settings import checked, setting
from birthgpt.training.accelerators import ThreadSettings
from birthgpt.utils.environment import connected_accelerator, use_threads
from birthgpt.utils.errors import naming_source
from birthgpt.utils.files import write_text

logger = logging.getLogger(__name__)

LABELLED = "labelled.tsv"


@checked
@dataclass(kw_only=True)
class EnsembleSettings:
    """Let several checkpoints answer as one; with `label_names`, also write questions for a single model."""

    report: ReportSettings
    answering: AnsweringSettings
    threads: ThreadSettings
    model_names_or_paths: list[str] = setting(help="finetuned checkpoints")
    label_names: str | None = setting(
        None, "a question with {name}: answer it for every name of the corpus, into labelled.tsv"
    )

    def validate_labels(self):
        """Labels need the known answers and the names."""
        if self.label_names is None:
            return
        if not (self.report.train_file and self.report.corpus_file):
            raise ValueError("label_names needs train_file and corpus_file: give the known answers and the names")
        if self.label_names.count("{name}") != 1:
            raise ValueError(f"label_names={self.label_names!r}: give a question that contains {{name}} once")


def ensemble(settings: EnsembleSettings) -> dict | None:
    """Write `predictions.txt`, and `metrics.json` if there are answers; return the metrics on the main process.

    With `label_names`, the ensemble also answers this question for all names of the corpus. `labelled.tsv` contains the
    train questions with their own answers, and the other questions with the answers of the ensemble. A model that is
    finetuned on this file learns what the ensemble knows (distillation).

    Raises:
        ValueError: a checkpoint, a file or a setting is wrong.
    """
    accelerator = connected_accelerator()
    use_threads(accelerator, settings.threads.num_threads)
    check_outputs(settings.report, accelerator, *([LABELLED] if settings.label_names is not None else []))
    questions = Questions.load(settings.report)
    paths = settings.model_names_or_paths
    cost = total_cost([training_cost(path) for path in paths])
    members = [(model.to(accelerator.device), tokenizer) for model, tokenizer in map(load_model_and_tokenizer, paths)]
    options = {
        "batch_size": settings.answering.batch_size,
        "max_new_tokens": settings.answering.max_new_tokens,
        "always_answer": settings.answering.always_answer,
        "accelerator": accelerator,
    }
    labelled = None
    if settings.label_names is not None:
        labelled = label_questions(members, questions, settings.label_names, options)
    with naming_source(settings.report.question_file):
        answers = ensemble_answers(members, questions.asked["question"][:], **options)
    if not accelerator.is_main_process:
        return None
    if labelled is not None:
        rows = "".join(f"{question}\t{answer}\n" for question, answer in labelled)
        write_text(Path(settings.report.output_dir) / LABELLED, rows)
    return report_answers(
        settings.report,
        questions,
        answers,
        name=f"ensemble of {len(members)}",
        cost=cost,
    )


def label_questions(members: list[Member], questions: Questions, template: str, options: dict) -> list[tuple[str, str]]:
    """The train questions with their answers, then the questions about all other names with the ensemble's answers."""
    assert questions.train is not None and questions.lines is not None
    known = {identity(row) for row in questions.train}
    rows = [{"question": normalize(template.replace("{name}", name)), "name": name} for name in questions.lines if name]
    others = [row["question"] for row in rows if identity(row) not in known]
    answers = ensemble_answers(members, others, **options)
    labelled = [(question, answer.text) for question, answer in zip(others, answers, strict=True)]
    kept = [(question, normalize(answer)) for question, answer in labelled if is_readable(answer)]
    if len(kept) < len(labelled):
        logger.warning(
            "%s: %d of %d answers are left out: they are empty, or contain a tab, a line break or a special token",
            LABELLED,
            len(labelled) - len(kept),
            len(labelled),
        )
    trained = dict(zip(questions.train["question"][:], questions.train["answer"][:], strict=True))
    return [*trained.items(), *kept]


def is_readable(answer: str) -> bool:
    """Whether `load_questions` reads this answer from a cell of a .tsv."""
    has_control_characters = any(unicodedata.category(character) == "Cc" for character in answer)
    return normalize(answer) != "" and not has_control_characters and not set(RESERVED_TOKENS) & set(answer)


def total_cost(of_members: list[dict]) -> dict:
    """The total training cost of all members; empty if the cost of a member is unknown."""
    if not all(of_members):
        return {}
    total = {key: sum(cost[key] for cost in of_members) for key in ("parameters", "tokens", "flops", "seconds")}
    targets = sum(cost["target_ratio"] * cost["tokens"] for cost in of_members)
    return total | {
        "tokens_per_second": total["tokens"] / total["seconds"],
        "target_ratio": targets / total["tokens"],
        "training_command": [command for cost in of_members for command in cost["training_command"]],
    }


COMMAND = Command(EnsembleSettings, ensemble, show_accuracy)
