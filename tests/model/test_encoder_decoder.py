"""The encoder–decoder, for every attention type in either stack: the contract of a sequence-to-sequence model."""

import pytest
import torch
from builders import (
    CASES,
    QUESTION,
    ROTARY,
    START,
    is_bidirectional,
    left_padded,
    random_tokens,
    seq2seq_config,
    seq2seq_model,
)
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    DynamicCache,
    EncoderDecoderCache,
    T5Config,
    T5ForConditionalGeneration,
    pipeline,
)

from birthgpt import (
    BirthGPTEncoder,
    BirthGPTForCausalLM,
    BirthGPTForConditionalGeneration,
)
from birthgpt.model.attention import ATTENTION_TYPES

cases = pytest.mark.parametrize("case", CASES)
types = pytest.mark.parametrize("case", ATTENTION_TYPES)


def new_cache(model) -> EncoderDecoderCache:
    return EncoderDecoderCache(DynamicCache(config=model.config), DynamicCache())


def logits_of(model, tokens, targets, **arguments) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens, decoder_input_ids=targets, **{"use_cache": False, **arguments}).logits


# one model, two stacks


@cases
def test_the_decoder_is_causal_and_sees_the_whole_input(case):
    model, tokens, targets = seq2seq_model(case), random_tokens(2, 9), random_tokens(2, 12, seed=5)
    logits = logits_of(model, tokens, targets)
    changed = targets.clone()
    changed[:, 7] = 2 + (changed[:, 7] - 1) % 22
    after = logits_of(model, tokens, changed)
    torch.testing.assert_close(after[:, :7], logits[:, :7], rtol=0, atol=1e-12)
    assert (after[:, 7:] - logits[:, 7:]).abs().max() > 1e-4
    for position in (0, 8):
        changed = tokens.clone()
        changed[:, position] = 2 + (changed[:, position] - 1) % 22
        assert ((logits_of(model, changed, targets) - logits).abs().amax(dim=-1) > 1e-7).all()


@cases
def test_decoding_with_a_cache_equals_the_full_forward(case):
    model, targets = seq2seq_model(case), random_tokens(2, 14, seed=5)
    tokens, mask = left_padded([random_tokens(1, 9)[0], random_tokens(1, 6, seed=3)[0]], 9)
    whole = logits_of(model, tokens, targets, attention_mask=mask)
    for chunks in ([1] * 14, [5, 1, 8], [14]):
        cache, parts = new_cache(model), []
        for part in targets.split(chunks, dim=1):
            parts.append(logits_of(model, tokens, part, attention_mask=mask, past_key_values=cache))
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-10)
        assert cache.get_seq_length() == 14
    # from a filled cache, the input is not needed
    cache = new_cache(model)
    logits_of(model, tokens, targets[:, :9], attention_mask=mask, past_key_values=cache)
    rest = logits_of(model, None, targets[:, 9:], attention_mask=mask, past_key_values=cache)
    torch.testing.assert_close(rest, whole[:, 9:], rtol=0, atol=1e-10)


@cases
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("decoder_side", ["left", "right"])
def test_padding_on_either_side_of_either_sequence_changes_nothing(case, side, decoder_side):
    model = seq2seq_model(case)
    rows = [(random_tokens(1, 11), random_tokens(1, 8, seed=2)), (random_tokens(1, 6, seed=3), random_tokens(1, 5))]

    def batch(sequences, side):
        size = max(row.shape[1] for row in sequences) + 2
        pads = [(size - row.shape[1], 0) if side == "left" else (0, size - row.shape[1]) for row in sequences]
        padded = [nn.functional.pad(row, pad) for row, pad in zip(sequences, pads, strict=True)]
        masks = [nn.functional.pad(torch.ones_like(row), pad) for row, pad in zip(sequences, pads, strict=True)]
        return torch.cat(padded), torch.cat(masks)

    tokens, mask = batch([row for row, _ in rows], side)
    targets, target_mask = batch([row for _, row in rows], decoder_side)
    logits = logits_of(model, tokens, targets, attention_mask=mask, decoder_attention_mask=target_mask)
    for index, (row, target) in enumerate(rows):
        alone = logits_of(model, row, target)[0]
        torch.testing.assert_close(logits[index][target_mask[index].bool()], alone, rtol=0, atol=1e-10)


