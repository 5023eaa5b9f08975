"""Everything that a page shows about one question: answer, verdict, competing answers, attribution, nearest names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch

from birthgpt.commands.answer_rows import merged_candidates
from birthgpt.commands.confidence_report import Judge, RiskSettings
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.data.names import NameFinder, normalize
from birthgpt.data.questions import find_name
from birthgpt.data.tokenizers import count_unknown, question_prompt
from birthgpt.evaluation.answering import Answer, DecodingSettings, answer_questions, candidate_answers
from birthgpt.evaluation.attribution import AttentionMap, Attribution, attention_of_question, attribute_answer
from birthgpt.evaluation.calibration import has_calibration
from birthgpt.evaluation.confidence import ConfidentAnswer
from birthgpt.evaluation.nearest_names import cosines, last_states
from birthgpt.evaluation.wordings import NAME

LONGEST_QUESTION = 2000
"""Characters of a question; a longer one is refused before it is read."""

NEAREST = 5
LONGEST_SHOWN_LINE = 500


@dataclass(frozen=True)
class Neighbour:
    """A name that the model has read.

    Args:
        name: the name.
        cosine: of the states of both questions at ⁇.
        answer: what the model answers to the same question about it.
    """

    name: str
    cosine: float
    answer: str


@dataclass(frozen=True)
class Inquiry:
    """What a checkpoint says about a question, and why.

    Args:
        question: as the model reads it.
        answer: the greedy answer.
        judged: the answer with p(right) and verdict; None without a calibration.
        candidates: the answers of a beam search with their probabilities, the most likely first.
        attribution: how much each token contributes to the answer.
        attention: what ⁇ attends to in each layer.
        name: the name in the question; None if none is found.
        lines: the lines of the name in the corpus; empty for a name that was never read.
        neighbours: the nearest names that were read, for a name that was not; None without a corpus, or if the name is
            not known.
        unknown_characters: characters that the tokenizer does not know.
    """

    question: str
    answer: Answer
    judged: ConfidentAnswer | None
    candidates: list[dict[str, Any]]
    attribution: Attribution
    attention: AttentionMap
    name: str | None
    lines: tuple[str, ...]
    neighbours: tuple[Neighbour, ...] | None
    unknown_characters: str


class ReadNames:
    """The lines of a corpus by name, and some of its names for comparisons.

    Args:
        lines: the lines of each name.
        compared: how many names a new name is compared with, drawn evenly from the corpus.
    """

    def __init__(self, lines: Mapping[str, Sequence[str]], compared: int):
        self.lines = {name: of_name for name, of_name in lines.items() if name}
        self.finder = NameFinder(self.lines)
        names = list(self.lines)
        self.compared = names[:: max(1, -(-len(names) // max(1, compared)))] if compared else []


class Inquirer:
    """Asks one checkpoint.

    Args:
        path: the checkpoint.
        decoding: how answers are written.
        risk: the allowed risk, and the checkpoints whose agreement its calibration uses.
        num_beams: beams of the search for competing answers.
        names: the names of the corpus that was read, if it is given.

    Raises:
        ValueError: the checkpoint or its calibration cannot be used.
    """

    def __init__(
        self, path: str, decoding: DecodingSettings, risk: RiskSettings, num_beams: int, names: ReadNames | None = None
    ):
        self.path, self.decoding, self.num_beams, self.names = path, decoding, num_beams, names
        self.model, self.tokenizer = load_model_and_tokenizer(path)
        self.model.eval()
        self.judge = None
        if has_calibration(path):
            self.judge = Judge.load(path, (self.model, self.tokenizer), risk, decoding)
        self._states: dict[str, torch.Tensor] = {}
        # a page answers several readers, and an inquiry changes how the model attends for a moment
        self._lock = Lock()

    @property
    def attention(self) -> str:
        """The attention types of the layers, each once."""
        types = getattr(self.model.config, "attention_types", None) or [self.model.config.model_type]
        return ", ".join(dict.fromkeys(types))

    @property
    def wordings(self) -> list[str]:
        """The wordings that the calibration knows; a question of any kind can be asked."""
        groups = [] if self.judge is None else self.judge.source.wordings.groups
        return [wording for group in groups for wording in group[:1]] or ["Where was {name} born?"]

    def __call__(self, question: str) -> Inquiry:
        """Ask a question.

        Raises:
            ValueError: the question is empty or too long, or contains a reserved character.
        """
        if len(question) > LONGEST_QUESTION:
            raise ValueError(
                f"the question has {len(question):,} characters: ask in at most {LONGEST_QUESTION:,}, and in as many "
                "tokens as the model takes"
            )
        asked = normalize(question.encode("utf-8", "replace").decode("utf-8"))
        if not asked:
            raise ValueError("there is no question: ask one, such as Where was Ada Lovelace born?")
        with self._lock:
            return self._ask(asked)

    def _ask(self, asked: str) -> Inquiry:
        given: dict[str, Any] = {
            "max_new_tokens": self.decoding.max_new_tokens,
            "always_answer": self.decoding.always_answer,
        }
        (answer,) = answer_questions(self.model, self.tokenizer, [asked], **given)
        (beams,) = candidate_answers(self.model, self.tokenizer, [asked], num_beams=self.num_beams, **given)
        judged = None if self.judge is None else self.judge([asked], [answer])[0]
        name = self._name_in(asked)
        lines = () if self.names is None or name is None else tuple(self.names.lines.get(name, ()))
        return Inquiry(
            question=asked,
            answer=answer,
            judged=judged,
            candidates=merged_candidates(beams),
            attribution=attribute_answer(self.model, self.tokenizer, asked, answer.written),
            attention=attention_of_question(self.model, self.tokenizer, asked),
            name=name,
            lines=tuple(line[:LONGEST_SHOWN_LINE] for line in lines),
            neighbours=None if lines else self._neighbours(asked, name, given),
            unknown_characters="".join(count_unknown(self.tokenizer, [asked])),
        )

    def _name_in(self, question: str) -> str | None:
        known = None if self.judge is None else self.judge.source.wordings.name_in(question)
        found = find_name(question, None if self.names is None else self.names.finder) or known
        return found if found is None or self.names is None else self.names.finder.spelled(found)

    def _neighbours(self, question: str, name: str | None, given: dict[str, Any]) -> tuple[Neighbour, ...] | None:
        """The read names with the nearest states; the states of a wording are computed once."""
        is_pair = self.model.config.is_encoder_decoder
        if self.names is None or not self.names.compared or name is None or name not in question or is_pair:
            return None
        wording = question.replace(name, NAME)
        if wording not in self._states:
            # one wording at a time, so that what is kept is bounded
            self._states = {wording: self._states_of([wording.replace(NAME, read) for read in self.names.compared])}
        found = cosines(self._states_of([question]), self._states[wording])[0]
        best = found.topk(min(NEAREST, len(found)))
        names = [self.names.compared[index] for index in best.indices.tolist()]
        answers = answer_questions(self.model, self.tokenizer, [wording.replace(NAME, read) for read in names], **given)
        return tuple(
            Neighbour(read, cosine, answer.shown)
            for read, cosine, answer in zip(names, best.values.tolist(), answers, strict=True)
        )

    def _states_of(self, questions: Sequence[str]) -> torch.Tensor:
        prompts = [question_prompt(self.tokenizer, question) for question in questions]
        return last_states(self.model, self.tokenizer, prompts)
