"""Capacity: how many bits of facts a parameter stores.

Hypothesis: a model stores about 2 bits of facts a parameter if it reads each fact 1,000 times, and 1 bit after 100
times, whatever its architecture, as long as there are more facts than that.

Set-up: language modelling on one line a person with a date, a nationality and an occupation, always in the same
wording. There are facts of 1.5 bits for each parameter at the fewer exposures and of 3 bits at the more, so that the
model is what limits them. All parameters count, with embeddings, head (shared) and tables of n-grams. Rows with more
exposures have larger batches, and so not many more updates.

Measured: the bits about the facts that are stored, by the loss on them (`bits.py`), for each parameter; and the values
that the model continues the lines with. The bits of names, and of the lists of possible answers, are not counted.

Published: 2404.05405.
"""

from pathlib import Path
from statistics import fmean

import torch

from benchmarks.lab import BLOCK_OF_RECIPE, OF_TYPE
from benchmarks.laws.bits import bits_stored, fact_losses, find_answers
from benchmarks.laws.lab import LawLab
from benchmarks.laws.law import Law, Measures
from benchmarks.laws.wording import all_facts
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.corpus import load_corpus
from birthgpt.data.synthetic.facts import entropy_of
from birthgpt.data.synthetic.people import MIN_PEOPLE
from birthgpt.data.synthetic.relation_corpus import BIOGRAPHIES
from birthgpt.model import BirthGPTConfig, BirthGPTForCausalLM
from birthgpt.model.attention_types import ATTENTION_TYPES

RELATIONS = ("birth_date", "nationality", "occupation")
FACTS_PER_PARAMETER = (1.5, 3.0)
"""Bits of all facts for each parameter, at the fewer and at the more exposures."""

SMALL, LARGE = 0, 1
FEW, MANY = 0, 1
PLAIN, NGRAMS = "plain", "ngrams"

LAYERS, BLOCK = 2, 128
SHAPE = {"num_hidden_layers": LAYERS, "num_attention_heads": 2, "tie_word_embeddings": True, **BLOCK_OF_RECIPE}

TRAINING = {
    "objective": "language_modeling",
    "tokenizer_type": "bpe",
    "block_size": BLOCK,
    "optimizer": "muon",
    "learning_rate": 8e-3,
    "lr_scheduler_type": "linear",
    "warmup_steps": 20,
    "max_grad_norm": 1.0,
    "save_steps": 0,
}


def rows() -> dict[str, str]:
    """Every attention type, width, number of exposures, with tables of n-grams or without."""
    sizes, exposures = ("smaller", "larger"), ("fewer exposures", "more exposures")
    return {
        f"{kind}/{size}/{count}/{tables}": f"{kind}, {sizes[size]}, {exposures[count]}"
        + (", n-grams" if tables == NGRAMS else "")
        for count in (FEW, MANY)
        for tables in (PLAIN, NGRAMS)
        for size in (SMALL, LARGE)
        for kind in ATTENTION_TYPES
    }


def published_bits(row: str) -> str:
    """The published bits of a parameter after the exposures of a row."""
    _, _, count, _ = row.split("/")
    return ("1", "2")[int(count)]


def model_settings(lab: LawLab, kind: str, size: int, tables: str) -> dict[str, object]:
    """The settings of a model."""
    sizes = lab.sizes.capacity
    settings = {**SHAPE, **OF_TYPE.get(kind, {}), "attention_type": kind, "hidden_size": sizes.hidden_sizes[size]}
    if tables == NGRAMS:
        settings |= {"ngram_orders": [2, 3], "ngram_vocab_size": sizes.ngram_vocab_size}
    return settings


def empty_model(settings: dict[str, object], vocab_size: int) -> BirthGPTForCausalLM:
    """A model of these settings without memory for its weights."""
    with torch.device("meta"):
        return BirthGPTForCausalLM(BirthGPTConfig(**settings, vocab_size=vocab_size, max_position_embeddings=BLOCK))


def measure(lab: LawLab, row: str) -> Measures:
    """The bits that one model stores."""
    kind, size, count, tables = row.split("/")
    sizes, exposures = lab.sizes.capacity, lab.sizes.capacity.exposures[int(count)]
    settings = model_settings(lab, kind, int(size), tables)
    model = empty_model(settings, sizes.vocab_size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    entropies = {relation: entropy_of(relation) for relation in RELATIONS}
    number = round(FACTS_PER_PARAMETER[int(count)] * parameters / sum(entropies.values()))
    number = max(MIN_PEOPLE, number)
    people = lab.people(
        f"capacity_people_{number}",
        people=number,
        held_out=1,
        relations=RELATIONS,
        biographies_per_person=1,
        wordings=1,
        sentence_order="fixed",
    )
    trained = lab.run(
        "pretrain",
        f"capacity_{row.replace('/', '_')}",
        train_file=people / BIOGRAPHIES,
        **settings,
        **TRAINING,
        vocab_size=sizes.vocab_size,
        tokens_per_batch=sizes.tokens_per_batch[int(count)],
        # a line a person, so an epoch is one exposure of each fact
        num_train_epochs=exposures,
    )
    bits, stored = stored_bits(trained, people, number, entropies)
    return {
        "bits_per_parameter": bits / parameters,
        "facts_per_parameter": number * sum(entropies.values()) / parameters,
        "stored": stored,
        "parameters": parameters,
        "people": number,
    }


def stored_bits(folder: Path, people: Path, number: int, entropies: dict[str, float]) -> tuple[float, float]:
    """The bits that a model stores about all people, and the values it continues their lines with, in percent."""
    model, tokenizer = load_model_and_tokenizer(str(folder))
    facts = all_facts(people)
    lines = list(load_corpus(str(people / BIOGRAPHIES)))
    # the order of the relations is that of the sentences
    bounds = [find_answers(row["text"], [facts[row["name"]][relation] for relation in RELATIONS]) for row in lines]
    losses = list(fact_losses(model, tokenizer, [row["text"] for row in lines], bounds))
    nats = {relation: [line[index].nats for line in losses] for index, relation in enumerate(RELATIONS)}
    return bits_stored(number, entropies, nats), 100 * fmean(loss.is_greedy for line in losses for loss in line)


LAW = Law(
    text=__doc__,
    measures={
        "bits_per_parameter": "bits a parameter",
        "facts_per_parameter": "bits of all facts a parameter",
        "stored": "continued lines (%)",
        "parameters": "all parameters",
        "people": "people",
    },
    rows=rows(),
    published={row: published_bits(row) for row in rows() if row.startswith("softmax")},
    measure=measure,
)
