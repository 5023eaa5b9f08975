"""Probing: which answers a checkpoint recalls, after which prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from birthgpt.commands.command import Command
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.corpus import ColumnSettings, lines_by_name
from birthgpt.data.names import NameFinder
from birthgpt.data.question_rows import RELATION
from birthgpt.data.questions import (
    UNKNOWN_RELATION,
    answers_of,
    load_questions,
    relation_in,
    warn_odd_questions,
)
from birthgpt.evaluation.answering import check_question_lengths
from birthgpt.evaluation.recall import answer_ranks, answerable, prompts_by_kind, recall_at
from birthgpt.settings import checked, setting
from birthgpt.training.accelerators import ThreadSettings
from birthgpt.training.processes import decided_by_main
from birthgpt.utils.environment import connected_accelerator, environment_info, use_threads
from birthgpt.utils.errors import naming_source
from birthgpt.utils.files import check_output_file, save_json
from birthgpt.utils.tables import limited_table, text_table

PROBE = "probe.json"

SHOWN_BY_RELATION = ("name", "question")
"""The kinds of prompts that are printed by relation."""


@checked
@dataclass(kw_only=True)
class ProbeSettings(ColumnSettings):
    """Measure recall@k of a checkpoint after the name, after words of the line, and after the question."""

    threads: ThreadSettings
    model_name_or_path: str = setting(help="checkpoint to probe")
    question_file: str = setting(help="questions with answers")
    corpus_file: str = setting(help="biographies that contain the answers")
    output_dir: str = setting(help="folder for probe.json")
    batch_size: int = setting(256, "prompts read at a time", min=1)


class Recall(NamedTuple):
    """What a probe finds: a row for each kind of prompt, and the same for each relation if there are several."""

    rows: list[dict[str, Any]]
    by_relation: dict[str, list[dict[str, Any]]]


def probe(settings: ProbeSettings) -> Recall | None:
    """Measure recall@k of the first token of the answer; of several right answers, any counts.

    Only questions whose answer is in a line of their person are counted. The main process writes `probe.json` to
    `output_dir` and returns the rows; the other processes return None.

    Raises:
        ValueError: the checkpoint or a file is wrong, or there is no such question.
    """
    accelerator = connected_accelerator()
    use_threads(accelerator, settings.threads.num_threads)
    output = Path(settings.output_dir) / PROBE
    inputs = {"question_file": settings.question_file, "corpus_file": settings.corpus_file}
    decided_by_main(lambda: check_output_file(output, inputs), accelerator)
    lines = lines_by_name(settings.read_lines(settings.corpus_file))
    questions = load_questions(settings.question_file, names=NameFinder(lines))
    if accelerator.is_main_process:
        warn_odd_questions(settings.question_file, questions, lines_by_name=lines)
    found = answerable(list(questions), lines)
    if not found:
        raise ValueError(
            f"no answer of {settings.question_file} is in the line of its person in {settings.corpus_file}"
        )
    model, tokenizer = load_model_and_tokenizer(settings.model_name_or_path)
    model = model.to(accelerator.device)
    asked, befores = zip(*found, strict=True)
    with naming_source(settings.question_file):
        check_question_lengths(model, tokenizer, [row["question"] for row in asked])
    prompts = prompts_by_kind([row["name"] for row in asked], [row["question"] for row in asked], befores)
    answers = [answers_of(row) for row in asked]
    with naming_source(settings.model_name_or_path):
        ranks = {
            kind: answer_ranks(model, tokenizer, texts, answers, batch_size=settings.batch_size)
            for kind, texts in prompts.items()
        }
    if not accelerator.is_main_process:
        return None
    rows = recall_rows(ranks)
    relations = by_relation([relation_in(row) or UNKNOWN_RELATION for row in asked], ranks)
    save_json(output, {"rows": rows, "by_relation": relations, **environment_info()})
    return Recall(rows, relations)


def recall_rows(ranks: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """A row for each kind of prompt, from the ranks of the answers."""
    return [{"name": kind, **recall_at(found), "total": len(found)} for kind, found in ranks.items()]


def by_relation(relations: Sequence[str], ranks: Mapping[str, Sequence[int]]) -> dict[str, list[dict[str, Any]]]:
    """The rows of each relation; empty if there is one.

    Args:
        relations: the relation of each question.
        ranks: for each kind of prompt, the rank of the answer to each question.
    """
    places: dict[str, list[int]] = {}
    for place, relation in enumerate(relations):
        places.setdefault(relation, []).append(place)
    if len(places) < 2:
        return {}
    return {
        relation: recall_rows({kind: [found[place] for place in chosen] for kind, found in ranks.items()})
        for relation, chosen in places.items()
    }


def show_recall(recall: Recall | None) -> None:
    """Print recall@k of each kind of prompt, and a table by relation if there are several."""
    if recall is None:
        return
    print(text_table(recall.rows, list(recall.rows[0])))
    if recall.by_relation:
        rows = [
            {RELATION: relation, "prompt": row["name"], **row, "count": row["total"]}
            for relation, rows in recall.by_relation.items()
            for row in rows
            if row["name"] in SHOWN_BY_RELATION
        ]
        columns = [RELATION, "prompt", *recall_at([0]), "count"]
        print("\n" + limited_table(rows, columns, rest=f" in {PROBE}"))


COMMAND = Command(ProbeSettings, probe, show_recall)
