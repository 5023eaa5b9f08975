"""Embeddings of n-grams, which are added to the token embeddings before the first layer."""

import torch
from torch import nn
from transformers.cache_utils import Cache

from .cache import layer_state
from .configuration_base import BaseConfig
from .predecessors import shift_back, with_past
from .settings import setting

NO_TOKEN = -1
PRIME = 2**31 - 1


class NgramConfig(BaseConfig):
    """The settings of the n-gram embeddings."""

    ngram_orders: list[int] | None = setting(
        None, "lengths of the n-grams that have embeddings of their own, such as 2 3 (2501.16975)", max=100
    )
    ngram_vocab_size: int = setting(
        32768, "rows in the table of each order; n-grams with the same hash share a row", min=1
    )

    ngram_special_token_ids: list[int] | None = setting(
        None, "tokens that are not text, and so not in an n-gram; by default padding, beginning and end",
        on_command_line=False,
    )  # fmt: skip

    def __post_init__(self, **kwargs):
        self.ngram_orders = self.ngram_orders or []
        if self.ngram_special_token_ids is None:
            # saved with the model: others may change the special tokens of a model that is trained
            ends = self.eos_token_id if isinstance(self.eos_token_id, list) else [self.eos_token_id]
            special = (self.pad_token_id, self.bos_token_id, *ends)
            self.ngram_special_token_ids = [token for token in dict.fromkeys(special) if token is not None]
        super().__post_init__(**kwargs)

    def validate_ngram_orders(self):
        """Check that an n-gram has at least two tokens, and that each order has one table."""
        orders = self.ngram_orders or []
        if any(order < 2 for order in orders) or len(set(orders)) < len(orders):
            raise ValueError(f"ngram_orders={orders}: give different lengths of at least 2, such as [2, 3]")


class NgramEmbedding(nn.Module):
    """Σ_n E_n[hash(x_{t−n+1}, …, x_t)] over the orders n (hashed n-gram embeddings: Huang et al., 2501.16975).

    Different names share tokens, but rarely pairs and triples of tokens. So each person has its own vectors, at no cost
    in FLOPs. N-grams with the same hash share a vector. An n-gram that starts before the first token, or contains
    padding or a special token, has no vector. The last tokens of the prefix are before the first token of a branch.
    """

    def __init__(self, config: NgramConfig):
        super().__init__()
        assert config.ngram_orders, "the model builds it only if there are orders"
        self.orders = config.ngram_orders
        self.history = max(self.orders) - 1
        assert config.ngram_special_token_ids is not None, "the configuration fills them in"
        self.special_ids = config.ngram_special_token_ids
        self.rows = config.ngram_vocab_size
        self.tables = nn.ModuleList(nn.Embedding(config.ngram_vocab_size, config.hidden_size) for _ in self.orders)

    def forward(
        self,
        input_ids: torch.Tensor,
        *,
        token_mask: torch.Tensor | None = None,
        branch_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
    ) -> torch.Tensor:
        """(batch, length) → (batch, length, hidden_size)."""
        # the products of the hash need 64 bits
        ids = input_ids[..., None].long()
        for special_id in self.special_ids:
            ids = ids.masked_fill(ids == special_id, NO_TOKEN)
        # the tokens before these are in the cache of the first layer
        cache = layer_state(past_key_values, 0)
        tokens, previous = with_past(
            ids, NO_TOKEN, self.history, token_mask=token_mask, branch_ids=branch_ids, cache=cache, name="ngrams"
        )  # (batch, history + length, 1)
        before = [
            shift_back(tokens, previous, distance, self.history)[:, -ids.shape[1] :]
            for distance in range(self.history, 0, -1)
        ]
        grams = torch.cat((*before, ids), dim=-1)  # (batch, length, history + 1)
        embedded = torch.zeros((), device=input_ids.device)
        for order, table in zip(self.orders, self.tables, strict=True):
            gram = grams[..., -order:]
            is_whole = (gram != NO_TOKEN).all(dim=-1, keepdim=True)
            embedded = embedded + table(hash_ngrams(gram, self.rows)) * is_whole
        return embedded


def hash_ngrams(grams: torch.Tensor, rows: int) -> torch.Tensor:
    """(…, n) token ids → (…,) rows of a table: a polynomial of the ids in order, modulo a prime."""
    value = torch.zeros_like(grams[..., 0])
    for ids in grams.unbind(dim=-1):
        value = (value * 1_000_003 + ids + 2) % PRIME
    return value % rows
