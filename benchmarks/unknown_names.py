"""How well a model tells names that it read from names that it never read, and what it costs in accuracy.

python benchmarks/unknown_names.py --output_file benchmarks/unknown_names.json

Synthetic people with three relations; some of them are left out of the biographies. Each model is pretrained and
finetuned with a ratio of examples about invented names, with the same budget. Questions about people with a biography,
whose questions were not trained on, are compared with questions about invented names of the part *measurement* and
about the people left out. What else could tell them apart is measured on the models without such examples: a linear
head on the state at ⁇, the norms of the n-gram embeddings, a small model of names, the probability of the answer, and
the agreement of two models. What is fitted is fitted on train people and on invented names of the part *calibration*.

Finished trainings in `--work_dir` are used again.
"""

import argparse
import statistics
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from birthgpt.commands.finetune import FinetuneSettings, finetune
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.people import PeopleSettings, make_people
from birthgpt.commands.pretrain import PretrainSettings, pretrain
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.data.corpus import load_corpus
from birthgpt.data.names import relation_of
from birthgpt.data.questions import answers_of, load_questions
from birthgpt.data.tokenizers import question_prompt, unknown_answer_id
from birthgpt.data.unknown_names import CharacterChain, Part, UnknownNames
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.ensembling import ensemble_answers
from birthgpt.evaluation.nearest_names import answer_origins, last_states, summarize_origins
from birthgpt.model.ngrams import NgramEmbedding, hash_ngrams
from birthgpt.settings import make_settings, parse_settings
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json

PEOPLE = {
    "people": 400,
    "held_out": 160,
    "left_out": 100,
    "relations": ["birthplace", "birth_date", "employer"],
    "biographies_per_person": 2,
    "wordings": 4,
    "question_wordings": 2,
}
SHAPE = """--hidden_size 96 --num_attention_heads 4 --num_hidden_layers 2 --ngram_vocab_size 8192 --vocab_size 768
    --block_size 256"""
KNOWN, INVENTED, LEFT_OUT = "known", ("recombined", "new parts"), "left out"
UNKNOWN_KINDS = (*INVENTED, LEFT_OUT)
ORDER_OF_NAME_MODEL = 3


@dataclass(frozen=True)
class Variant:
    """A training: the ratios of examples about invented names in pretraining and in finetuning, and its seed."""

    pretraining: float
    finetuning: float
    seed: int

    @property
    def name(self) -> str:
        return f"pretraining {self.pretraining}, finetuning {self.finetuning}"


@dataclass
class Population:
    """Questions about some names, and these names."""

    questions: list[str]
    names: list[str]
    answers: list[list[str]]


