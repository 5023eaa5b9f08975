"""What the log says about the data of a pretraining before it begins."""

import logging

import datasets
from transformers import PreTrainedTokenizerBase

from birthgpt.data.batching import EpochBatches
from birthgpt.data.corpus import corpus_report, lines_by_name
from birthgpt.data.coverage import Coverage, answer_coverage
from birthgpt.data.names import odd_names
from birthgpt.data.objectives import Objective, RecallFromName
from birthgpt.data.tokenizers import UnknownCharacterWarnings
from birthgpt.utils.tables import limited_table

logger = logging.getLogger(__name__)


def report_corpus(source: str, corpus: datasets.Dataset) -> None:
    """Log the counts of lines and names, and the first of the names that look odd."""
    counts = ", ".join(f"{key.replace('_', ' ')} {count:,}" for key, count in corpus_report(corpus).items())
    logger.info("%s: %s", source, counts)
    for kind, names in odd_names(dict.fromkeys(filter(None, corpus["name"]))).items():
        if names:
            logger.warning("%s: %s, first %r", source, kind.replace("_", " "), names[0])


def report_examples(source: str, corpus: datasets.Dataset, batches: EpochBatches, objective: Objective) -> None:
    """Log how many lines of an epoch have no example, are truncated, or are treated differently."""
    examples = batches.examples
    without = len(corpus) - len(set(examples["line_id"]))
    if without:
        logger.warning("%s: %s of %s lines have no example in an epoch", source, f"{without:,}", f"{len(corpus):,}")
    report_lines(source, corpus, objective)
    truncated = sum(examples["truncated"])
    if truncated:
        logger.info(
            "%s: %s of %s examples of an epoch are truncated at block_size=%d",
            source,
            f"{truncated:,}",
            f"{len(examples):,}",
            objective.block_size,
        )


def report_lines(source: str, corpus: datasets.Dataset, objective: Objective) -> None:
    """Log how many lines become other examples than most."""
    for what, count in objective.count_lines(corpus).items():
        if count:
            logger.info("%s: %s of %s lines %s", source, f"{count:,}", f"{len(corpus):,}", what)


class StreamReport:
    """Reports on a stream while it is read: counts of its first lines, and each unknown character once.

    Args:
        source: the file, for the log.
        objective: what is made of the lines.
        tokenizer: the tokenizer that may not know characters.
        counts: whether this process reports the counts; the others have similar lines.
    """

    def __init__(self, source: str, objective: Objective, tokenizer: PreTrainedTokenizerBase, *, counts: bool = True):
        self.source, self.objective = source, objective
        self.warn_unknown = UnknownCharacterWarnings(tokenizer, source)
        self.is_first = counts

    def __call__(self, rows: dict[str, list]) -> None:
        """Look at the lines that were read next, as columns."""
        if self.is_first:
            lines = datasets.Dataset.from_dict(rows)
            source = f"{self.source} (first {len(lines):,} lines)"
            report_corpus(source, lines)
            report_lines(source, lines, self.objective)
            self.is_first = False
        self.warn_unknown(rows["text"])


def report_coverage(
    source: str, questions: datasets.Dataset, corpus: datasets.Dataset, objective: Objective
) -> Coverage | None:
    """Log how many answers can be a span of the objective, in total and by relation if there are several.

    None for an objective without spans of lines.
    """
    if not isinstance(objective, RecallFromName):
        return None
    coverage = answer_coverage(objective, questions, lines_by_name(corpus))
    logger.info("%s: %s", source, coverage)
    if len(coverage.by_relation) > 1:
        logger.info("%s", coverage_by_relation(coverage))
    return coverage


def coverage_by_relation(coverage: Coverage) -> str:
    """A table of the relations: how many answers can be a span, and the first that cannot although a line has it."""
    rows = [
        {
            "relation": relation,
            "as_span": part.ratio,
            "count": part.total,
            "asked_per_epoch": part.asked_per_epoch,
            "in_a_line_and_never_a_span": part.first_never or None,
        }
        for relation, part in coverage.by_relation.items()
    ]
    return limited_table(rows, list(rows[0]))
