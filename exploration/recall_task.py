"""Multi-query associative recall (Arora et al., Zoology, 2312.04927): k₁ v₁ … k_p v_p, then each key once more."""

import torch

from birthgpt.data.objectives.base import IGNORE
from exploration.head import seeded
from exploration.training import Batch


def recall_batch(rows: int, pairs: int, symbols: int, seed: int) -> Batch:
    """Rows of pairs with different keys, then of all keys in another order, each with its value as the target.

    Keys are the tokens 0 … symbols − 1, values the tokens symbols … 2·symbols − 1.

    Returns:
        `input_ids` and `shift_labels`, (rows, 4·pairs).
    """
    generator = seeded(seed)
    keys = torch.rand(rows, symbols, generator=generator).argsort(dim=1)[:, :pairs]
    values = symbols + torch.randint(symbols, (rows, pairs), generator=generator)
    order = torch.rand(rows, pairs, generator=generator).argsort(dim=1)
    asked, answers = keys.gather(1, order), values.gather(1, order)
    told = torch.stack((keys, values), dim=2).flatten(1)
    ids = torch.cat((told, torch.stack((asked, answers), dim=2).flatten(1)), dim=1)
    labels = torch.full_like(ids, IGNORE)
    labels[:, 2 * pairs :: 2] = answers
    return {"input_ids": ids, "shift_labels": labels}