class Data:
    """Files and questions of the synthetic people."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not self.lines.is_file():
            make_people(make_settings(PeopleSettings, output_dir=str(folder), seed=0, **PEOPLE))
        self.read_names = sorted(set(load_corpus(str(self.lines))["name"]))
        self.train, self.dev = self._load("train"), self._load("dev")
        self.left_out = self._load("left_out")

    @property
    def lines(self) -> Path:
        return self.folder / "biographies.txt"

    def file(self, name: str) -> Path:
        """A file of questions."""
        return self.folder / f"questions_{name}.jsonl"

    @cached_property
    def measured(self) -> dict[str, Population]:
        """The dev questions, and the same questions about names that are in no line."""
        unknown = {kind: self.invented("measurement", kind, self.dev) for kind in INVENTED}
        return {KNOWN: self.dev, **unknown, LEFT_OUT: self.left_out}

    @cached_property
    def calibration(self) -> tuple[Population, Population]:
        """Questions about people who were trained on, and the same questions about invented names."""
        halves = [self.invented("calibration", kind, self.train) for kind in INVENTED]
        # the first half of one kind and the second half of the other: as many as there are train questions
        middle = len(self.train.questions) // 2
        parts = [(halves[0], slice(0, middle)), (halves[1], slice(middle, None))]
        joined = Population(
            [question for half, part in parts for question in half.questions[part]],
            [name for half, part in parts for name in half.names[part]],
            [],
        )
        return self.train, joined

    def invented(self, part: Part, kind: str, like: Population) -> Population:
        """The questions of a population, with an invented name in place of each name."""
        excluded = [*self.left_out.names, *self.dev.names]
        names = UnknownNames(self.read_names, part=part, new_parts=float(kind == INVENTED[1]), excluded=excluded)
        people = list(dict.fromkeys(like.names))
        replaced = dict(zip(people, (row.name for row in names.sample(len(people), seed=0)), strict=True))
        questions = [
            relation_of(question, name).replace("{name}", replaced[name])
            for question, name in zip(like.questions, like.names, strict=True)
        ]
        return Population(questions, [replaced[name] for name in like.names], like.answers)

    def _load(self, name: str) -> Population:
        rows = load_questions(str(self.file(name)))
        return Population(rows["question"][:], rows["name"][:], [answers_of(row) for row in rows])


class Trained:
    """The checkpoint of a variant; it is trained if it does not exist."""

    def __init__(self, variant: Variant, data: Data, work: Path, flops: float, steps: int):
        self.variant, self.data = variant, data
        self.pretrained = work / f"pretrained_{variant.pretraining}_{variant.seed}"
        self.finetuned = work / f"finetuned_{variant.pretraining}_{variant.finetuning}_{variant.seed}"
        # the names of questions that are measured are never taught as unknown
        excluded = ["--unknown_name_excluded", data.file("left_out"), data.file("dev")]
        common = f"--seed {variant.seed} --save_steps 0 --validation_size 0".split()
        if not (self.pretrained / "run.json").is_file():
            ratio = ["--unknown_name_ratio", variant.pretraining, *excluded]
            files = ["--train_file", data.lines, "--question_file", data.file("train"), "--output_dir", self.pretrained]
            budget = ["--max_train_flops", flops]
            given = ["--config", "relations/pretrain", *SHAPE.split(), *common, *files, *budget, *ratio]
            pretrain(parse_settings(PretrainSettings, list(map(str, given))))
        if not (self.finetuned / "run.json").is_file():
            ratio = ["--unknown_name_ratio", variant.finetuning, *excluded]
            files = ["--train_file", data.file("train"), "--corpus_file", data.lines, "--output_dir", self.finetuned]
            budget = ["--model_name_or_path", self.pretrained, "--max_train_steps", steps, "--eval_steps", 0]
            given = ["--config", "relations/finetune", *common, *files, *budget, *ratio]
            finetune(parse_settings(FinetuneSettings, list(map(str, given))))
        self.member = load_model_and_tokenizer(str(self.finetuned))

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of both trainings."""
        records = {"pretraining": self.pretrained, "finetuning": self.finetuned}
        return {name: read_run_metadata(str(folder))["seconds"] for name, folder in records.items()}

    def states(self, questions: list[str]) -> torch.Tensor:
        """(questions, hidden_size): the states at ⁇."""
        model, tokenizer = self.member
        return last_states(model, tokenizer, [question_prompt(tokenizer, question) for question in questions])

    def unknown_log_probabilities(self, questions: list[str]) -> list[float]:
        """log p(␀ | question ⁇)."""
        model, tokenizer = self.member
        with torch.inference_mode():
            scores = model.get_output_embeddings()(self.states(questions)).log_softmax(dim=-1)
        return scores[:, unknown_answer_id(tokenizer)].tolist()

    def report(self) -> dict:
        """Accuracy with and without abstaining, and how well the unknown answer tells names apart."""
        model, tokenizer = self.member
        found: dict = {"seed": self.variant.seed, "seconds": self.seconds}
        for key, always in (("accuracy", False), ("accuracy_if_it_must_answer", True)):
            answers = answer_questions(model, tokenizer, self.data.dev.questions, always_answer=always)
            right = [answer.text in rights for answer, rights in zip(answers, self.data.dev.answers, strict=True)]
            found[key] = statistics.mean(right)
        if unknown_answer_id(tokenizer) is None:
            return found
        scores, shares = {}, {}
        for kind, asked in self.data.measured.items():
            answers = answer_questions(model, tokenizer, asked.questions)
            shares[kind] = statistics.mean(answer.is_unknown for answer in answers)
            scores[kind] = self.unknown_log_probabilities(asked.questions)
        found["answered_unknown"] = shares
        found["auroc"] = aurocs(scores)
        return found


def aurocs(scores: dict[str, list[float]]) -> dict[str, float]:
    """The AUROC of each kind of unknown names against the known names, and of all; higher scores mean unknown."""
    known = scores[KNOWN]
    unknown = {kind: scores[kind] for kind in UNKNOWN_KINDS} | {
        "all": sum((scores[kind] for kind in UNKNOWN_KINDS), [])
    }
    return {
        kind: float(roc_auc_score([0] * len(known) + [1] * len(values), known + values))
        for kind, values in unknown.items()
    }


def fitted_aurocs(features, data: Data) -> dict[str, float]:
    """The AUROCs of a logistic regression on features of a population, fitted on the calibration questions."""
    known, unknown = (features(population) for population in data.calibration)
    labels = [0] * len(known) + [1] * len(unknown)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    regression.fit(torch.cat((known, unknown)).numpy(), labels)
    measured = {kind: features(population).numpy() for kind, population in data.measured.items()}
    return aurocs({kind: regression.decision_function(values).tolist() for kind, values in measured.items()})


