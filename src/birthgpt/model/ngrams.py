"""Embeddings of n-grams: what a few tokens mean together, looked up before the first layer."""

import torch
from torch import nn
from transformers.cache_utils import Cache

from .cache import layer_state
from .configuration_birthgpt import BirthGPTConfig
from .predecessors import newest, previous_indices, shifted

NONE = -1
PRIME = 2**31 - 1


class NgramEmbedding(nn.Module):
    """Σ_n E_n[hash(x_{t−n+1}, …, x_t)] over the orders n (hashed n-gram embeddings: Huang et al., 2501.16975).

    Names share their tokens, but hardly their pairs and triples of tokens: by these a person has vectors of their
    own, which are looked up at no cost in FLOPs. N-grams of the same hash share a vector. An n-gram that begins
    before the first token, or holds padding or a special token, has none. The tokens before a branch's first are the
    stem's last.
    """

    def __init__(self, config: BirthGPTConfig):
        super().__init__()
        self.orders = config.ngram_orders
        self.reach = max(self.orders) - 1
        self.special_ids = config.special_ids
        self.tables = nn.ModuleList(nn.Embedding(config.ngram_vocab_size, config.hidden_size) for _ in self.orders)

    def forward(
        self,
        input_ids: torch.LongTensor,
        *,
        token_mask: torch.Tensor | None = None,
        branch_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
    ) -> torch.Tensor:
        """(batch, length) → (batch, length, hidden_size)."""
        ids = input_ids[..., None]
        for special_id in self.special_ids:
            ids = ids.masked_fill(ids == special_id, NONE)
        # the tokens before these lie in the first layer's cache
        cache = layer_state(past_key_values, 0)
        past = cache.states.get("ngrams") if cache is not None else None
        if past is None:
            past = ids.new_full((len(ids), self.reach, 1), NONE)
        tokens = torch.cat((past, ids), dim=1)  # (batch, reach + length, 1)
        previous = previous_indices(token_mask, branch_ids, self.reach)
        if cache is not None:
            cache.states["ngrams"] = newest(tokens, previous, self.reach)
        before = [shifted(tokens, previous, distance, self.reach) for distance in range(self.reach, 0, -1)]
        grams = torch.cat((*before, ids), dim=-1)  # (batch, length, reach + 1)
        embedded = 0.0
        for order, table in zip(self.orders, self.tables, strict=True):
            gram = grams[..., -order:]
            is_whole = (gram != NONE).all(dim=-1, keepdim=True)
            embedded = embedded + table(hashed(gram, table.num_embeddings)) * is_whole
        return embedded


def hashed(grams: torch.LongTensor, rows: int) -> torch.LongTensor:
    """(…, n) token ids → (…,) rows of a table: a polynomial of the ids modulo a prime, so that order matters."""
    value = torch.zeros_like(grams[..., 0])
    for ids in grams.unbind(dim=-1):
        value = (value * 1_000_003 + ids + 2) % PRIME
    return value % rows
