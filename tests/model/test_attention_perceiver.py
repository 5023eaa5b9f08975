"""Perceiver: both kinds against their definition, what each token sees, and what decoding keeps."""

import pytest
import torch
from builders import case_config, case_model, left_padded, random_tokens
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache

from birthgpt import BirthGPTForCausalLM
from birthgpt.model import attention_perceiver

KINDS = ["segments", "cs224n"]
# five latents for at most 15 tokens: segments of three tokens
SHORT = {"perceiver_bottleneck": 5, "max_position_embeddings": 15}
ROTARY = {"position_embedding_type": "rotary"}


def short_model(kind: str, implementation: str = "sdpa", **settings) -> BirthGPTForCausalLM:
    model = case_model("perceiver", perceiver_kind=kind, **SHORT | {"num_hidden_layers": 4} | settings)
    model.set_attn_implementation(implementation)
    return model


def ask(attention, asking: torch.Tensor, answering: list[torch.Tensor]) -> torch.Tensor:
    """Multi-head attention of one normalised vector to a list of normalised vectors, head by head."""
    answers = torch.stack(answering)
    width, mixed = attention.config.head_dim, []
    for head in range(attention.config.num_attention_heads):
        rows = slice(head * width, (head + 1) * width)
        query = attention.projections.q_proj(asking)[rows]
        scores = torch.stack([query @ key for key in attention.projections.k_proj(answers)[:, rows]]) / width**0.5
        mixed.append(scores.softmax(0) @ attention.projections.v_proj(answers)[:, rows])
    return attention.projections.o_proj(torch.cat(mixed))


