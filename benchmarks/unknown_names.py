"""How well a model tells names that it read from names that it never read, and what it costs in accuracy.

python benchmarks/unknown_names.py --output_file benchmarks/unknown_names.json

Synthetic people with two relations; some of them are left out of the biographies. Each model is pretrained and
finetuned with a ratio of examples about invented names, with the same budget. Questions about people with a biography,
whose questions were not trained on, are compared with questions about invented names of the part *measurement* and
about the people left out. What else could tell them apart is measured on the models without such examples: a linear
head on the state at ⁇, the norms of the n-gram embeddings, a small model of names, the probability of the answer, and
the agreement of two models. What is fitted is fitted on train people and on invented names of the part *calibration*.

Finished trainings in `--work_dir` are used again.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
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
from birthgpt.data.objectives import QuestionAnswering
from birthgpt.data.questions import answers_of, load_questions
from birthgpt.data.tokenizers import question_prompt, unknown_answer_id
from birthgpt.data.unknown_names import CharacterChain, Part, UnknownNames
from birthgpt.evaluation.answering import answer_questions
from birthgpt.evaluation.ensembling import ensemble_answers
from birthgpt.evaluation.nearest_names import answer_origins, last_states, summarize_origins
from birthgpt.evaluation.ngram_norms import name_ngram_norms
from birthgpt.settings import make_settings, parse_settings
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json

PEOPLE = {
    "people": 100,
    "held_out": 60,
    "left_out": 25,
    "relations": ["birthplace", "employer"],
    "biographies_per_person": 1,
    "wordings": 2,
    "question_wordings": 1,
    "sentence_order": "fixed",
}
TRAINING = """--hidden_size 64 --num_attention_heads 4 --num_hidden_layers 2 --ngram_vocab_size 8192 --vocab_size 512
    --block_size 256 --tokens_per_batch 2048"""
KNOWN, INVENTED, LEFT_OUT = "known", ("recombined", "new parts"), "left out"
UNKNOWN_KINDS = (*INVENTED, LEFT_OUT)
ORDER_OF_NAME_MODEL = 3


@dataclass(frozen=True)
class Variant:
    """How a model is taught unknown.

    Args:
        lines: `unknown_name_ratio` of the pretraining.
        questions: `unknown_question_ratio` of the questions in pretraining.
        finetuning: `unknown_question_ratio` of the finetuning.
        with_read_names: whether the finetuning also asks about names of the corpus, where every answer but unknown is
            right.
    """

    lines: float
    questions: float
    finetuning: float
    with_read_names: bool = True


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
    """The checkpoint of a variant and a seed; it is trained if it does not exist."""

    def __init__(self, variant: Variant, seed: int, data: Data, work: Path, flops: float, steps: int):
        self.variant, self.seed, self.data = variant, seed, data
        self.pretrained = work / f"pretrained_{variant.lines}_{variant.questions}_{seed}"
        self.finetuned = work / ("finetuned_" + "_".join(map(str, (*vars(variant).values(), seed))))
        # the names of questions that are measured are never taught as unknown
        common = ["--unknown_name_excluded", data.file("left_out"), data.file("dev")]
        common += [*f"--seed {seed} --save_steps 0 --validation_size 0".split()]
        if not (self.pretrained / "run.json").is_file():
            ratios = ["--unknown_name_ratio", variant.lines, "--unknown_question_ratio", variant.questions]
            files = ["--train_file", data.lines, "--question_file", data.file("train"), "--output_dir", self.pretrained]
            given = ["--config", "relations/pretrain", *TRAINING.split(), "--max_train_flops", flops]
            pretrain(parse_settings(PretrainSettings, list(map(str, [*given, *common, *files, *ratios]))))
        if not (self.finetuned / "run.json").is_file():
            files = ["--train_file", data.file("train"), "--corpus_file", data.lines, "--output_dir", self.finetuned]
            files += ["--model_name_or_path", self.pretrained, "--unknown_question_ratio", variant.finetuning]
            given = ["--config", "relations/finetune", "--max_train_steps", steps, "--tokens_per_batch", 2048]
            with asked_again(variant.with_read_names):
                finetune(parse_settings(FinetuneSettings, list(map(str, [*given, "--eval_steps", 0, *common, *files]))))
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
        found: dict = {"seed": self.seed, "seconds": self.seconds}
        for key, always in (("accuracy", False), ("accuracy_if_it_must_answer", True)):
            answers = answer_questions(model, tokenizer, self.data.dev.questions, always_answer=always)
            right = [answer.text in rights for answer, rights in zip(answers, self.data.dev.answers, strict=True)]
            found[key] = sum(right) / len(right)
            if always and 0 < sum(right) < len(right):
                scores = [answer.log_probability for answer in answers]
                found["auroc_right_wrong"] = float(roc_auc_score(right, scores))
        if unknown_answer_id(tokenizer) is None:
            return found
        of_questions, of_names, shares = {}, {}, {}
        for kind, asked in self.data.measured.items():
            answers = answer_questions(model, tokenizer, asked.questions)
            shares[kind] = sum(answer.is_unknown for answer in answers) / len(answers)
            of_questions[kind] = self.unknown_log_probabilities(asked.questions)
            of_names[kind] = self.unknown_log_probabilities(list(dict.fromkeys(asked.names)))
        found["answered_unknown"] = shares
        found["auroc"] = aurocs(of_questions)
        found["auroc_after_the_name"] = aurocs(of_names)
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
        "norms of n-gram vectors": fitted_aurocs(lambda asked: name_ngram_norms(*first.member, asked.names), data),
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


@contextmanager
def asked_again(with_read_names: bool) -> Iterator[None]:
    """Context in which questions are asked again about invented names only, unless `with_read_names`."""
    whole = QuestionAnswering._asked_again
    if not with_read_names:
        # the first of the two
        QuestionAnswering._asked_again = lambda *arguments: islice(whole(*arguments), 1)
    try:
        yield
    finally:
        QuestionAnswering._asked_again = whole


def variants(ratios: list[float]) -> dict[str, Variant]:
    """What is compared."""
    first = ratios[0]
    return {
        "never taught": Variant(0.0, 0.0, 0.0),
        **{f"taught, {ratio} of lines": Variant(ratio, 1.0, 1.0) for ratio in ratios},
        **{f"taught, {ratio} of lines, gently": Variant(ratio, 1.0, 0.3) for ratio in ratios},
        "taught in pretraining only": Variant(first, 1.0, 0.0),
        "taught in finetuning only": Variant(0.0, 0.0, 1.0),
        "in finetuning only, without names of the corpus": Variant(0.0, 0.0, 1.0, with_read_names=False),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, default=Path("runs/unknown_names"), help="folder of the trainings")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.3], help="of lines with invented names")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--flops", type=float, default=2e11, help="budget of each pretraining")
    parser.add_argument("--steps", type=int, default=10, help="updates of each finetuning")
    parser.add_argument("--output_file", type=Path, help="also write the metrics here")
    arguments = parser.parse_args()
    data = Data(arguments.work_dir / "people")
    budget = {"work": arguments.work_dir, "flops": arguments.flops, "steps": arguments.steps}
    compared = variants(arguments.ratios)
    # seed by seed, so that a run that is stopped has whole comparisons
    trained = {
        (name, seed): Trained(variant, seed, data, **budget)
        for seed in arguments.seeds
        for name, variant in compared.items()
    }
    reports = {
        name: {**vars(variant), "runs": [trained[name, seed].report() for seed in arguments.seeds]}
        for name, variant in compared.items()
    }
    never = [trained["never taught", seed] for seed in arguments.seeds]
    metrics = {
        "people": PEOPLE,
        "training": " ".join(TRAINING.split()),
        "flops": arguments.flops,
        "finetuning_steps": arguments.steps,
        "questions": {kind: len(asked.questions) for kind, asked in data.measured.items()},
        "variants": reports,
        "alternatives_auroc": alternatives(never, data),
        "made_up_answers": made_up_answers(never[0], data),
        **environment_info(),
    }
    print(summary(metrics))
    if arguments.output_file:
        save_json(arguments.output_file, metrics)


def summary(metrics: dict) -> str:
    """The metrics as lines."""
    lines = []
    for name, row in metrics["variants"].items():
        lines.append(name)
        for run in row["runs"]:
            lines += [f"  {key}: {shown(value)}" for key, value in run.items()]
    for key in ("alternatives_auroc", "made_up_answers"):
        lines += [f"{name}: {shown(values)}" for name, values in metrics[key].items()]
    return "\n".join(lines)


def shown(value) -> str:
    """A number or a dictionary of numbers with three digits."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(entry)}" for key, entry in value.items())
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