def norms_of_ngrams(member, names: list[str]) -> torch.Tensor:
    """(names, 3 · orders): the mean, smallest and largest norm of the vectors of the n-grams of each name."""
    model, tokenizer = member
    (ngrams,) = (module for module in model.modules() if isinstance(module, NgramEmbedding))
    rows = []
    for name in names:
        ids = torch.tensor(tokenizer(name)["input_ids"])
        row = []
        for order, table in zip(ngrams.orders, ngrams.tables, strict=True):
            grams = ids.unfold(0, order, 1) if len(ids) >= order else ids.new_zeros(0, order)
            norms = table.weight.detach()[hash_ngrams(grams, ngrams.rows)].norm(dim=-1)
            row += [norms.mean(), norms.min(), norms.max()] if len(norms) else [torch.tensor(0.0)] * 3
        rows.append(torch.stack(row))
    return torch.stack(rows)


def alternatives(models: list[Trained], data: Data) -> dict[str, dict[str, float]]:
    """The AUROCs of what tells known from unknown names without examples about invented names."""
    first = models[0]
    chain = CharacterChain(data.read_names, ORDER_OF_NAME_MODEL)
    answered = {kind: answer_questions(*first.member, asked.questions) for kind, asked in data.measured.items()}
    mixed = {
        kind: ensemble_answers([model.member for model in models], asked.questions)
        for kind, asked in data.measured.items()
    }
    others = {
        kind: [answer_questions(*model.member, asked.questions) for model in models[1:]]
        for kind, asked in data.measured.items()
    }
    return {
        "linear head on the state at ⁇": fitted_aurocs(lambda asked: first.states(asked.questions), data),
        "norms of n-gram vectors": fitted_aurocs(lambda asked: norms_of_ngrams(first.member, asked.names), data),
        "likelihood of the name": aurocs(
            {
                kind: [-chain.log_probability(name) / len(name) for name in asked.names]
                for kind, asked in data.measured.items()
            }
        ),
        "probability of the answer": aurocs(
            {kind: [-answer.log_probability for answer in answers] for kind, answers in answered.items()}
        ),
        f"probability of the answer of {len(models)} models": aurocs(
            {kind: [-answer.log_probability for answer in answers] for kind, answers in mixed.items()}
        ),
        f"agreement of {len(models)} models": aurocs(
            {
                kind: [
                    float(len({answer.text for answer in of_question}))
                    for of_question in zip(answered[kind], *others[kind], strict=True)
                ]
                for kind in data.measured
            }
        ),
    }


def made_up_answers(model: Trained, data: Data) -> dict[str, dict]:
    """Where the answers about unknown names come from, by the kind of the name."""
    found = {}
    for kind in UNKNOWN_KINDS:
        asked = data.measured[kind]
        by_relation: dict[str, list[str]] = {}
        for question, name in zip(asked.questions, asked.names, strict=True):
            by_relation.setdefault(relation_of(question, name), []).append(name)
        origins = [
            origin
            for relation, names in by_relation.items()
            for origin in answer_origins(*model.member, relation, names, data.read_names)
        ]
        found[kind] = summarize_origins(origins)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, default=Path("runs/unknown_names"), help="folder of the trainings")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.3], help="compared with 0")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--flops", type=float, default=1e12, help="budget of each pretraining")
    parser.add_argument("--steps", type=int, default=60, help="updates of each finetuning")
    parser.add_argument("--output_file", type=Path, help="also write the metrics here")
    arguments = parser.parse_args()
    data = Data(arguments.work_dir / "people")
    budget = {"work": arguments.work_dir, "flops": arguments.flops, "steps": arguments.steps}
    pairs = [(0.0, 0.0), *((ratio, ratio) for ratio in arguments.ratios), (0.0, max(arguments.ratios))]
    trained = {pair: [Trained(Variant(*pair, seed), data, **budget) for seed in arguments.seeds] for pair in pairs}
    metrics = {
        "people": PEOPLE,
        "shape": " ".join(SHAPE.split()),
        "flops": arguments.flops,
        "finetuning_steps": arguments.steps,
        "questions": {kind: len(asked.questions) for kind, asked in data.measured.items()},
        "trained_on_unknown": [
            {
                "ratio_in_pretraining": pair[0],
                "ratio_in_finetuning": pair[1],
                "runs": [model.report() for model in models],
            }
            for pair, models in trained.items()
        ],
        "alternatives_auroc": alternatives(trained[0.0, 0.0], data),
        "made_up_answers": made_up_answers(trained[0.0, 0.0][0], data),
        **environment_info(),
    }
    print(summary(metrics))
    if arguments.output_file:
        save_json(arguments.output_file, metrics)


def summary(metrics: dict) -> str:
    """The metrics as lines."""
    lines = []
    for row in metrics["trained_on_unknown"]:
        lines.append(f"pretraining {row['ratio_in_pretraining']}, finetuning {row['ratio_in_finetuning']}")
        for run in row["runs"]:
            lines.append("  " + ", ".join(f"{key} {value}" for key, value in run.items() if key != "seconds"))
    lines += [f"{name}: {values}" for name, values in metrics["alternatives_auroc"].items()]
    lines += [f"{kind}: {values}" for kind, values in metrics["made_up_answers"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
