"""Evaluation: from a checkpoint and questions to predictions and metrics."""

import json
import logging
from pathlib import Path

import datasets
from accelerate import Accelerator

from birthgpt.commands.building import load_model, load_tokenizer
from birthgpt.commands.run_metadata import RUN_METADATA
from birthgpt.data.corpus import lines_by_name, load_corpus
from birthgpt.data.questions import load_questions
from birthgpt.data.tokenizers import warn_unknown_characters
from birthgpt.evaluation.answering import Answer, answer_questions, check_question_lengths
from birthgpt.evaluation.baselines import constant_place, most_common_train_place
from birthgpt.evaluation.metrics import compute_metrics
from birthgpt.training.arguments import EnsembleArguments, EvaluationArguments
from birthgpt.utils.environment import environment_info, use_all_cores
from birthgpt.utils.files import save_json, write_text

logger = logging.getLogger(__name__)


def evaluate(arguments: EvaluationArguments) -> dict | None:
    """Answer questions and write `predictions.txt`, one a line, and `metrics.json` where there are answers.

    With `baseline`, no model is asked: every answer is one place.

    Raises:
        ValueError: what is wrong with the checkpoint, the files or the settings.
    """
    accelerator = Accelerator()
    use_all_cores(accelerator)
    _check(arguments)
    questions = load_questions(arguments.question_file, require_answers=False)
    train_answers = load_questions(arguments.train_file)["answer"][:] if arguments.train_file else []
    lines = lines_by_name(load_corpus(arguments.corpus_file)) if arguments.corpus_file else None
    if arguments.baseline is not None:
        answers = _baseline_answers(arguments.baseline, train_answers, len(questions))
    else:
        answers = _model_answers(arguments, questions, accelerator)
    if arguments.dry_run or not accelerator.is_main_process:
        return None
    return report_answers(
        arguments,
        questions,
        answers,
        train_answers,
        lines,
        name=Path(arguments.model_name_or_path or arguments.baseline).name,
        cost=training_cost(arguments.model_name_or_path),
        with_probabilities=arguments.baseline is None,
    )


def report_answers(
    arguments: EvaluationArguments | EnsembleArguments,
    questions: datasets.Dataset,
    answers: list[Answer],
    train_answers: list[str],
    lines: dict[str, list[str]] | None,
    *,
    name: str,
    cost: dict,
    with_probabilities: bool = True,
) -> dict | None:
    """Write `predictions.txt` and, where the questions have answers, the metrics; those are returned.

    Args:
        name: of the row in tables, unless the arguments name it.
        cost: what the training took, as `training_cost` gives it.
    """
    output = Path(arguments.output_dir)
    # one a line, whatever a model writes
    written = [" ".join(answer.text.splitlines()) + "\n" for answer in answers]
    write_text(output / "predictions.txt", "".join(written))
    if questions["answer"][0] is None:
        logger.info("%s holds no answers: only %s is written", arguments.question_file, output / "predictions.txt")
        return None
    log_probabilities = [answer.log_probability for answer in answers] if with_probabilities else None
    result = {
        "name": arguments.name or name,
        "note": arguments.note,
        "order": arguments.order,
        "table": arguments.table or Path(arguments.question_file).stem,
        **compute_metrics(questions, [answer.text for answer in answers], train_answers, lines, log_probabilities),
        **environment_info(),
        **cost,
    }
    for file in filter(None, (output / "metrics.json", arguments.results_file)):
        save_json(file, result)
    return result


def _check(arguments: EvaluationArguments) -> None:
    if (arguments.model_name_or_path is None) == (arguments.baseline is None):
        raise ValueError("give exactly one of model_name_or_path and baseline")
    if Path(arguments.output_dir).is_file():
        raise ValueError(f"output_dir={arguments.output_dir} is a file: name a folder")


def _baseline_answers(baseline: str, train_answers: list[str], count: int) -> list[Answer]:
    place = most_common_train_place(train_answers) if baseline == "most_common" else baseline
    return [Answer(text, 0.0) for text in constant_place(place, count)]


def _model_answers(
    arguments: EvaluationArguments, questions: datasets.Dataset, accelerator: Accelerator
) -> list[Answer]:
    model = load_model(arguments.model_name_or_path).to(accelerator.device)
    tokenizer = load_tokenizer(arguments.model_name_or_path)
    texts = questions["question"][:]
    check_question_lengths(model, tokenizer, texts)
    if accelerator.is_main_process:
        warn_unknown_characters(tokenizer, texts, arguments.question_file)
    if arguments.dry_run:
        if accelerator.is_main_process:
            for question in texts[:3]:
                print(tokenizer.decode(tokenizer(question)["input_ids"]))
        return []
    return answer_questions(
        model,
        tokenizer,
        texts,
        batch_size=arguments.batch_size,
        max_new_tokens=arguments.max_new_tokens,
        num_beams=arguments.num_beams,
        progress=accelerator.is_main_process,
        accelerator=accelerator,
    )


def training_cost(checkpoint: str | None) -> dict:
    """What the training of a checkpoint took, from the `run.json` of its run and of the run it began from.

    Returns:
        `tokens`, `flops` and `seconds` of all runs together, with the `tokens_per_second` and the `target_ratio`
        (0..1) that follow; the `parameters` of the checkpoint; `pretraining_seed` and `finetuning_seed`, as far as
        there was such a run, of several the last; `training_command`, the commands in the order in which they ran.
        Nothing where the folder has no `run.json`.
    """
    records = _run_records(checkpoint)
    if not records:
        return {}
    total = {key: sum(record[key] for record in records) for key in ("tokens", "flops", "seconds")}
    return {
        "parameters": records[-1]["parameters"],
        **total,
        "tokens_per_second": total["tokens"] / total["seconds"],
        "target_ratio": sum(record["target_ratio"] * record["tokens"] for record in records) / total["tokens"],
        **{f"{record['kind']}_seed": record["seed"] for record in records},
        "training_command": [record["command"] for record in records],
    }


def _run_records(checkpoint: str | None) -> list[dict]:
    """The `run.json` of each run that led to a checkpoint, the first run first."""
    records: list[dict] = []
    visited = set()
    while checkpoint is not None and (Path(checkpoint) / RUN_METADATA).is_file():
        # a folder may have been written anew from what was made of it
        if (place := Path(checkpoint).resolve()) in visited:
            break
        visited.add(place)
        records.insert(0, json.loads((Path(checkpoint) / RUN_METADATA).read_text(encoding="utf-8")))
        checkpoint = records[0]["settings"].get("QuestionArguments", {}).get("model_name_or_path")
    return records
