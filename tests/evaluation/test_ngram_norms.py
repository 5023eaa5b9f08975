"""The norms of a name are those of the vectors that its n-grams have in the tables."""

import accelerate
import pytest
import torch
from builders import tiny_model

from birthgpt.evaluation.ngram_norms import name_ngram_norms

NAMES = ["Ada Lovelace", "J. J. Thomson", "A"]
ROWS = 50


def test_norms_are_looked_up_one_by_one(bpe):
    model = tiny_model(vocab_size=len(bpe), ngram_orders=[2, 3], ngram_vocab_size=ROWS)
    found = name_ngram_norms(model, bpe, NAMES)
    for name, row in zip(NAMES, found.tolist(), strict=True):
        ids = bpe(name)["input_ids"]
        expected = []
        for order, table in zip((2, 3), model.model.embed_ngrams.tables, strict=True):
            norms = []
            for start in range(len(ids) - order + 1):
                value = 0
                for token in ids[start : start + order]:
                    value = (value * 1_000_003 + token + 2) % (2**31 - 1)
                norms.append(table.weight[value % ROWS].norm().item())
            expected += [sum(norms) / len(norms), min(norms), max(norms)] if norms else [0.0, 0.0, 0.0]
        assert row == pytest.approx(expected, rel=1e-5)


def test_the_tables_may_be_elsewhere_between_the_calls_of_their_modules(bpe):
    model = tiny_model(vocab_size=len(bpe), ngram_orders=[2, 3], ngram_vocab_size=ROWS)
    expected = name_ngram_norms(model, bpe, NAMES)
    accelerate.cpu_offload(model.model.embed_ngrams, execution_device=torch.device("cpu"))
    assert torch.equal(name_ngram_norms(model, bpe, NAMES), expected)


def test_what_was_read_has_other_norms(bpe):
    """One update changes the vectors of the n-grams in its batch alone."""
    model = tiny_model(vocab_size=len(bpe), ngram_orders=[2], ngram_vocab_size=100_003).float()
    before = name_ngram_norms(model, bpe, NAMES[:2])
    batch = bpe("Ada Lovelace was born", return_tensors="pt")["input_ids"]
    model(input_ids=batch, labels=batch).loss.backward()
    with torch.no_grad():
        (table,) = model.model.embed_ngrams.tables
        table.weight -= 10 * table.weight.grad
    after = name_ngram_norms(model, bpe, NAMES[:2])
    assert not torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])


def test_a_model_without_ngrams_is_refused(bpe):
    with pytest.raises(ValueError, match="no n-gram embeddings"):
        name_ngram_norms(tiny_model(vocab_size=len(bpe)), bpe, NAMES)
