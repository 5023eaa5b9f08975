"""What `ask` prints and keeps of answers that are looked up."""

import logging
from dataclasses import dataclass

from birthgpt.data.corpus import ColumnSettings
from birthgpt.data.extraction import read_patterns
from birthgpt.data.unanswered import append_questions, check_unanswered_file
from birthgpt.evaluation.lookup import Finding, Lookup, LookupIndex
from birthgpt.evaluation.lookup_sources import LookupColumns
from birthgpt.evaluation.wordings import Wordings
from birthgpt.settings import checked, setting

logger = logging.getLogger(__name__)

MOST_SHOWN = 5
"""Findings that are shown."""

AROUND = 120
"""Characters that are shown before and behind a place in a line."""


@checked
@dataclass(kw_only=True)
class LookupSettings(ColumnSettings):
    """Where to look up what a checkpoint does not recall."""

    lookup_file: str | None = setting(
        None,
        "a table with names or questions and their answers, or the lines of a corpus: asked where the verdict is not "
        "recalled",
    )
    question_column: str = setting("question", "column of the questions of a table")
    answer_column: str = setting("answer", "column of the answers of a table")
    relation_column: str = setting("relation", "column of a table that says what an answer is about")
    lookup_patterns: str | None = setting(
        None, "YAML file that says how lines tell relations, as for extract; English biographies if not given"
    )
    unanswered_file: str | None = setting(
        None, "a .tsv to which questions with their found answers are appended, for finetune"
    )

    def validate_lookup_file(self):
        """Other settings need it."""
        for name in ("lookup_patterns", "unanswered_file"):
            if self.lookup_file is None and getattr(self, name) is not None:
                raise ValueError(f"{name}: give lookup_file too, which says where answers are looked up")


class LookupDesk:
    """Looks questions up, and keeps what was found.

    Args:
        settings: they have a `lookup_file`.
        wordings: those of the calibration.

    Raises:
        ValueError: a file is wrong; rapidfuzz or bm25s is not installed.
    """

    def __init__(self, settings: LookupSettings, wordings: Wordings):
        assert settings.lookup_file is not None
        self.wordings, self.unanswered_file = wordings, settings.unanswered_file
        if self.unanswered_file is not None:
            inputs = {name: getattr(settings, name) for name in ("lookup_file", "lookup_patterns")}
            check_unanswered_file(self.unanswered_file, inputs)
        columns = LookupColumns(
            name=settings.name_column or LookupColumns().name,
            relation=settings.relation_column,
            answer=settings.answer_column,
            question=settings.question_column,
            text=settings.text_column,
        )
        patterns = None if settings.lookup_patterns is None else read_patterns(settings.lookup_patterns)
        self.index = LookupIndex.load(settings.lookup_file, columns, patterns)

    def __call__(self, question: str) -> str:
        """What was found, for a terminal; an answer is appended to `unanswered_file`."""
        found = self.index.find(question, self.wordings)
        if self.unanswered_file is not None and found.answer is not None:
            append_questions(self.unanswered_file, [(found.question, found.answer)])
        return describe_lookup(found, self.index)


def describe_lookup(found: Lookup, index: LookupIndex) -> str:
    """The answer, where it is from, and the rows or lines with the answers between `**`."""
    lines = [_headline(found, index.kind)]
    lines += [f"  {finding.entry.where}: {marked(finding)}" for finding in found.findings[:MOST_SHOWN]]
    if len(found.findings) > MOST_SHOWN:
        lines.append(f"  … and {len(found.findings) - MOST_SHOWN} more")
    return "\n".join(lines)


def marked(finding: Finding) -> str:
    """The row or the line with its answers between `**`, and not endless."""
    text, shown, end = finding.entry.text, "", 0
    for first, last in finding.spans:
        shown += f"{text[end:first]}**{text[first:last]}**"
        end = last
    shown += text[end:]
    start = max(0, shown.find("**") - AROUND) if finding.spans else 0
    stop = shown.rfind("**") + 2 + AROUND if finding.spans else 2 * AROUND
    return ("…" if start else "") + shown[start:stop] + ("…" if stop < len(shown) else "")


def _headline(found: Lookup, kind: str) -> str:
    origin = f"from the {kind}"
    if found.answer is not None:
        return f"{found.answer} ({origin})"
    if not found.findings:
        return f"the {kind} has nothing about it"
    told = [finding for finding in found.findings if finding.spans]
    match = found.findings[0].match
    if match == "similar":
        names = " or ".join(dict.fromkeys(finding.entry.name for finding in found.findings))
        return f"{origin}, about a similar name: {names}"
    if not told:
        return f"{origin}, {'the nearest lines' if match == 'words' else 'about this name; no answer is recognised'}:"
    answers = " or ".join(dict.fromkeys(answer for finding in told for answer in finding.answers))
    if not all(finding.is_about for finding in told):
        return f"{answers} ({origin}, which does not say whether this is what is asked)"
    return f"{answers} ({origin}, which has several answers: this may be the name of several people)"
