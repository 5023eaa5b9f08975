"""Probing: which answers a checkpoint recalls, after which prompts."""

from dataclasses import dataclass
from pathlib import Path

from birthgpt.commands.command import Command
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.corpus import ColumnSettings, lines_by_name
from birthgpt.data.names import NameFinder
from birthgpt.data.questions import load_questions, warn_odd_questions
from birthgpt.evaluation.recall import answer_ranks, answerable, prompts_by_kind, recall_at
from birthgpt.settings import checked, setting
from birthgpt.training.accelerators import ThreadSettings
from birthgpt.training.processes import decided_by_main
from birthgpt.utils.environment import connected_accelerator, environment_info, use_threads
from birthgpt.utils.errors import naming_source
from birthgpt.utils.files import check_output_file, save_json
from birthgpt.utils.tables import text_table


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


def probe(settings: ProbeSettings) -> list[dict] | None:
    """A row for each kind of prompt: recall@k of the first token of the answer.

    Only people whose answer is in their line are counted. The main process writes `probe.json` to `output_dir` and
    returns the rows; the other processes return None.

    Raises:
        ValueError: the checkpoint or a file is wrong, or there is no such question.
    """
    accelerator = connected_accelerator()
    use_threads(accelerator, settings.threads.num_threads)
    output = Path(settings.output_dir) / "probe.json"
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
    prompts = prompts_by_kind([row["name"] for row in asked], [row["question"] for row in asked], befores)
    answers = [row["answer"] for row in asked]
    rows = []
    for kind, texts in prompts.items():
        with naming_source(settings.model_name_or_path):
            ranks = answer_ranks(model, tokenizer, texts, answers, batch_size=settings.batch_size)
        rows.append({"name": kind, **recall_at(ranks), "total": len(ranks)})
    if not accelerator.is_main_process:
        return None
    save_json(output, {"rows": rows, **environment_info()})
    return rows


def show_rows(rows: list[dict] | None) -> None:
    """Print a table of recall@k."""
    if rows is not None:
        print(text_table(rows, list(rows[0])))


COMMAND = Command(ProbeSettings, probe, show_rows)
