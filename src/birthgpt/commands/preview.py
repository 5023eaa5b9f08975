"""Print examples of a corpus, and of questions, as the model sees them."""

from dataclasses import dataclass

import datasets
from transformers import PreTrainedTokenizerBase

from birthgpt.commands.building import build_tokenizer, build_unknown_names
from birthgpt.commands.command import Command
from birthgpt.commands.pretrain import PretrainSettings, texts_of
from birthgpt.data.corpus import CorpusSettings
from birthgpt.data.names import NameFinder
from birthgpt.data.objectives import (
    Objective,
    ObjectiveSettings,
    build_objective,
    build_question_answering,
    teaches_unknown,
)
from birthgpt.data.preview import examples, show_example
from birthgpt.data.questions import MixedQuestionSettings, load_questions
from birthgpt.data.splits import train_validation_split
from birthgpt.data.tokenizers import TokenizerSettings
from birthgpt.settings import MAX_SEED, checked, setting, with_default
from birthgpt.training.callbacks import ValidationSettings
from birthgpt.utils.errors import naming_source


@checked
@dataclass(kw_only=True)
class PreviewSettings:
    """Print examples as pretraining shows them to the model: the input and, below it, the targets.

    Examples of lines come first, then those of the questions that are trained on; □ marks a missing target.
    """

    corpus: CorpusSettings
    objective: ObjectiveSettings
    questions: MixedQuestionSettings
    tokenizer: TokenizerSettings
    validation_size: int = with_default(ValidationSettings, "validation_size", 0)
    count: int = setting(4, "examples of lines to print, and of questions", min=1)
    epoch: int = setting(0, "the epoch of the examples", min=0)
    seed: int = setting(0, "seed of the examples", min=0, max=MAX_SEED)

    def validate_questions(self):
        """Pretraining refuses questions beside a stream, and their names would be all those of the stream."""
        if self.questions.question_file is not None and self.corpus.streaming:
            raise ValueError("question_file cannot be mixed into a stream: set streaming to false")


def preview(settings: PreviewSettings) -> list[str]:
    """The examples as text: those of lines, then those of questions.

    Raises:
        ValueError: a file or a setting is wrong.
    """
    corpus = settings.corpus.read_train_file()
    source, block_size = settings.questions.question_file, settings.objective.block_size
    questions = None if source is None else load_questions(source, names=NameFinder(row["name"] for row in corpus))
    mixed_in = questions if settings.questions.question_ratio else None
    unknown = teaches_unknown(settings.objective)
    texts = texts_of(corpus, mixed_in)
    tokenizer = build_tokenizer(settings.tokenizer, texts, block_size, unknown_answers=unknown)
    people = () if questions is None else questions["name"]
    unknown_names = build_unknown_names(settings.objective, (row["name"] for row in corpus), people)
    objective = build_objective(settings.objective, tokenizer, corpus, unknown_names, questions=mixed_in or ())
    shown = show_rows(settings, corpus, objective, tokenizer)
    if mixed_in is None:
        return shown
    with naming_source(str(source)):
        trained, _ = train_validation_split(mixed_in, settings.validation_size, settings.seed)
        answering = build_question_answering(settings.objective, tokenizer, block_size, trained, unknown_names)
        return shown + show_rows(settings, trained, answering, tokenizer)


def show_rows(
    settings: PreviewSettings,
    rows: datasets.Dataset | datasets.IterableDataset,
    objective: Objective,
    tokenizer: PreTrainedTokenizerBase,
) -> list[str]:
    """The examples of the first lines or questions as text.

    Raises:
        ValueError: a line or a question does not fit into the block.
    """
    drawn = examples(rows, objective, seed=settings.seed, epoch=settings.epoch, count=settings.count)
    return [show_example(tokenizer, example) for example in drawn]


def show_examples(shown: list[str]) -> None:
    """Print the examples with an empty line between them."""
    print("\n\n".join(shown))


COMMAND = Command(PreviewSettings, preview, show_examples, file_of=PretrainSettings, several_processes=False)