@cases
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True, "temperature": 1e-4, "top_k": 0}])
def test_a_padded_batch_generates_what_its_rows_do(case, settings):
    model, rows = seq2seq_model(case), [random_tokens(1, 4)[0], random_tokens(1, 11, seed=3)[0]]
    settings = {"max_new_tokens": 7, "eos_token_id": None, "pad_token_id": 0, "do_sample": False} | settings
    tokens, mask = left_padded(rows, 11)
    together = model.generate(tokens, attention_mask=mask, **settings)
    for generated, row in zip(together, rows, strict=True):
        assert generated.tolist() == model.generate(row[None], **settings)[0].tolist()
    without_cache = model.generate(tokens, attention_mask=mask, use_cache=False, **settings)
    assert torch.equal(together, without_cache)


@types
def test_generation_is_what_the_full_forward_prefers(case):
    model, tokens = seq2seq_model(case), random_tokens(2, 9)
    generated = model.generate(tokens, max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert (generated[:, 0] == START).all()
    assert torch.equal(logits_of(model, tokens, generated[:, :-1]).argmax(dim=-1), generated[:, 1:])


@types
def test_beams_read_the_states_of_their_own_row(case):
    model, tokens = seq2seq_model(case), random_tokens(3, 9)
    settings = {"max_new_tokens": 6, "num_beams": 4, "do_sample": False, "eos_token_id": None}
    out = model.generate(
        tokens, return_dict_in_generate=True, output_scores=True, length_penalty=0.0, num_return_sequences=4, **settings
    )
    rows = tokens.repeat_interleave(4, dim=0)
    scores = logits_of(model, rows, out.sequences[:, :-1]).log_softmax(dim=-1)
    of_sequences = scores.gather(-1, out.sequences[:, 1:, None]).sum(dim=(1, 2))
    torch.testing.assert_close(of_sequences, out.sequences_scores.to(of_sequences), rtol=0, atol=1e-5)


@types
def test_the_outputs_of_the_encoder_are_used_again(case):
    model, tokens, targets = seq2seq_model(case), random_tokens(2, 9), random_tokens(2, 7, seed=5)
    logits, generated = logits_of(model, tokens, targets), model.generate(tokens, max_new_tokens=5, do_sample=False)
    encoder_outputs = model.get_encoder()(tokens)
    # a failure if the encoder runs again
    model.encoder.layers = None
    for given in (encoder_outputs, (encoder_outputs.last_hidden_state,)):
        assert torch.equal(logits_of(model, None, targets, encoder_outputs=given), logits)
    again = model.generate(encoder_outputs=encoder_outputs, max_new_tokens=5, do_sample=False)
    assert torch.equal(again, generated)


@pytest.mark.parametrize("encoder", filter(is_bidirectional, ATTENTION_TYPES))
def test_the_encoder_may_have_another_type_and_depth(encoder, tmp_path):
    model = seq2seq_model("softmax", torch.float32, encoder_attention_type=encoder, num_encoder_layers=2)
    assert len(model.encoder.layers) == 2 and len(model.decoder.layers) == 3
    tokens, targets = random_tokens(2, 9), random_tokens(2, 7, seed=5)
    assert model.generate(tokens, max_new_tokens=3, num_beams=2).shape[0] == 2
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert torch.equal(logits_of(loaded, tokens, targets), logits_of(model, tokens, targets))


def test_per_layer_settings_are_those_of_the_decoder():
    model = seq2seq_model("hybrid-of-two-windows", encoder_attention_type="sliding_softmax")
    assert [layer.layer_config.sliding_window for layer in model.encoder.layers] == [5, 5, 5]
    assert model.decoder.layers[2].layer_config.sliding_window == 3


# training


@cases
def test_every_weight_gets_a_gradient(case):
    model, tokens, targets = seq2seq_model(case), random_tokens(2, 64), random_tokens(2, 64, seed=5)
    model(tokens, labels=targets).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


@types
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_no_gradient(case, reentrant):
    model, tokens, targets = seq2seq_model(case).train(), random_tokens(2, 9), random_tokens(2, 7, seed=5)
    gradients = []
    for checkpointing in (False, True):
        arguments = {"labels": targets}
        if checkpointing:
            # a cache would be read when activations are computed again
            arguments["use_cache"] = True
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model.zero_grad()
        model(tokens, **arguments).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=0, atol=1e-12)


