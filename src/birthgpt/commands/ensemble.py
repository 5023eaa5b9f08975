"""An ensemble of checkpoints: its answers, its accuracy, and its answers as training data of one model."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from birthgpt.commands.command import Command
from birthgpt.commands.labels import LABELLED, LabelSettings, label_questions
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.report_answers import (
    Questions,
    ReportSettings,
    check_outputs,
    report_answers,
    show_accuracy,
    training_cost,
)
from birthgpt.commands.unused_settings import unused_columns, warn_unused
from birthgpt.evaluation.answering import AnsweringSettings
from birthgpt.evaluation.ensembling import ensemble_answers
from birthgpt.settings import checked, setting
from birthgpt.training.accelerators import ThreadSettings
from birthgpt.utils.environment import connected_accelerator, use_threads
from birthgpt.utils.errors import naming_source
from birthgpt.utils.files import write_text


@checked
@dataclass(kw_only=True)
class EnsembleSettings:
    """Let several checkpoints answer as one; with `label_names`, also write questions for a single model."""

    report: ReportSettings
    labels: LabelSettings
    answering: AnsweringSettings
    threads: ThreadSettings
    model_names_or_paths: list[str] = setting(help="finetuned checkpoints")

    def validate_labels(self):
        """Labels need the known answers and the names."""
        if self.labels.label_names and not (self.report.train_file and self.report.corpus_file):
            raise ValueError("label_names needs train_file and corpus_file: give the known answers and the names")


def ensemble(settings: EnsembleSettings) -> dict | None:
    """Write `predictions.txt`, and `metrics.json` if there are answers; return the metrics on the main process.

    With `label_names`, the ensemble also answers questions about other names of the corpus (`labels`). A model that is
    finetuned on the file of labels learns what the ensemble knows (distillation).

    Raises:
        ValueError: a checkpoint, a file or a setting is wrong.
    """
    accelerator = connected_accelerator()
    use_threads(accelerator, settings.threads.num_threads)
    check_outputs(settings.report, accelerator, *(LABELLED if settings.labels.label_names else ()))
    if accelerator.is_main_process:
        warn_unused(settings, unused_columns(settings.report.corpus_file))
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
    if settings.labels.label_names:
        answer = partial(ensemble_answers, members, **options)
        labelled = label_questions(settings.labels, questions, settings.report.question_file, answer)
    with naming_source(settings.report.question_file):
        answers = ensemble_answers(members, questions.asked["question"][:], **options)
    if not accelerator.is_main_process:
        return None
    if labelled is not None:
        name, content = labelled
        write_text(Path(settings.report.output_dir) / name, content)
    return report_answers(
        settings.report,
        questions,
        answers,
        name=f"ensemble of {len(members)}",
        cost=cost,
    )


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
