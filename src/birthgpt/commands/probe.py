"""Probing: which answers a checkpoint brings up, and after what."""

import logging
from pathlib import Path

from accelerate import Accelerator

from birthgpt.commands.building import load_model, load_tokenizer
from birthgpt.data.corpus import lines_by_name, load_corpus
from birthgpt.data.questions import load_questions
from birthgpt.evaluation.recall import answer_ranks, answerable, prompts_by_kind, recall_at
from birthgpt.training.arguments import ProbeArguments
from birthgpt.utils.environment import environment_info, use_all_cores
from birthgpt.utils.files import save_json

logger = logging.getLogger(__name__)


def probe(arguments: ProbeArguments) -> list[dict] | None:
    """A row for each kind of prompt, with the share of answers whose first token is among the 1, 3, 10, 30 likeliest.

    Only people are asked about whose answer stands in their line. `probe.json` is written to `output_dir`,
    by the main process; the others return None.

    Raises:
        ValueError: what is wrong with the checkpoint or the files, or no such question.
    """
    accelerator = Accelerator()
    use_all_cores(accelerator)
    corpus = load_corpus(arguments.corpus_file)
    questions = load_questions(arguments.question_file)
    found = answerable(list(questions), lines_by_name(corpus))
    if not found:
        raise ValueError(
            f"no answer of {arguments.question_file} stands in the line of {arguments.corpus_file} it is about"
        )
    model = load_model(arguments.model_name_or_path).to(accelerator.device)
    tokenizer = load_tokenizer(arguments.model_name_or_path)
    asked, befores = zip(*found, strict=True)
    prompts = prompts_by_kind([row["name"] for row in asked], [row["question"] for row in asked], befores)
    answers = [row["answer"] for row in asked]
    rows = []
    for kind, texts in prompts.items():
        ranks = answer_ranks(model, tokenizer, texts, answers, batch_size=arguments.batch_size)
        rows.append({"name": kind, **recall_at(ranks), "total": len(ranks)})
    if not accelerator.is_main_process:
        return None
    save_json(Path(arguments.output_dir) / "probe.json", {"rows": rows, **environment_info()})
    return rows
