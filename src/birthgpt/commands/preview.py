"""Print examples of a corpus, or of questions, as the model sees them."""

from dataclasses import dataclass

from birthgpt.commands.building import build_tokenizer, build_unknown_names
from birthgpt.commands.command import Command
from birthgpt.commands.pretrain import PretrainSettings, texts_of
from birthgpt.data.corpus import CorpusSettings
from birthgpt.data.objectives import ObjectiveSettings, build_objective, build_question_answering, teaches_unknown
from birthgpt.data.preview import examples, show_example
from birthgpt.data.questions import load_questions
from birthgpt.data.tokenizers import TokenizerSettings
from birthgpt.settings import MAX_SEED, checked, setting


@checked
@dataclass(kw_only=True)
class PreviewSettings:
    """Print examples as the model sees them: the input and, below it, the targets; □ marks a missing target."""

    corpus: CorpusSettings
    objective: ObjectiveSettings
    tokenizer: TokenizerSettings
    question_file: str | None = setting(None, "questions with answers, to show instead of lines")
    count: int = setting(4, "examples to print", min=1)
    epoch: int = setting(0, "the epoch of the examples", min=0)
    seed: int = setting(0, "seed of the examples", min=0, max=MAX_SEED)


def preview(settings: PreviewSettings) -> list[str]:
    """The examples as text.

    Raises:
        ValueError: a file or a setting is wrong.
    """
    corpus = settings.corpus.read_train_file()
    block_size = settings.objective.block_size
    unknown = teaches_unknown(settings.objective)
    questions = None if settings.question_file is None else load_questions(settings.question_file)
    texts = texts_of(corpus, questions)
    tokenizer = build_tokenizer(settings.tokenizer, texts, block_size, unknown_answers=unknown)
    asked = () if questions is None else questions["name"]
    unknown_names = build_unknown_names(settings.objective, (row["name"] for row in corpus), asked)
    if questions is None:
        source, objective = corpus, build_objective(settings.objective, tokenizer, corpus, unknown_names)
    else:
        source = questions
        objective = build_question_answering(settings.objective, tokenizer, block_size, questions, unknown_names)
    shown = examples(source, objective, seed=settings.seed, epoch=settings.epoch, count=settings.count)
    return [show_example(tokenizer, example) for example in shown]


def show_examples(shown: list[str]) -> None:
    """Print the examples with an empty line between them."""
    print("\n\n".join(shown))


COMMAND = Command(PreviewSettings, preview, show_examples, file_of=PretrainSettings, several_processes=False)
