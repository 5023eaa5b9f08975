"""Every attention type in every mode, as tiny configurations, and the contract that each of them keeps."""

from contextlib import contextmanager

import torch
from torch import nn
from transformers import DynamicCache

from birthgpt import BirthGPTConfig, BirthGPTForCausalLM
from birthgpt.model.attention_types import ATTENTION_TYPES

# blocks of 4 tokens, so that 16 tokens are four blocks
SIZES = {
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    # large enough that what a token changes is far above rounding
    "initializer_range": 0.3,
    "sliding_window": 5,
    "linformer_block": 4,
    "linformer_window": 8,
    "linformer_summaries": 2,
    "bigbird_block": 4,
    "perceiver_bottleneck": 16,
    "performer_features": 16,
    "performer_chunk": 4,
    "deltanet_chunk": 4,
}
ROTARY = {"position_embedding_type": "rotary", "norm_type": "rmsnorm", "qk_norm": True}

# a type is tested by being registered; its further modes are listed here
CASES: dict[str, dict] = {
    **{name: {} for name in ATTENTION_TYPES},
    **{f"{name}-rotary": ROTARY for name in ATTENTION_TYPES},
    **{f"{name}-canon": {"canon_width": 4} for name in ATTENTION_TYPES},
    **{f"{name}-ngrams": {"ngram_orders": [2, 3], "ngram_vocab_size": 50} for name in ATTENTION_TYPES},
    # of small scores: sums of estimates that may be negative are ill-conditioned elsewhere
    "performer-trigonometric": {"performer_kind": "trigonometric", "initializer_range": 0.1},
    "performer-relu": {"performer_kind": "relu"},
    "performer-independent": {"performer_orthogonal": False, **ROTARY},
    "bigbird-dense": {"bigbird_implementation": "dense"},
    "bigbird-window-only": {"bigbird_global": 0, "bigbird_random": 0},
    "bigbird-sparse-rotary": ROTARY | {"bigbird_window": 1, "bigbird_random": 2, "bigbird_block": 2},
    "perceiver-assignment": {"perceiver_kind": "assignment"},
    "perceiver-assignment-blind": {"perceiver_kind": "assignment", "perceiver_bottleneck": 5, **ROTARY},
    "perceiver-long-stretches": {"perceiver_bottleneck": 9, "num_hidden_layers": 4, **ROTARY},
    "perceiver-two-layers": {"perceiver_bottleneck": 64, "num_hidden_layers": 2},
    "synthesizer-random": {"synthesizer_kind": "random"},
    "synthesizer-fixed-random": {"synthesizer_kind": "fixed_random"},
    # 64 positions are 10 blocks of 7 scores, the last one short
    "synthesizer-factorized-dense": {"synthesizer_kind": "factorized_dense", "synthesizer_rank": 10},
    "synthesizer-factorized-random": {"synthesizer_kind": "factorized_random", "synthesizer_rank": 3, **ROTARY},
    "synthesizer-plus": {"synthesizer_mixture": "plus"},
    "synthesizer-alpha": {"synthesizer_mixture": "alpha", "synthesizer_kind": "random", **ROTARY},
    "linformer-own-block-only": ROTARY | {"linformer_window": 4},
    "linformer-abc": {"linformer_kind": "abc"},
    "linformer-abc-position": ROTARY | {"linformer_kind": "abc", "linformer_weights": "position"},
    "gated_deltanet-hybrid": {"attention_type": ["gated_deltanet", "sliding_softmax", "gated_deltanet"]},
    "gated_deltanet-one-chunk": {"deltanet_chunk": 64, "attention_bias": False},
    "hybrid": {"attention_type": ["softmax", "sliding_softmax", "softmax"]},
}


def case_config(case: str, **settings) -> BirthGPTConfig:
    """The configuration of a case; its type is what stands before the first hyphen."""
    settings = SIZES | {"attention_type": case.split("-")[0]} | CASES.get(case, {}) | settings
    return BirthGPTConfig(**settings)


def case_model(case: str, dtype: torch.dtype = torch.float64, **settings) -> BirthGPTForCausalLM:
    """A seeded model of a case in eval mode, with position vectors that are not zero."""
    torch.manual_seed(0)
    model = BirthGPTForCausalLM(case_config(case, **settings)).to(dtype).eval()
    if model.config.position_embedding_type == "learned":
        nn.init.normal_(model.model.embed_positions.weight, std=0.3)
    return model