def test_labels_are_shifted_as_t5_shifts_them():
    model = seq2seq_model("softmax")
    labels = random_tokens(2, 7)
    labels[1, 4:] = -100
    t5 = T5ForConditionalGeneration(
        T5Config(d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, vocab_size=24, decoder_start_token_id=START)
    )
    shifted = model.prepare_decoder_input_ids_from_labels(labels)
    assert torch.equal(shifted, t5.prepare_decoder_input_ids_from_labels(labels))
    tokens = random_tokens(2, 9)
    logits = logits_of(model, tokens, shifted)
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    given = {"decoder_input_ids": shifted, "shift_labels": labels}
    keep = {"logits_to_keep": labels != -100}
    for arguments in ({"labels": labels}, given, given | keep, {"labels": labels} | keep):
        with torch.no_grad():
            loss = model(tokens, **arguments).loss
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6, check_dtype=False)


@types
def test_the_positions_that_are_kept_have_the_logits_of_the_whole(case):
    model, tokens, targets = seq2seq_model(case), random_tokens(2, 9), random_tokens(2, 8, seed=5)
    whole, mask = logits_of(model, tokens, targets), torch.arange(2)[:, None] == torch.arange(8) % 3
    torch.testing.assert_close(logits_of(model, tokens, targets, logits_to_keep=mask), whole[mask], rtol=0, atol=1e-12)
    torch.testing.assert_close(logits_of(model, tokens, targets, logits_to_keep=2), whole[:, -2:], rtol=0, atol=1e-12)


# saving


@cases
def test_saving_keeps_every_weight_and_buffer(case, tmp_path):
    model, tokens, targets = seq2seq_model(case, torch.float32), random_tokens(2, 12), random_tokens(2, 9, seed=5)
    model.save_pretrained(tmp_path)
    loaded, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert isinstance(loaded, BirthGPTForConditionalGeneration)
    before, after = (dict([*m.named_parameters(), *m.named_buffers()]) for m in (model, loaded))
    assert before.keys() == after.keys() and all(torch.equal(each, after[name]) for name, each in before.items())
    assert torch.equal(logits_of(loaded, tokens, targets), logits_of(model, tokens, targets))


@types
def test_auto_model_is_the_encoder(case, tmp_path):
    model, tokens = seq2seq_model(case, torch.float32), random_tokens(2, 12)
    expected = model.encoder(tokens).last_hidden_state
    model.save_pretrained(tmp_path / "whole")
    encoder = AutoModel.from_pretrained(tmp_path / "whole")
    encoder.save_pretrained(tmp_path / "encoder")
    others = [AutoModel.from_pretrained(tmp_path / "encoder"), BirthGPTEncoder.from_pretrained(tmp_path / "encoder")]
    for each in (encoder, *others):
        assert type(each) is BirthGPTEncoder
        assert torch.equal(each(tokens).last_hidden_state, expected)
    outputs = model(tokens, decoder_input_ids=tokens)
    assert torch.equal(outputs.encoder_last_hidden_state, expected)


def test_the_head_may_share_the_token_embeddings(tmp_path):
    model = seq2seq_model("softmax-modern", torch.float32)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.encoder.embed_tokens.weight
    model.resize_token_embeddings(30)
    assert model(random_tokens(1, 4), labels=random_tokens(1, 4)).logits.shape[-1] == 30


# what a user may look at


