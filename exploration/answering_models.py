"""Small models that answer where a person was born, for the experiments on what happens inside them.

The people are those of `birthgpt people`, but with ten birthplaces that begin with different tokens, so that a probe
can be tested on people that it was not trained on, and the first token tells the answer. A model reads lines about
all people by the objective `salient_spans` of the package, and questions about half of them. What it answers about
the other half is recall.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from benchmarks.lab import read_questions
from birthgpt import BirthGPTForCausalLM
from birthgpt.data.batching import model_inputs, pad_batch
from birthgpt.data.objectives import QuestionAnswering, SalientSpans
from birthgpt.data.synthetic import RelationSettings, SyntheticSettings, WordingSettings, write_related_people
from birthgpt.data.synthetic.relation_corpus import BIOGRAPHIES
from birthgpt.data.tokenizers import question_prompt, train_bpe_tokenizer
from birthgpt.settings import make_settings
from exploration.head import seeded
from exploration.training import Batch, tiny_model, train

KINDS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "performer": {"performer_features": 64},
    "synthesizer": {"synthesizer_kind": "dense"},
}
"""Three attention types that show their weights."""

SIZES: dict[str, Any] = {
    "kinds": list(KINDS),
    "people": 100,
    "places": 10,
    "lines_a_person": 5,
    "vocab_size": 400,
    "width": 64,
    "layers": 3,
    "heads": 4,
    "steps": 240,
    "lines_a_batch": 24,
    "questions_a_batch": 12,
    "learning_rate": 5e-3,
    "seed": 0,
}
"""The sizes of the published runs; all experiments on the inside of models have the same."""

SMALL = {"kinds": ["softmax", "synthesizer"], "lines_a_person": 1, "width": 16, "layers": 2, "steps": 6}

EPOCHS = 8
"""So many times the examples are drawn; then they repeat."""

LONGEST = 48
"""Tokens of the longest example."""

FEWEST_PEOPLE = 20
"""Fewer people with right answers are not looked at alone."""

SNAPSHOTS = 5
"""So many times the weights are kept: at the start, at the end, and between."""


@dataclass
class People:
    """Lines and questions about people, in tokens.

    Args:
        tokenizer: a byte-level BPE.
        lines: examples of `salient_spans`.
        asked: examples of the questions that are trained on.
        trained, held_out: rows with question, name and answer: of the people who are asked about, and of the others.
        places: the answers.
    """

    tokenizer: PreTrainedTokenizerBase
    lines: list[dict]
    asked: list[dict]
    trained: list[dict[str, str]]
    held_out: list[dict[str, str]]
    places: list[str]

    def prompt(self, row: Mapping[str, str]) -> list[int]:
        """The tokens of a question and its ⁇."""
        return self.tokenizer(question_prompt(self.tokenizer, row["question"]))["input_ids"]

    def name_place(self, row: Mapping[str, str]) -> range:
        """The positions of the tokens of the name in the prompt."""
        tokens, name = self.prompt(row), self.tokenizer(row["name"])["input_ids"]
        start = next(index for index in range(len(tokens)) if tokens[index : index + len(name)] == name)
        return range(start, start + len(name))

    def answer_token(self, row: Mapping[str, str]) -> int:
        """The first token of the answer."""
        return self.tokenizer(row["answer"])["input_ids"][0]


@dataclass
class Answering:
    """A trained model.

    Args:
        snapshots: the weights after some numbers of updates.
    """

    model: BirthGPTForCausalLM
    people: People
    snapshots: dict[int, dict[str, torch.Tensor]] = field(default_factory=dict)

    @contextmanager
    def at(self, step: int) -> Iterator[BirthGPTForCausalLM]:
        """The model with its weights after some updates."""
        self.model.load_state_dict(self.snapshots[step])
        try:
            yield self.model
        finally:
            self.model.load_state_dict(self.snapshots[max(self.snapshots)])

    @torch.inference_mode()
    def is_right(self, rows: list[dict[str, str]]) -> list[bool]:
        """Whether the first token of the answer is the most likely one, for each row."""
        found = []
        for row in rows:
            logits = self.model(input_ids=torch.tensor([self.people.prompt(row)]), use_cache=False).logits[0, -1]
            found.append(int(logits.argmax()) == self.people.answer_token(row))
        return found


def make_people(sizes: Mapping[str, Any]) -> People:
    """The people, with the examples of all epochs."""
    synthetic = make_settings(
        SyntheticSettings,
        people=sizes["people"],
        held_out=sizes["people"] // 2,
        biographies_per_person=sizes["lines_a_person"],
    )
    relation = RelationSettings(relations=["birthplace"], wording=WordingSettings(question_wordings=1))
    with TemporaryDirectory() as folder:
        write_related_people(folder, synthetic, relation, seed=sizes["seed"])
        lines = Path(folder, BIOGRAPHIES).read_text(encoding="utf-8").splitlines()
        trained, held_out = (read_questions(Path(folder, f"questions_{part}.jsonl")) for part in ("train", "dev"))
    names, texts, rows = share_places(lines, trained + held_out, sizes["places"])
    trained, held_out = rows[: len(trained)], rows[len(trained) :]
    tokenizer = train_bpe_tokenizer(texts + [row["question"] for row in rows], sizes["vocab_size"], LONGEST)
    first_tokens = {tokenizer(row["answer"])["input_ids"][0] for row in rows}
    assert len(first_tokens) == sizes["places"]
    spans = SalientSpans(tokenizer, LONGEST, objective_layout="unrolled", lower_case_probability=0)
    questions = QuestionAnswering(tokenizer, LONGEST)
    line_batch = {"line_id": list(range(len(texts))), "text": texts, "name": names}
    question_batch: dict[str, list] = {"question_id": list(range(len(trained)))}
    question_batch |= {key: [row[key] for row in trained] for key in ("question", "answer", "name")}
    return People(
        tokenizer,
        [row for epoch in range(EPOCHS) for row in rows_of(spans(line_batch, seed=sizes["seed"], epoch=epoch))],
        rows_of(questions(question_batch, seed=sizes["seed"], epoch=0)),
        trained,
        held_out,
        sorted({row["answer"] for row in rows}),
    )


def rows_of(columns: Mapping[str, list]) -> list[dict]:
    """Columns as a list of rows."""
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def share_places(
    lines: list[str], rows: list[dict[str, str]], count: int
) -> tuple[list[str], list[str], list[dict[str, str]]]:
    """The name and the text of each line, and the rows of questions, with few places that begin with different letters.

    Person i gets place i mod `count`, in the order of the rows.
    """
    by_letter = {row["answer"][0]: row["answer"] for row in rows if "," not in row["answer"]}
    places = sorted(by_letter.values())[:count]
    assert len(places) == count
    old = {row["name"]: row["answer"] for row in rows}
    new = {row["name"]: places[index % count] for index, row in enumerate(rows)}
    names = [next(name for name in old if line.startswith(f"{name}. ")) for line in lines]
    texts = [line.replace(old[name], new[name]) for name, line in zip(names, lines, strict=True)]
    assert all(new[name] in text for name, text in zip(names, texts, strict=True))
    return names, texts, [{**row, "answer": new[row["name"]]} for row in rows]


def draw_batch(people: People, sizes: Mapping[str, Any], step: int) -> Batch:
    """The examples of a step: lines about all people, and questions about half of them."""
    generator = seeded(step + 1)
    chosen = []
    for examples, count in ((people.lines, sizes["lines_a_batch"]), (people.asked, sizes["questions_a_batch"])):
        chosen += [examples[index] for index in torch.randint(len(examples), (count,), generator=generator).tolist()]
    return model_inputs(pad_batch(chosen, people.tokenizer.pad_token_id))


def train_answering(kind: str, people: People, sizes: Mapping[str, Any]) -> Answering:
    """Train a model of an attention type, and keep some of its weights on the way."""
    model = tiny_model(
        sizes["seed"],
        vocab_size=len(people.tokenizer),
        max_position_embeddings=LONGEST,
        attention_type=kind,
        hidden_size=sizes["width"],
        intermediate_size=4 * sizes["width"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        **KINDS[kind],
    )
    model.set_attn_implementation("eager")
    answering = Answering(model, people)
    kept = {round(part * sizes["steps"] / (SNAPSHOTS - 1)) for part in range(SNAPSHOTS)}

    def keep(step: int) -> None:
        if step in kept:
            weights = {name: value.clone() for name, value in model.state_dict().items()}
            answering.snapshots[step] = weights

    keep(0)
    train(
        model,
        lambda step: draw_batch(people, sizes, step),
        steps=sizes["steps"],
        learning_rate=sizes["learning_rate"],
        after_step=keep,
    )
    return answering


@cache
def _trained(sizes: str) -> dict[str, Answering]:
    given = json.loads(sizes)
    people = make_people(given)
    return {kind: train_answering(kind, people, given) for kind in given["kinds"]}


def answering_models(sizes: Mapping[str, Any]) -> dict[str, Answering]:
    """A trained model of each type; those of the same sizes are trained once in a process."""
    return _trained(json.dumps({name: sizes[name] for name in SIZES}, sort_keys=True))


def recalled(answering: Answering) -> list[dict[str, str]]:
    """The held-out people whose question is answered right; all held-out people if these are too few to compare."""
    rows = answering.people.held_out
    right = [row for row, is_right in zip(rows, answering.is_right(rows), strict=True) if is_right]
    return right if len(right) >= FEWEST_PEOPLE else rows


def held_out_accuracy(answering: Answering) -> float:
    """The share of right answers about the held-out people."""
    verdicts = answering.is_right(answering.people.held_out)
    return sum(verdicts) / len(verdicts)


@torch.no_grad()
def layer_states(model: nn.Module, tokens: list[int]) -> torch.Tensor:
    """The residual states of a prompt before the first layer and after each layer: (1 + layers, length, width)."""
    with states_of_layers(model) as states:
        model(input_ids=torch.tensor([tokens]), use_cache=False)
    return torch.cat(states)


@contextmanager
def states_of_layers(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Inside the block, a list fills with the output of the embedding and of each layer."""
    found: list[torch.Tensor] = []
    hooks = [part.register_forward_hook(lambda *call: found.append(call[2])) for part in patch_points(model)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def patch_points(model: Any) -> list[nn.Module]:
    """The modules whose output is the residual state: the embedded tokens, then each layer."""
    return [model.model.dropout, *model.model.layers]
