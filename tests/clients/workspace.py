"""The folder in which a snippet of docs/snippets runs: a model that knows a few answers, and files about people."""

import json
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from birthgpt.cli import main
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.questions import load_questions

SIX_TYPES = ("softmax", "synthesizer", "perceiver", "linformer", "bigbird", "performer")
"""The attention types of `make clients`; `docs/make_compatibility.py` runs all."""

MODEL = "you/model"
KNOWN, NEW = "questions.jsonl", "new_questions.jsonl"
TINY = (
    "--hidden_size 32 --num_hidden_layers 2 --num_attention_heads 2 --block_size 128 --hidden_dropout 0 "
    "--attention_dropout 0 --tokenizer_type bpe --vocab_size 320 --validation_size 0 --tokens_per_batch 400 "
    "--max_train_steps 80 --learning_rate 1e-2 --warmup_steps 2"
)
EIGHT = 8


@dataclass(frozen=True)
class Workspace:
    """A folder with an export at `you/model`, `people/`, and questions that the model was and was not trained on."""

    folder: Path
    attention_type: str

    @property
    def known(self) -> list[dict[str, str]]:
        """Rows of question and answer that the model was trained on."""
        return list(load_questions(str(self.folder / KNOWN)))

    @property
    def new(self) -> list[dict[str, str]]:
        """Rows of question and answer that the model was not trained on."""
        return list(load_questions(str(self.folder / NEW)))

    def load(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """The model in eval mode, and its tokenizer, as the commands load them."""
        model, tokenizer = load_model_and_tokenizer(str(self.folder / MODEL))
        return model.eval(), tokenizer


def make_people(folder: Path) -> None:
    """Write lines and questions about people, as `birthgpt people` does."""
    sizes = "--relations birthplace occupation --people 100 --held_out 20 --biographies_per_person 1"
    main(["people", *sizes.split(), "--output_dir", str(folder)])


def make_workspace(folder: Path, people: Path, attention_type: str) -> Workspace:
    """Train a model on a few questions by the commands of the package, and export it."""
    (folder / "people").symlink_to(people)
    rows = [json.loads(line) for line in (people / "questions_train.jsonl").read_text(encoding="utf-8").splitlines()]
    for name, part in ((KNOWN, rows[:EIGHT]), (NEW, rows[EIGHT : 2 * EIGHT])):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / name).write_text(text, encoding="utf-8")
    window = ["--sliding_window", "24"] if attention_type == "sliding_softmax" else []
    files = [
        "--train_file",
        folder / KNOWN,
        "--corpus_file",
        people / "biographies.txt",
        "--output_dir",
        folder / "run",
    ]
    main(["finetune", *map(str, files), *TINY.split(), "--attention_type", attention_type, *window])
    main(["push", "--model_name_or_path", str(folder / "run"), "--output_dir", str(folder / MODEL)])
    return Workspace(folder, attention_type)
