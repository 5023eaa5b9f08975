"""An ensemble of checkpoints: its answers, its accuracy, and questions labelled by it for a model to learn from."""

from pathlib import Path

import datasets
from accelerate import Accelerator

from birthgpt.commands.building import load_model, load_tokenizer
from birthgpt.commands.evaluate import report_answers, training_cost
from birthgpt.data.corpus import lines_by_name, load_corpus
from birthgpt.data.questions import load_questions
from birthgpt.data.tokenizers import MASK_TOKEN, PAD_TOKEN
from birthgpt.evaluation.ensembling import ensemble_answers
from birthgpt.training.arguments import EnsembleArguments
from birthgpt.utils.environment import use_all_cores
from birthgpt.utils.files import write_text


def ensemble(arguments: EnsembleArguments) -> dict | None:
    """Ask the ensemble; `predictions.txt`, and `metrics.json` where there are answers; those, on the main process.

    With `label_names`, everybody in the corpus is asked about as well, and `labelled.tsv` holds the questions: with
    the train questions' own answers, and with the ensemble's for all others. A model finetuned on it learns what the
    ensemble knows (distillation).

    Raises:
        ValueError: what is wrong with a checkpoint, the files or the settings.
    """
    accelerator = Accelerator()
    use_all_cores(accelerator)
    if arguments.label_names and not (arguments.train_file and arguments.corpus_file):
        raise ValueError("label_names needs train_file and corpus_file: the answers that are known, and the names")
    questions = load_questions(arguments.question_file, require_answers=False)
    train = load_questions(arguments.train_file) if arguments.train_file else None
    by_name = lines_by_name(load_corpus(arguments.corpus_file)) if arguments.corpus_file else None
    paths = arguments.model_names_or_paths
    members = [(load_model(path).to(accelerator.device), load_tokenizer(path)) for path in paths]
    settings = {
        "batch_size": arguments.batch_size,
        "max_new_tokens": arguments.max_new_tokens,
        "accelerator": accelerator,
    }
    labelled = None
    if arguments.label_names:
        labelled = _labelled(members, train, [name for name in by_name if name], arguments.label_names, settings)
    answers = ensemble_answers(members, questions["question"][:], **settings)
    if not accelerator.is_main_process:
        return None
    if labelled is not None:
        write_text(
            Path(arguments.output_dir) / "labelled.tsv",
            "".join(f"{question}\t{answer}\n" for question, answer in labelled),
        )
    return report_answers(
        arguments,
        questions,
        answers,
        train["answer"][:] if train is not None else [],
        by_name,
        name=f"ensemble of {len(members)}",
        cost=_cost([training_cost(path) for path in paths]),
    )


def _labelled(
    members: list, train: datasets.Dataset, names: list[str], template: str, settings: dict
) -> list[tuple[str, str]]:
    """Questions and answers: the train questions, then the ensemble's about everybody else."""
    if template.count("{name}") != 1:
        raise ValueError(f"label_names={template!r}: a question with {{name}} in it once")
    known = dict(zip(train["question"][:], train["answer"][:], strict=True))
    others = [question for question in (template.replace("{name}", name) for name in names) if question not in known]
    answers = ensemble_answers(members, others, **settings)
    labelled = [(question, answer.text) for question, answer in zip(others, answers, strict=True)]
    return [*known.items(), *((question, answer) for question, answer in labelled if _is_cell(answer))]


def _is_cell(answer: str) -> bool:
    """Whether `load_questions` reads it again: a model may write nothing, a line break or a pad."""
    return answer.isprintable() and answer != "" and not {MASK_TOKEN, PAD_TOKEN} & set(answer)


def _cost(of_members: list[dict]) -> dict:
    """What the members cost together; nothing where their folders do not say."""
    if not all(of_members):
        return {}
    total = {key: sum(metrics[key] for metrics in of_members) for key in ("parameters", "tokens", "flops", "seconds")}
    targets = sum(metrics["target_ratio"] * metrics["tokens"] for metrics in of_members)
    return total | {
        "tokens_per_second": total["tokens"] / total["seconds"],
        "target_ratio": targets / total["tokens"],
        "training_command": [command for metrics in of_members for command in metrics["training_command"]],
    }