@types
def test_attentions_and_states_have_one_entry_a_layer(case):
    model = seq2seq_model(case, attn_implementation="eager", num_encoder_layers=2)
    tokens, targets = random_tokens(2, 9), random_tokens(2, 7, seed=5)
    with torch.no_grad():
        outputs = model(tokens, decoder_input_ids=targets, output_attentions=True, output_hidden_states=True)
    assert len(outputs.cross_attentions) == 3 and outputs.cross_attentions[-1].shape == (2, 2, 7, 9)
    torch.testing.assert_close(outputs.cross_attentions[-1].sum(dim=-1), torch.ones(2, 2, 7, dtype=torch.float64))
    assert len(outputs.encoder_hidden_states) == 3 and len(outputs.decoder_hidden_states) == 4
    assert len(outputs.encoder_attentions) in (0, 2) and len(outputs.decoder_attentions) in (0, 3)
    model.set_attn_implementation("sdpa")
    outputs = model(tokens, decoder_input_ids=targets, output_attentions=True)
    assert outputs.cross_attentions == ()


@types
def test_sdpa_and_eager_agree(case):
    tokens, mask = left_padded([random_tokens(1, 9)[0], random_tokens(1, 6, seed=3)[0]], 9)
    targets = random_tokens(2, 7, seed=5)
    logits = [
        logits_of(seq2seq_model(case, attn_implementation=name), tokens, targets, attention_mask=mask)
        for name in ("sdpa", "eager")
    ]
    torch.testing.assert_close(*logits, rtol=0, atol=1e-10)


@types
def test_embeddings_may_be_given(case):
    model, tokens, targets = seq2seq_model(case), random_tokens(2, 9), random_tokens(2, 7, seed=5)
    embed = model.get_input_embeddings()
    with torch.no_grad():
        logits = model(inputs_embeds=embed(tokens), decoder_inputs_embeds=embed(targets)).logits
    torch.testing.assert_close(logits, logits_of(model, tokens, targets), rtol=0, atol=1e-12)


# the reference


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_softmax_equals_the_transformer_of_torch(implementation):
    model = seq2seq_model("softmax", attn_implementation=implementation, num_encoder_layers=2)
    reference = nn.Transformer(
        16, 2, 2, 3, 64, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    ).eval()
    for theirs, ours in zip(reference.encoder.layers, model.encoder.layers, strict=True):
        copy_attention(theirs.self_attn, ours.attention.projections)
        copy_modules((theirs.norm1, ours.attention_norm), (theirs.norm2, ours.mlp_norm), *mlps(theirs, ours))
    for theirs, ours in zip(reference.decoder.layers, model.decoder.layers, strict=True):
        copy_attention(theirs.self_attn, ours.attention.projections)
        copy_attention(theirs.multihead_attn, ours.cross_attention.projections)
        norms = [(theirs.norm1, ours.attention_norm), (theirs.norm2, ours.cross_attention.norm)]
        copy_modules(*norms, (theirs.norm3, ours.mlp_norm), *mlps(theirs, ours))
    copy_modules((reference.encoder.norm, model.encoder.norm), (reference.decoder.norm, model.decoder.norm))

    tokens, mask = left_padded([random_tokens(1, 12)[0], random_tokens(1, 7, seed=4)[0]], 12)
    targets, target_mask = left_padded([random_tokens(1, 6)[0], random_tokens(1, 9, seed=6)[0]], 9)
    embedded, embedded_targets = (
        model.encoder.embed_tokens(ids) + stack.embed_positions((kept.cumsum(dim=1) - 1).clamp(min=0))
        for stack, ids, kept in ((model.encoder, tokens, mask), (model.decoder, targets, target_mask))
    )
    with torch.no_grad():
        states = reference(
            embedded,
            embedded_targets,
            tgt_mask=hidden_pairs(target_mask),
            src_key_padding_mask=mask == 0,
            memory_key_padding_mask=mask == 0,
        )
        expected = model.lm_head(states)
    ours = logits_of(model, tokens, targets, attention_mask=mask, decoder_attention_mask=target_mask)
    torch.testing.assert_close(ours[target_mask == 1], expected[target_mask == 1], rtol=0, atol=1e-10)


def hidden_pairs(mask: torch.Tensor) -> torch.Tensor:
    """The pairs of tokens that a causal attention of two heads hides; padding sees itself: (batch · heads, n, n)."""
    length = mask.shape[1]
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1) | (mask == 0)[:, None]
    return (hidden & ~torch.eye(length, dtype=torch.bool)).repeat_interleave(2, dim=0)


