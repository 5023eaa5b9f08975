"""Helpers that know nothing of language models: files, tables, messages, the machine."""
