"""The files and folders that cases mutate: a tiny corpus, questions, a table, and models of each kind of folder."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.synthetic import write_synthetic_corpus
from birthgpt.evaluation.answering import answer_questions

from .running import run_command

TABLE = "player,club,pronoun\n" + "".join(
    f"Player {chr(65 + number)}alo,{('Elk', 'Lynx F.C.', 'Owls')[number % 3]},she\n" for number in range(10)
)
TEMPLATES = """name: player
pronoun: pronoun
relations:
  team:
    answer: club
    texts: ["{subject} plays for {answer}.", "{possessive} team is {answer}."]
    questions: ["Which team does {name} play for?"]
"""
PATTERNS = """parts:
  place: '[A-Z][a-z]+'
relations:
  place:
    patterns: ['born .*?in (?P<answer>%{place})']
    questions: ["Where was {name} born?", "What is the birthplace of {name}?"]
    new_questions: ["{name} was born where?"]
"""
TINY = (
    "--hidden_size 16 --num_hidden_layers 1 --num_attention_heads 2 --tokens_per_batch 500 --block_size 128 "
    "--tokenizer_type bpe --vocab_size 320 --learning_rate 1e-2 --warmup_steps 0"
)
TRAIN = "--train_file {train} --corpus_file {lines} --tokens_per_batch 500 --learning_rate 1e-2"

QUESTION = "Where~was~Tove~Alström~born?"
LOOKUP = "name,relation,answer\nTove Alström,birthplace,Elmford\nAda Alo,birthplace,York\nBo Elk,birthplace,Ash\n"

COMMANDS = {
    "ask": "ask {model} Where? --max_new_tokens 6",
    "evaluate": "evaluate --model_name_or_path {model} --question_file {dev} --train_file {train} "
    "--corpus_file {lines} --output_dir {out} --max_new_tokens 6",
    "ensemble": "ensemble --model_names_or_paths {model} {model} --question_file {dev} --train_file {train} "
    "--corpus_file {lines} --label_names train_questions --output_dir {out} --max_new_tokens 6",
    "probe": "probe --model_name_or_path {model} --question_file {train} --corpus_file {lines} --output_dir {out}",
    "push": "push --model_name_or_path {model} --output_dir {out}",
    "verify": "verify {model}",
    "preview": "preview --train_file {lines} --tokenizer_name_or_path {model} --count 2 --block_size 128",
    "finetune": f"finetune --model_name_or_path {{model}} {TRAIN} --output_dir {{out}} --max_train_steps 1",
    "resume": f"finetune --model_name_or_path {{start}} {TRAIN} --output_dir {{model}} --max_train_steps 2 "
    "--save_steps 1 --resume_from_checkpoint latest",
    "pretrain": f"pretrain --train_file {{lines}} {TINY} --question_file {{train}} --question_ratio 0.5 "
    "--output_dir {out} --max_train_steps 1",
    "split": "split --question_file {train} --corpus_file {lines} --output_dir {out} --folds 2",
    "convert": "convert --model_name_or_path {model} --output_dir {out}",
    "people": "people --people 100 --held_out 20 --biographies_per_person 1 --output_dir {out}",
    "synthesize": "synthesize --table {table} --templates {templates} --output_dir {out} --held_out 2",
    "load": "load {model}",
    "calibrate": "calibrate --model_name_or_path {model} --question_file {held_out} --train_file {train} "
    "--corpus_file {lines} --invented_names 8 --num_beams 2 --max_new_tokens 6",
    "lookup": f"ask {{model}} {QUESTION} --max_risk 0.05 --lookup_file {{lookup}} --max_new_tokens 6",
    "report": "report {model} --output {out}/report.html",
    "page": f"page {{model}} {QUESTION}",
    "extract": "extract --corpus_file {lines} --patterns {patterns} --held_out_file {dev} --output_dir {out}",
}
"""The arguments of each case without a mutation; `{model}` is the folder that is damaged, `~` a space."""

FILES = {
    "lines": "lines.txt",
    "train": "train.tsv",
    "dev": "dev.tsv",
    "held_out": "held_out.tsv",
    "lookup": "lookup.csv",
    "table": "table.csv",
    "templates": "templates.yaml",
    "patterns": "patterns.yaml",
}
LOADED = ("run", "export", "plain")
ADAPTER = "adapter"
"""The folder of a model with an adapter of another library beside it."""

FOLDERS = {
    "resume": ("unfinished",),
    "convert": ("earlier",),
    "load": (*LOADED, ADAPTER),
    "calibrate": ("run",),
    "lookup": ("calibrated",),
    "page": ("calibrated",),
    "report": ("evaluated",),
}
"""The kinds of folder that a command reads; those of `LOADED` where not given."""


class World:
    """A folder with everything that a case starts from; each case is made anew at `case`."""

    def __init__(self, folder: Path):
        self.source, self.case = folder / "source", folder / "case"
        for path in (self.source, self.case):
            path.mkdir(parents=True)
        self._write_files()
        self._make_models()

    def places(self) -> dict[str, str]:
        """The paths in the arguments of a command."""
        names = {**FILES, "model": "model", "start": "start", "out": "out"}
        return {name: str(self.case / file) for name, file in names.items()}

    def arguments(self, command: str) -> list[str]:
        """The arguments of a command without a mutation."""
        return [word.replace("~", " ") for word in COMMANDS[command].format(**self.places()).split()]

    def lay_out(self, command: str, kind: str | None) -> None:
        """Empty the folder of the case, and copy what the command reads."""
        shutil.rmtree(self.case)
        (self.case / "here").mkdir(parents=True)
        for name, file in FILES.items():
            if f"{{{name}}}" in COMMANDS[command]:
                shutil.copy2(self.source / file, self.case / file)
        if kind is not None:
            shutil.copytree(self.source / kind, self.case / "model")
        if "{start}" in COMMANDS[command]:
            shutil.copytree(self.source / "pretrained", self.case / "start")

    def _write_files(self) -> None:
        write_synthetic_corpus(self.source / "people", people=100, held_out=20, biographies_per_person=1, seed=0)
        for name, count in (("wiki.txt", 24), ("birth_places_train.tsv", 16), ("birth_dev.tsv", 6)):
            lines = (self.source / "people" / name).read_text(encoding="utf-8").splitlines(keepends=True)
            renamed = {"wiki.txt": "lines.txt", "birth_places_train.tsv": "train.tsv", "birth_dev.tsv": "dev.tsv"}
            (self.source / renamed[name]).write_text("".join(lines[:count]), encoding="utf-8")
        (self.source / "lookup.csv").write_text(LOOKUP, encoding="utf-8")
        (self.source / "table.csv").write_text(TABLE, encoding="utf-8")
        (self.source / "templates.yaml").write_text(TEMPLATES, encoding="utf-8")
        (self.source / "patterns.yaml").write_text(PATTERNS, encoding="utf-8")

    def _make_models(self) -> None:
        self._run("pretrain", None, "--output_dir", "{model}")
        shutil.move(self.case / "model", self.source / "pretrained")
        fresh = [argument for argument in self.arguments("resume")[:-2]]
        self._run("resume", None, arguments=fresh)
        shutil.copytree(self.case / "model", self.source / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
        shutil.move(self.case / "model", self.source / "unfinished")
        self._remove_end(self.source / "unfinished")
        plain = self.source / "plain"
        AutoModelForCausalLM.from_pretrained(self.source / "run").save_pretrained(plain)
        AutoTokenizer.from_pretrained(self.source / "run").save_pretrained(plain)
        shutil.copytree(plain, self.source / ADAPTER)
        write_adapter(self.source / ADAPTER)
        self._run("push", "run")
        shutil.move(self.case / "out", self.source / "export")
        self._write_held_out()
        self._run("calibrate", "run")
        shutil.move(self.case / "model", self.source / "calibrated")
        self._run("evaluate", "run")
        shutil.move(self.case / "out", self.source / "evaluated")
        earlier = Path(__file__).parents[1] / "checkpoints_0.1" / "abc"
        # a converted folder contains all files of the first, so only those of a model are in it
        shutil.copytree(earlier, self.source / "earlier", ignore=shutil.ignore_patterns("expected.*"))

    def _write_held_out(self) -> None:
        """Questions about people of no line; every second answer is what the model says, so it is right."""
        rows = (self.source / "people" / "birth_places_train.tsv").read_text(encoding="utf-8").splitlines()[30:54]
        questions = [row.partition("\t")[0] for row in rows]
        model, tokenizer = load_model_and_tokenizer(str(self.source / "run"))
        answers = answer_questions(model, tokenizer, questions, max_new_tokens=6)
        with (self.source / "held_out.tsv").open("w", encoding="utf-8") as file:
            for place, (question, answer) in enumerate(zip(questions, answers, strict=True)):
                file.write(f"{question}\t{(place % 2 and answer.text.strip()) or 'elsewhere'}\n")

    def _run(self, command: str, kind: str | None, *more: str, arguments: list[str] | None = None) -> None:
        self.lay_out(command, kind)
        places = self.places()
        given = arguments or [*self.arguments(command), *(argument.format(**places) for argument in more)]
        ending = run_command(given, self.case / "here", 120)
        assert ending.code == 0, f"{given}: {ending}"

    def _remove_end(self, folder: Path) -> None:
        """Leave the run as it was after its first update."""
        shutil.rmtree(folder / "checkpoint-2")
        for file in folder.iterdir():
            if file.is_file() and file.name not in ("settings.json", "inputs.json", ".birthgpt.json"):
                file.unlink()


def write_adapter(folder: Path) -> None:
    """Write the files of a LoRA of the query projection in the first layer, as PEFT does."""
    config = {
        **{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]},
        "base_model_name_or_path": str(folder),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    place = "base_model.model.model.layers.0.attention.q_proj"
    weights = {f"{place}.lora_A.weight": torch.ones(2, 16), f"{place}.lora_B.weight": torch.ones(16, 2)}
    save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