def add(block, residual: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
    state = residual + mixed
    return state + block.mlp.down_proj(F.gelu(block.mlp.up_proj(block.mlp_norm(state))))


def logits_by_definition(model, tokens: torch.Tensor, kind: str, latents: int, segment: int) -> torch.Tensor:
    """(length,) tokens → (length, vocab_size), one latent and one token at a time."""
    decoder = model.model
    first, *between, last = decoder.layers
    x = decoder.embed_tokens(tokens) + decoder.embed_positions(torch.arange(len(tokens)))
    covered = [range((j + 1) * segment) for j in range(latents)]
    finished = [j for j in range(latents) if covered[j][-1] < len(tokens)]

    y = {}
    for j in finished:
        start = first.attention.basis.weight[j]
        seen = [first.attention.context_norm(x[i]) for i in covered[j]]
        y[j] = add(first, start, ask(first.attention, first.attention.attention_norm(start), seen))
    for block in between:
        normed = {j: block.attention.attention_norm(y[j]) for j in finished}
        seen = {j: [normed[i] for i in finished if i <= j] for j in finished}
        y = {j: add(block, y[j], ask(block.attention, normed[j], seen[j])) for j in finished}
    states = []
    for t in range(len(tokens)):
        done = [j for j in finished if covered[j][-1] <= t]
        seen = [last.attention.context_norm(y[j]) for j in done]
        if kind == "segments":
            open_tokens = [i for i in range(t + 1) if i == t or not any(i in covered[j] for j in done)]
            seen += [last.attention.attention_norm(x[i]) for i in open_tokens]
        states.append(add(last, x[t], ask(last.attention, last.attention.attention_norm(x[t]), seen)))
    return model.lm_head(decoder.norm(torch.stack(states)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [2, 9, 14])
def test_logits_and_gradients_are_those_of_the_definition(kind, length):
    model, tokens = short_model(kind), random_tokens(1, length)[0]
    segment = 3 if kind == "segments" else 1
    gradients = []
    for logits in (model(tokens[None]).logits[0], logits_by_definition(model, tokens, kind, 5, segment)):
        gradients.append(torch.autograd.grad(logits.square().sum(), model.parameters(), allow_unused=True))
        if len(gradients) == 1:
            ours = logits
    torch.testing.assert_close(ours, logits, rtol=0, atol=1e-10)
    for mine, theirs in zip(*gradients, strict=True):
        theirs = torch.zeros_like(mine) if theirs is None else theirs
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def as_torch(attention) -> nn.MultiheadAttention:
    reference = nn.MultiheadAttention(
        attention.projections.q_proj.in_features, attention.config.num_attention_heads, batch_first=True
    ).double()
    with torch.no_grad():
        projections = (attention.projections.q_proj, attention.projections.k_proj, attention.projections.v_proj)
        reference.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        reference.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
        reference.out_proj.load_state_dict(attention.projections.o_proj.state_dict())
    return reference


@pytest.mark.parametrize("length", [3, 5, 13])
def test_the_assignments_form_equals_multihead_attention_under_triangular_masks(length):
    model, tokens = short_model("cs224n"), random_tokens(3, length)
    decoder = model.model

    def attend(block, asking, answering):
        # by index, over all five latents, for any number of tokens; in torch, True is blocked
        blocked = torch.ones(asking.shape[1], answering.shape[1], dtype=torch.bool).triu(1)
        return as_torch(block.attention)(asking, answering, answering, attn_mask=blocked)[0]

    with torch.no_grad():
        first, *between, last = decoder.layers
        x = decoder.embed_tokens(tokens) + decoder.embed_positions.weight[:length]
        y = first.attention.basis.weight.expand(3, -1, -1)
        y = y + attend(first, first.attention.attention_norm(y), first.attention.context_norm(x))
        y = y + first.mlp(first.mlp_norm(y))
        for block in between:
            normed = block.attention.attention_norm(y)
            y = y + attend(block, normed, normed)
            y = y + block.mlp(block.mlp_norm(y))
        x = x + attend(last, last.attention.attention_norm(x), last.attention.context_norm(y))
        x = x + last.mlp(last.mlp_norm(x))
        torch.testing.assert_close(model(tokens).logits, model.lm_head(decoder.norm(x)), rtol=0, atol=1e-10)


def reach(model, length: int) -> torch.Tensor:
    """(length, length): how strongly each token's output depends on each token's embedding."""
    embedded = model.model.embed_tokens(random_tokens(1, length)).detach().requires_grad_()
    states = model(inputs_embeds=embedded, use_cache=False).logits[0]
    weights = torch.randn(states.shape[-1], dtype=states.dtype, generator=torch.Generator().manual_seed(2))
    rows = [torch.autograd.grad(state @ weights, embedded, retain_graph=True)[0][0].norm(dim=-1) for state in states]
    return torch.stack(rows)


@pytest.mark.parametrize("settings", [{}, ROTARY, {"num_hidden_layers": 2}, {"canon_width": 3}], ids=str)
def test_in_segments_every_token_sees_all_of_its_past(settings):
    strength = reach(short_model("segments", **settings), 15)
    past = torch.ones(15, 15, dtype=torch.bool).tril()
    assert strength[past].min() > 1e-8
    assert strength[~past].max() == 0


@pytest.mark.parametrize("settings", [{}, ROTARY], ids=str)
def test_in_the_assignments_form_a_token_behind_the_latents_is_blind_for_what_lies_between(settings):
    strength = reach(short_model("cs224n", **settings), 15)
    seen = torch.ones(15, 15, dtype=torch.bool).tril()
    seen[:, 5:] = torch.eye(15, dtype=torch.bool)[:, 5:]
    assert strength[seen].min() > 1e-8
    assert strength[~seen].max() == 0


def test_attention_weights_show_who_is_asked():
    model = short_model("segments", "eager")
    with torch.no_grad():
        first, *_, between, last = model(random_tokens(2, 14), output_attentions=True).attentions
    # four latents are finished; the 15th token would finish the fifth
    assert [weights.shape for weights in (first, between, last)] == [(2, 2, 4, 14), (2, 2, 4, 4), (2, 2, 14, 4 + 14)]
    ends = torch.tensor([2, 5, 8, 11])
    tokens = torch.arange(14)
    near = (tokens <= tokens[:, None]) & ((tokens >= (tokens[:, None] + 1) // 3 * 3) | (tokens == tokens[:, None]))
    for weights, seen in (
        (first, tokens <= ends[:, None]),
        (between, ends <= ends[:, None]),
        (last, torch.cat((ends <= tokens[:, None], near), dim=1)),
    ):
        assert weights[..., seen].min() > 0 and weights[..., ~seen].max() == 0
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


PADDED = torch.tensor([[1] * 13, [0] * 5 + [1] * 8, [1] * 8 + [0] * 5, [1] * 4 + [0] * 5 + [1] * 4])


@pytest.mark.parametrize("settings", [{}, ROTARY, {"perceiver_bottleneck": 2}], ids=str)
@pytest.mark.parametrize("chunks", [[13], [3, 10], [9, 4]], ids=str)
@pytest.mark.parametrize("padded", [False, True])
def test_tokens_that_ask_in_parts_get_what_they_get_together(monkeypatch, settings, chunks, padded):
    monkeypatch.setattr(attention_perceiver, "QUERIES_AT_ONCE", 4)
    tokens, mask = random_tokens(4, 13), PADDED if padded else torch.ones_like(PADDED)
    results = []
    for implementation in ("sdpa", "eager"):
        model = short_model("segments", implementation, **settings)
        cache, logits, end = DynamicCache(config=model.config), [], 0
        for size in chunks:
            chunk, end = tokens[:, end : end + size], end + size
            attention_mask = mask[:, :end] if padded else None
            logits.append(model(chunk, attention_mask=attention_mask, past_key_values=cache).logits)
        logits = torch.cat(logits, dim=1)[mask.bool()]
        gradients = torch.autograd.grad(logits.square().sum(), model.parameters())
        results.append((logits, *gradients))
    for in_parts, together in zip(*results, strict=True):
        torch.testing.assert_close(in_parts, together, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("chunks", [[13], [4] * 4, [1] * 13, [2, 9, 2]], ids=str)
def test_padding_anywhere_changes_nothing_even_where_a_row_has_nothing_else_yet(kind, implementation, chunks):
    model, tokens = short_model(kind, implementation), random_tokens(5, 13)
    mask = torch.cat((PADDED, torch.tensor([[0] * 11 + [1] * 2])))
    cache, logits, end = DynamicCache(config=model.config), [], 0
    with torch.no_grad():
        for size in chunks:
            chunk, seen = tokens[:, end : end + size], mask[:, : end + size]
            logits.append(model(chunk, attention_mask=seen, past_key_values=cache).logits)
            end += size
        logits = torch.cat(logits, dim=1)
        assert logits.isfinite().all()
        for row, its_mask, its_logits in zip(tokens, mask.bool(), logits, strict=True):
            alone = model(row[its_mask][None], use_cache=False).logits[0]
            torch.testing.assert_close(its_logits[its_mask], alone, rtol=0, atol=1e-10)


def test_decoding_computes_a_latent_when_its_segment_completes_and_keeps_it():
    model = short_model("segments")
    cache, kept = DynamicCache(config=model.config), None
    for t, token in enumerate(random_tokens(1, 15)[0]):
        with torch.no_grad():
            outputs = model(token[None, None], past_key_values=cache, output_hidden_states=True)
        finished = (t + 1) // 3
        first, *_, between, last = (layer.states for layer in cache.layers)
        assert outputs.hidden_states[-1].shape == (1, 1, 16)
        if t:
            assert outputs.hidden_states[1].shape[1] == ((t + 1) % 3 == 0)
        assert first["keys"].shape[2] == t + 1
        assert last["open_keys"].shape[2] == min(t + 1, 2)
        for states in (between, last):
            assert states["keys"].shape[2] == max(1, finished)
        if kept is not None:
            assert torch.equal(between["keys"][:, :, : kept.shape[2]], kept)
        kept = between["keys"][:, :, :finished]


def test_every_parameter_takes_part_where_no_segment_completes():
    # in distributed training, processes wait for the gradients of all parameters
    model, tokens = short_model("segments").train(), random_tokens(2, 2)
    model(tokens, labels=tokens).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.model.layers[0].attention.basis.weight.grad.abs().max() == 0


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_more_tokens_than_the_segments_cover_are_an_error_and_padding_is_not(implementation):
    model = short_model("segments", implementation, max_position_embeddings=13, **ROTARY)
    rows = [random_tokens(1, 15)[0], random_tokens(1, 4, seed=2)[0]]
    tokens, mask = left_padded(rows, 19)
    with torch.no_grad():
        logits = model(tokens, attention_mask=mask).logits
        for row, its_logits in zip(rows, logits, strict=True):
            torch.testing.assert_close(its_logits[-len(row) :], model(row[None]).logits[0], rtol=0, atol=1e-10)
        too_long = "16 tokens .* 5 segments of 3 tokens.*max_position_embeddings=13"
        with pytest.raises(ValueError, match=too_long):
            model(random_tokens(1, 16))
        cache = model(random_tokens(1, 15)).past_key_values
        with pytest.raises(ValueError, match=too_long):
            model(random_tokens(1, 1), past_key_values=cache)


def test_the_assignments_form_takes_any_length():
    model = short_model("cs224n", **ROTARY)
    with torch.no_grad():
        assert model(random_tokens(1, 40)).logits.isfinite().all()


def test_an_implementation_without_masks_is_an_error():
    model = short_model("segments")
    model.config._attn_implementation = "flex_attention"
    with pytest.raises(ValueError, match="flex_attention.*sdpa or eager"):
        model(random_tokens(1, 4))


def test_the_basis_is_drawn_by_xaviers_rule():
    torch.manual_seed(0)
    basis = BirthGPTForCausalLM(case_config("perceiver", perceiver_bottleneck=48)).model.layers[0].attention.basis
    bound = (6 / (48 + 16)) ** 0.5
    assert basis.weight.abs().max() <= bound
    assert basis.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_on_the_weights_is_honoured(kind):
    model, tokens = short_model(kind, attention_dropout=0.5).train(), random_tokens(1, 9)
    assert not torch.equal(model(tokens).logits, model(tokens).logits)
    model.eval()
    assert torch.equal(model(tokens).logits, model(tokens).logits)
