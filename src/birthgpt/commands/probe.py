"""Probing: which answers a checkpoint recalls, after which prompts."""

from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from birthgpt.commands.building import load_model, load_tokenizer
from birthgpt.commands.command import Command
from birthgpt.data.corpus import lines_by_name, load_corpus
from birthgpt.data.questions import load_questions
from birthgpt.evaluation.recall import answer_ranks, answerable, prompts_by_kind, recall_at
from birthgpt.settings import checked, setting
from birthgpt.training.accelerators import ThreadSettings
from birthgpt.utils.environment import environment_info, use_threads
from birthgpt.utils.files import save_json
from birthgpt.utils.tables import text_table


@checked
@dataclass(kw_only=True)
class ProbeSettings:
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
    accelerator = Accelerator()
    use_threads(accelerator, settings.threads.num_threads)
    corpus = load_corpus(settings.corpus_file)
    questions = load_questions(settings.question_file)
    found = answerable(list(questions), lines_by_name(corpus))
    if not found:
        raise ValueError(
            f"no answer of {settings.question_file} is in the line of its person in {settings.corpus_file}"
        )
    model = load_model(settings.model_name_or_path).to(accelerator.device)
    tokenizer = load_tokenizer(settings.model_name_or_path)
    asked, befores = zip(*found, strict=True)
    prompts = prompts_by_kind([row["name"] for row in asked], [row["question"] for row in asked], befores)
    answers = [row["answer"] for row in asked]
    rows = []
    for kind, texts in prompts.items():
        ranks = answer_ranks(model, tokenizer, texts, answers, batch_size=settings.batch_size)
        rows.append({"name": kind, **recall_at(ranks), "total": len(ranks)})
    if not accelerator.is_main_process:
        return None
    save_json(Path(settings.output_dir) / "probe.json", {"rows": rows, **environment_info()})
    return rows


def show_rows(rows: list[dict] | None) -> None:
    """Print a table of recall@k."""
    if rows is not None:
        print(text_table(rows, list(rows[0])))


COMMAND = Command(ProbeSettings, probe, show_rows)
