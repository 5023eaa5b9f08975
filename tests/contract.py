"""The contract of every attention type, as checks of a model."""

import torch
from builders import SIZES, left_padded, random_tokens
from torch import nn
from transformers import DynamicCache


def check_causality(model, length: int, position: int) -> None:
    """Another token at `position` changes logits at and after it, and no logits before it."""
    tokens = random_tokens(2, length)
    changed = tokens.clone()
    changed[:, position] = 2 + (changed[:, position] - 1) % (SIZES["vocab_size"] - 2)
    with torch.no_grad():
        before, after = model(tokens).logits, model(changed).logits
    torch.testing.assert_close(after[:, :position], before[:, :position], rtol=0, atol=1e-12)
    assert (after[:, position:] - before[:, position:]).abs().max() > 1e-4


def check_prefix(model, length: int) -> None:
    """The first tokens of a row have the same logits with and without the rest of the row."""
    tokens = random_tokens(2, 16)
    with torch.no_grad():
        whole, prefix = model(tokens).logits, model(tokens[:, :length]).logits
    torch.testing.assert_close(prefix, whole[:, :length], rtol=0, atol=1e-10)


def check_decoding(model, chunks: list[int], padding: int, atol: float) -> None:
    """Chunk by chunk with a cache, a row has the same logits as in one pass, with left padding or without a mask."""
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


def check_given_positions(model, positions: torch.Tensor) -> None:
    """At any increasing (16,) positions, a model is causal and continues from a cache."""
    tokens, positions = random_tokens(2, 16), positions[None]
    changed = tokens.clone()
    changed[:, 9] = 2 + (changed[:, 9] - 1) % (SIZES["vocab_size"] - 2)
    cache, parts = DynamicCache(config=model.config), []
    with torch.no_grad():
        whole = model(tokens, position_ids=positions, use_cache=False).logits
        after = model(changed, position_ids=positions, use_cache=False).logits
        for chunk, its_positions in zip(tokens.split([5, 1, 10], 1), positions.split([5, 1, 10], 1), strict=True):
            parts.append(model(chunk, position_ids=its_positions, past_key_values=cache).logits)
    torch.testing.assert_close(after[:, :9], whole[:, :9], rtol=0, atol=1e-12)
    assert (after[:, 9] - whole[:, 9]).abs().max() > 1e-4
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-10)


def check_positions_that_count_padding(model) -> None:
    """A row behind padding whose positions count the padding is the same row at these positions."""
    tokens, mask = left_padded([random_tokens(1, 16)[0], random_tokens(1, 12)[0]], 16)
    positions = torch.arange(16)[None]
    with torch.no_grad():
        padded = model(tokens, attention_mask=mask, position_ids=positions).logits
        alone = model(tokens[1:, 4:], position_ids=positions[:, 4:]).logits
    torch.testing.assert_close(padded[1:, 4:], alone, rtol=0, atol=1e-10)


def check_padding_on_the_right(model, padding: int) -> None:
    """Padding after a row changes none of its logits."""
    tokens = random_tokens(1, 13)
    padded = nn.functional.pad(tokens, (0, padding))
    mask = nn.functional.pad(torch.ones_like(tokens), (0, padding))
    with torch.no_grad():
        logits = model(padded, attention_mask=mask).logits[:, :13]
        torch.testing.assert_close(logits, model(tokens).logits, rtol=0, atol=1e-10)


def check_generation(model, **settings) -> None:
    """Each row of a left-padded batch generates the same as without the other rows."""
    rows = [random_tokens(1, 4)[0], random_tokens(1, 11, seed=3)[0]]
    settings = {"max_new_tokens": 7, "eos_token_id": None, "pad_token_id": 0, "do_sample": False} | settings
    tokens, mask = left_padded(rows, 11)
    together = model.generate(tokens, attention_mask=mask, **settings)
    for generated, row in zip(together, rows, strict=True):
        alone = model.generate(row[None], attention_mask=torch.ones_like(row)[None], **settings)
        assert generated[11:].tolist() == alone[0, len(row) :].tolist()


def check_branches(model) -> None:
    """A branch has the same logits as the prefix with only this branch."""
    prefix, first, second = random_tokens(1, 6), random_tokens(1, 5, seed=5), random_tokens(1, 4, seed=6)
    tokens = torch.cat((prefix, first, second), dim=1)
    positions = torch.tensor([[*range(6), *range(6, 11), *range(6, 10)]])
    branches = torch.tensor([[0] * 6 + [1] * 5 + [2] * 4])
    with torch.no_grad():
        logits = model(tokens, position_ids=positions, branch_ids=branches).logits
        for branch, rows in ((first, slice(6, 11)), (second, slice(11, 15))):
            alone = model(torch.cat((prefix, branch), dim=1), use_cache=False).logits
            torch.testing.assert_close(logits[:, :6], alone[:, :6], rtol=0, atol=1e-10)
            torch.testing.assert_close(logits[:, rows], alone[:, 6:], rtol=0, atol=1e-10)


def check_saving(model, folder) -> None:
    """Every weight, buffer and logit is the same, bit for bit, after saving and loading."""
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


def check_shown_weights(model, keys: int) -> None:
    """Weights are returned only under eager attention, and sum to one."""
    tokens = random_tokens(2, 19)
    assert model(tokens, output_attentions=True).attentions == ()
    model.set_attn_implementation("eager")
    weights = model(tokens, output_attentions=True).attentions[0]
    assert weights.shape == (2, model.config.num_attention_heads, 19, keys)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]), rtol=0, atol=1e-12)
