"""Helpers that do not depend on language models: files, tables, error messages, the machine."""
