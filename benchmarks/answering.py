"""How fast 500 questions are answered: batched, cached and sorted by length, or one at a time as in the assignment.

python benchmarks/answering.py --output_file benchmarks/answering.json

The model has the assignment's shape and characters as tokens; its weights are as they were drawn, so that no answer
ends early: each is 48 characters long.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from birthgpt.data.corpus import load_corpus
from birthgpt.data.people import DEV, WIKI, write_world
from birthgpt.data.questions import load_questions
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.report import save_json
from birthgpt.runs.building import build_model, build_tokenizer
from birthgpt.runs.records import circumstances
from birthgpt.training.arguments import ModelArguments, TokenizerArguments
from birthgpt.training.loop import available_cores

QUESTIONS = 500


def seconds_for(model, tokenizer, questions: list[str], batch_size: int, rounds: int) -> float:
    """The least of some rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        answer_questions(model, tokenizer, questions, batch_size=batch_size)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    parser.add_argument("--output_file", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(available_cores())
    with tempfile.TemporaryDirectory() as scratch:
        world = Path(scratch, "world")
        write_world(world, people=2 * QUESTIONS, held_out=QUESTIONS)
        texts = [row["text"] for row in load_corpus(str(world / WIKI))]
        questions = load_questions(str(world / DEV))["question"][:]
    tokenizer = build_tokenizer(TokenizerArguments(tokenizer_type="character"), texts, 128)
    model = build_model(ModelArguments(hidden_size=256, num_hidden_layers=4, num_attention_heads=8), tokenizer, 128)
    model.eval()
    few = questions[: QUESTIONS // 10]
    rows = [
        {"name": "batches of 256", "seconds": seconds_for(model, tokenizer, questions, 256, arguments.rounds)},
        {
            "name": "one at a time (ten times 50 of them)",
            "seconds": 10 * seconds_for(model, tokenizer, few, 1, arguments.rounds),
        },
    ]
    for row in rows:
        print(f"{row['name']}: {row['seconds']:.2f} s for {QUESTIONS} questions")
    if arguments.output_file:
        save_json(arguments.output_file, {"questions": QUESTIONS, "rows": rows, **circumstances()})


if __name__ == "__main__":
    main()
