"""How fast 500 questions are answered: batched, cached and sorted by length, or one at a time as in the assignment.

python benchmarks/answering.py --output_file benchmarks/answering.json

The model has the assignment's shape, and its tokens are characters. It is finetuned for some updates on other
questions, so that its answers are names of places, right or wrong. A second model is untrained: its answers never end,
so each is 48 characters long.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from birthgpt.commands.building import ModelSettings, build_model, build_tokenizer
from birthgpt.commands.finetune import FinetuneSettings, finetune
from birthgpt.commands.loading import load_model
from birthgpt.data.corpus import load_corpus
from birthgpt.data.questions import load_questions
from birthgpt.data.synthetic import DEV, TRAIN, WIKI, write_synthetic_corpus
from birthgpt.data.tokenizers import TokenizerSettings
from birthgpt.evaluation.answering import answer_questions
from birthgpt.model import BirthGPTForCausalLM
from birthgpt.settings import make_settings
from birthgpt.utils.environment import available_cores, environment_info
from birthgpt.utils.files import save_json

QUESTIONS = 500
BLOCK = 128
SHAPE = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8}
TOKENIZER = {"tokenizer_type": "character", "block_size": BLOCK}


def seconds_for(model, tokenizer, questions: list[str], batch_size: int, rounds: int) -> float:
    """The seconds of the fastest round."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        answer_questions(model, tokenizer, questions, batch_size=batch_size)
        times.append(time.perf_counter() - started)
    return min(times)


def finetuned_model(people: Path, folder: Path, steps: int) -> BirthGPTForCausalLM:
    """A model of the assignment's shape that is finetuned on questions about other people."""
    files = {"train_file": str(people / TRAIN), "corpus_file": str(people / WIKI), "output_dir": str(folder)}
    training = {"max_train_steps": steps, "per_device_train_batch_size": 256, "learning_rate": 1e-3, "save_steps": 0}
    finetune(make_settings(FinetuneSettings, **files, **training, **TOKENIZER, **SHAPE))
    return load_model(str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="the fastest counts")
    parser.add_argument("--steps", type=int, default=40, help="updates of the finetuning")
    parser.add_argument("--output_file", type=Path, help="also write the metrics here")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(available_cores())
    with tempfile.TemporaryDirectory() as scratch:
        people = Path(scratch, "people")
        write_synthetic_corpus(people, people=2 * QUESTIONS, held_out=QUESTIONS)
        texts = [row["text"] for row in load_corpus(str(people / WIKI))]
        questions = load_questions(str(people / DEV))["question"][:]
        tokenizer = build_tokenizer(TokenizerSettings(tokenizer_type="character"), texts, BLOCK)
        trained, untrained = (
            finetuned_model(people, Path(scratch, "run"), arguments.steps),
            build_model(make_settings(ModelSettings, **SHAPE), tokenizer, BLOCK),
        )
    few = questions[: QUESTIONS // 10]
    cases = [
        ("batches of 256", trained, questions, 256),
        ("one at a time (ten times 50 of them)", trained, few, 1),
        ("batches of 256, every answer of 48 characters", untrained, questions, 256),
    ]
    rows = []
    for name, model, asked, batch_size in cases:
        seconds = (
            seconds_for(model.eval(), tokenizer, asked, batch_size, arguments.rounds) * len(questions) / len(asked)
        )
        rows.append({"name": name, "seconds": seconds})
        print(f"{name}: {seconds:.2f} s for {QUESTIONS} questions", flush=True)
    if arguments.output_file:
        save_json(arguments.output_file, {"questions": QUESTIONS, "rows": rows, **environment_info()})


if __name__ == "__main__":
    main()
