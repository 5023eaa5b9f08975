"""N-gram embeddings against a dictionary of n-grams, with branches, padding and a cache."""

import pytest
import torch
from builders import case_config, random_tokens
from torch import nn
from transformers import DynamicCache

from birthgpt import BirthGPTForCausalLM
from birthgpt.model.ngrams import NgramEmbedding, hash_ngrams

PAD, END = 0, 1


def ngram_config(orders=(2, 3), rows=50):
    return case_config("softmax", ngram_orders=list(orders), ngram_vocab_size=rows)


def seeded_embedding(orders=(2, 3), rows=50) -> NgramEmbedding:
    torch.manual_seed(0)
    return NgramEmbedding(ngram_config(orders, rows)).double()


def looked_up(embedding: NgramEmbedding, tokens: list[int]) -> torch.Tensor:
    """The definition, token by token: the sum of the vectors of all n-grams that end there."""
    sums = []
    for end in range(1, len(tokens) + 1):
        total = torch.zeros(16, dtype=torch.float64)
        for order, table in zip(embedding.orders, embedding.tables, strict=True):
            gram = tokens[max(0, end - order) : end]
            if len(gram) == order and not {PAD, END} & set(gram):
                total = total + table.weight[hash_ngrams(torch.tensor(gram), table.num_embeddings)]
        sums.append(total)
    return torch.stack(sums)


@pytest.mark.parametrize("gram", [[5, 6], [23, 2, 11], [2047, 0, 1999, 7]], ids=str)
def test_a_hash_is_the_polynomial_of_whole_numbers_that_checkpoints_were_trained_with(gram):
    value = 0
    for token in gram:
        value = (value * 1_000_003 + token + 2) % (2**31 - 1)
    assert hash_ngrams(torch.tensor(gram), 50).item() == value % 50


def assert_close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("orders", [(2,), (2, 3), (4, 2)], ids=str)
@pytest.mark.parametrize("tokens", [[5], [5, 6], [5, 6, 7, 5, 6, 7, 7], [5, 6, END, 7, 8, 9], [5, 6, PAD, 7]], ids=str)
def test_every_ngram_of_text_has_its_vector(orders, tokens):
    embedding = seeded_embedding(orders)
    assert_close(embedding(torch.tensor([tokens]))[0], looked_up(embedding, tokens))


@pytest.mark.parametrize("chunks", [[1] * 9, [4, 1, 1, 3], [2, 7], [9]], ids=str)
def test_chunk_by_chunk_with_a_cache_gives_the_same(chunks):
    embedding, tokens = seeded_embedding((2, 4)), random_tokens(2, 9)
    cache = DynamicCache(config=ngram_config((2, 4)))
    parts = [embedding(part, past_key_values=cache) for part in tokens.split(chunks, dim=1)]
    assert_close(torch.cat(parts, dim=1), embedding(tokens))


@pytest.mark.parametrize("chunks", [[8], [3, 5], [1] * 8], ids=str)
def test_padding_anywhere_is_passed_over(chunks):
    embedding, tokens = seeded_embedding(), random_tokens(1, 8)
    token_mask = torch.tensor([[0, 1, 1, 0, 0, 1, 1, 0]]).bool()
    cache = DynamicCache(config=ngram_config())
    parts = zip(tokens.split(chunks, dim=1), token_mask.split(chunks, dim=1), strict=True)
    embedded = torch.cat([embedding(part, token_mask=mask, past_key_values=cache) for part, mask in parts], dim=1)
    assert_close(embedded[token_mask], embedding(tokens[:, token_mask[0]])[0])


@pytest.mark.parametrize("prefix_length", [0, 1, 4])
def test_along_branches_each_gives_what_stem_and_branch_alone_give(prefix_length):
    embedding, lengths = seeded_embedding((2, 3)), [prefix_length, 1, 4, 2]
    prefix, *branches = random_tokens(2, sum(lengths)).split(lengths, dim=1)
    branch_ids = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths)).expand(2, -1)
    _, *embedded = embedding(torch.cat((prefix, *branches), dim=1), branch_ids=branch_ids).split(lengths, dim=1)
    for branch, vectors in zip(branches, embedded, strict=True):
        assert_close(vectors, embedding(torch.cat((prefix, branch), dim=1))[:, prefix_length:])


def test_the_order_of_tokens_matters_and_few_ngrams_share_a_row():
    pairs = torch.cartesian_prod(torch.arange(100), torch.arange(100))
    rows = hash_ngrams(pairs, 1 << 20)
    # of 10,000 balls in a million boxes, about 48 share a box with another ball
    assert rows.unique().numel() > 9900
    assert (hash_ngrams(pairs.flip(1), 1 << 20) == rows).sum() < 150
    assert hash_ngrams(pairs, 64).unique(return_counts=True)[1].min() > 100


def test_ngrams_need_the_tokens_themselves():
    model = BirthGPTForCausalLM(ngram_config())
    with pytest.raises(ValueError, match="ngram_orders need token ids"):
        model(inputs_embeds=torch.zeros(1, 3, 16))


def test_gradients_reach_the_rows_of_the_text_alone():
    embedding, tokens = seeded_embedding((2,)), random_tokens(1, 6)
    embedding(tokens).sum().backward()
    rows = hash_ngrams(tokens.unfold(1, 2, 1), 50).flatten()
    touched = embedding.tables[0].weight.grad.abs().sum(dim=1).nonzero().flatten()
    assert set(touched.tolist()) == set(rows.tolist())


def test_the_tables_start_as_the_token_embedding_does():
    model = BirthGPTForCausalLM(case_config("softmax", ngram_orders=[2], ngram_vocab_size=4000))
    table = model.model.embed_ngrams.tables[0]
    assert isinstance(table, nn.Embedding)
    assert table.weight.std().item() == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("orders", [[1], [2, 2], [0, 3]], ids=str)
def test_orders_that_are_none_are_refused(orders):
    with pytest.raises(ValueError, match=r"ngram_orders=.*such as \[2, 3\]"):
        case_config("softmax", ngram_orders=orders)