def copy_attention(theirs: nn.MultiheadAttention, ours: nn.Module) -> None:
    parts = (ours.q_proj, ours.k_proj, ours.v_proj)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.o_proj.state_dict())


def copy_modules(*pairs: tuple[nn.Module, nn.Module]) -> None:
    for theirs, ours in pairs:
        theirs.load_state_dict(ours.state_dict())


def mlps(theirs: nn.Module, ours: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    return [(theirs.linear1, ours.mlp.up_proj), (theirs.linear2, ours.mlp.down_proj)]


# what is refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labels": random_tokens(2, 8), "branch_ids": torch.zeros(2, 8, dtype=torch.long)}, "has no branches"),
        ({"decoder_input_ids": random_tokens(2, 8), "past_key_values": DynamicCache()}, "EncoderDecoderCache"),
        ({"decoder_input_ids": random_tokens(2, 8), "attention_mask": torch.ones(2, 1, 8, 8)}, "mask of padding"),
        ({}, "exactly one of decoder_input_ids and decoder_inputs_embeds"),
        ({"decoder_input_ids": random_tokens(2, 8).float()}, "decoder_input_ids must be integers"),
    ],
)
def test_input_that_would_be_misread_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        seq2seq_model("softmax")(random_tokens(2, 8), **arguments)


def test_a_configuration_that_no_encoder_can_have_is_refused():
    with pytest.raises(ValueError, match="the encoder .*spans all layers and cannot be in a list"):
        seq2seq_config("softmax", encoder_attention_type=["perceiver", "softmax", "softmax"])
    with pytest.raises(ValueError, match="the encoder .*lists 2 types for num_hidden_layers=3"):
        seq2seq_config("softmax", encoder_attention_type=["softmax", "softmax"])
    with pytest.raises(ValueError, match="num_encoder_layers=0: it must be at least 1"):
        seq2seq_config("softmax", num_encoder_layers=0)


def test_a_token_that_starts_the_output_is_needed():
    model = seq2seq_model("softmax", decoder_start_token_id=None)
    with pytest.raises(ValueError, match="decoder_start_token_id=None: set it in the configuration"):
        model(random_tokens(2, 8), labels=random_tokens(2, 8))


def test_an_encoder_decoder_is_no_language_model(tmp_path):
    model = seq2seq_model("softmax", torch.float32)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="load it by AutoModelForSeq2SeqLM"):
        BirthGPTForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="load it by AutoModelForSeq2SeqLM") as error:
        AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)
    model.encoder.save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match="is that of an encoder: use BirthGPTEncoder"):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "encoder")


def test_pipelines_take_the_encoder_and_name_what_loads_the_whole(tmp_path, bpe):
    """Transformers 5 has no `text2text-generation`: `generate` answers, and `feature-extraction` has the encoder."""
    model = seq2seq_model("softmax", torch.float32, vocab_size=len(bpe), decoder_start_token_id=bpe.mask_token_id)
    model.save_pretrained(tmp_path)
    bpe.save_pretrained(tmp_path)
    (states,) = pipeline("feature-extraction", str(tmp_path))(QUESTION)
    expected = model.encoder(**bpe(QUESTION, return_tensors="pt")).last_hidden_state[0]
    torch.testing.assert_close(torch.tensor(states), expected, rtol=0, atol=1e-5)
    with pytest.raises(KeyError, match="text2text-generation"):
        pipeline("text2text-generation", str(tmp_path))
    with pytest.raises(ValueError, match="load it by AutoModelForSeq2SeqLM"):
        pipeline("text-generation", str(tmp_path))


def test_a_static_cache_is_refused():
    with pytest.raises(ValueError, match="has no static cache"):
        seq2seq_model("softmax").generate(random_tokens(1, 5), max_new_tokens=2, cache_implementation="static")


def test_rotary_positions_and_other_settings_are_those_of_both_stacks():
    model = seq2seq_model("softmax", **ROTARY)
    assert isinstance(model.encoder.norm, nn.RMSNorm) and isinstance(model.decoder.norm, nn.RMSNorm)
    assert model.decoder.embed_tokens is None and not hasattr(model.encoder, "embed_positions")