def random_tokens(batch: int, length: int, seed: int = 1) -> torch.Tensor:
    """(batch, length) ordinary tokens."""
    return torch.randint(2, SIZES["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(seed))


def left_padded(rows: list[torch.Tensor], length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens as one (batch, length) batch, padded on the left, and its mask."""
    tokens = torch.stack([nn.functional.pad(row, (length - len(row), 0)) for row in rows])
    mask = torch.stack([nn.functional.pad(torch.ones_like(row), (length - len(row), 0)) for row in rows])
    return tokens, mask


def check_causality(model, length: int, position: int) -> None:
    """Another token at `position` changes nothing before it, and something from there on."""
    tokens = random_tokens(2, length)
    changed = tokens.clone()
    changed[:, position] = 2 + (changed[:, position] - 1) % (SIZES["vocab_size"] - 2)
    with torch.no_grad():
        before, after = model(tokens).logits, model(changed).logits
    torch.testing.assert_close(after[:, :position], before[:, :position], rtol=0, atol=1e-12)
    assert (after[:, position:] - before[:, position:]).abs().max() > 1e-4


def check_prefix(model, length: int) -> None:
    """A prefix alone gives what it gives within the whole."""
    tokens = random_tokens(2, 16)
    with torch.no_grad():
        whole, prefix = model(tokens).logits, model(tokens[:, :length]).logits
    torch.testing.assert_close(prefix, whole[:, :length], rtol=0, atol=1e-10)


def check_decoding(model, chunks: list[int], padding: int, atol: float) -> None:
    """Chunk by chunk with a cache, behind left padding or without a mask, a row gives what it gives in one pass."""
    rows = [random_tokens(1, sum(chunks), seed=1)[0], random_tokens(1, sum(chunks) - 3, seed=2)[0]]
    tokens, mask = left_padded(rows, sum(chunks) + padding)
    cache, logits, end = DynamicCache(config=model.config), [], 0
    with torch.no_grad():
        for size in [padding + chunks[0], *chunks[1:]]:
            chunk, end = tokens[:, end : end + size], end + size
            logits.append(model(chunk, attention_mask=mask[:, :end], past_key_values=cache).logits)
        assert cache.get_seq_length() == end
        logits = torch.cat(logits, dim=1)
        for row, its_logits in zip(rows, logits, strict=True):
            alone = model(row[None], use_cache=False).logits[0]
            torch.testing.assert_close(its_logits[-len(row) :], alone, rtol=0, atol=atol)
        cache = DynamicCache(config=model.config)
        parts = [model(chunk[None], past_key_values=cache).logits[0] for chunk in rows[0].split(chunks)]
        whole = model(rows[0][None], use_cache=False).logits[0]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=atol)


def check_padding_on_the_right(model, padding: int) -> None:
    """Padding behind a row changes none of its logits."""
    tokens = random_tokens(1, 13)
    padded = nn.functional.pad(tokens, (0, padding))
    mask = nn.functional.pad(torch.ones_like(tokens), (0, padding))
    with torch.no_grad():
        logits = model(padded, attention_mask=mask).logits[:, :13]
        torch.testing.assert_close(logits, model(tokens).logits, rtol=0, atol=1e-10)


def check_generation(model, **settings) -> None:
    """A left-padded batch generates what its rows generate alone."""
    rows = [random_tokens(1, 4)[0], random_tokens(1, 11, seed=3)[0]]
    settings = {"max_new_tokens": 7, "eos_token_id": None, "pad_token_id": 0, "do_sample": False} | settings
    tokens, mask = left_padded(rows, 11)
    together = model.generate(tokens, attention_mask=mask, **settings)
    for generated, row in zip(together, rows, strict=True):
        alone = model.generate(row[None], attention_mask=torch.ones_like(row)[None], **settings)
        assert generated[11:].tolist() == alone[0, len(row) :].tolist()


def check_branches(model) -> None:
    """With branches, each gives what the stem with that branch alone gives."""
    stem, first, second = random_tokens(1, 6), random_tokens(1, 5, seed=5), random_tokens(1, 4, seed=6)
    tokens = torch.cat((stem, first, second), dim=1)
    positions = torch.tensor([[*range(6), *range(6, 11), *range(6, 10)]])
    branches = torch.tensor([[0] * 6 + [1] * 5 + [2] * 4])
    with torch.no_grad():
        logits = model(tokens, position_ids=positions, branch_ids=branches).logits
        for branch, rows in ((first, slice(6, 11)), (second, slice(11, 15))):
            alone = model(torch.cat((stem, branch), dim=1), use_cache=False).logits
            torch.testing.assert_close(logits[:, :6], alone[:, :6], rtol=0, atol=1e-10)
            torch.testing.assert_close(logits[:, rows], alone[:, 6:], rtol=0, atol=1e-10)


def check_saving(model, folder) -> None:
    """Every weight, buffer and logit comes back bit for bit, through a construction without memory."""
    tokens = random_tokens(2, 16)
    model.save_pretrained(folder)
    loaded, report = type(model).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    before, after = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (model, loaded))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    assert not [name for name, _ in model.named_buffers() if name not in model.state_dict()]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, loaded.eval()(tokens).logits)


@contextmanager
def registered(name: str, attention_class: type):
    """An attention type for as long as a test runs."""
    ATTENTION_TYPES[name] = attention_class
    try:
        yield
    finally:
        del ATTENTION_TYPES[name]
