"""Questions from lines: patterns (`patterns`) find the facts that lines tell for certain (`facts`)."""

from birthgpt.data.extraction.facts import ExtractedFacts, extract_facts
from birthgpt.data.extraction.patterns import PatternRelation, birthplace_patterns, builtin_patterns, read_patterns

__all__ = [
    "ExtractedFacts",
    "PatternRelation",
    "birthplace_patterns",
    "builtin_patterns",
    "extract_facts",
    "read_patterns",
]
