"""Every registered attention type, in every mode, keeps the contract of `Attention`."""

import pytest
import torch
from builders import CASES, case_config, case_model, contributed_attention, left_padded, random_tokens
from contract import (
    check_branches,
    check_causality,
    check_decoding,
    check_generation,
    check_given_positions,
    check_padding_on_the_right,
    check_positions_that_count_padding,
    check_prefix,
    check_saving,
)
from transformers import DynamicCache, StaticCache

from birthgpt import BirthGPTForCausalLM
from birthgpt.model.attention import ATTENTION_TYPES
from birthgpt.model.attention_types import get_attention_type

cases = pytest.mark.parametrize("case", CASES)
CHUNKS = [[16], [1] * 16, [5, 1, 1, 9], [15, 1], [3, 4, 4, 5]]


@cases
@pytest.mark.parametrize("training", [False, True])
def test_a_token_changes_nothing_before_it(case, training):
    model = case_model(case).train(training)
    for length, position in ((3, 2), (4, 3), (9, 4), (16, 7), (17, 16), (18, 1)):
        check_causality(model, length, position)


@cases
def test_a_prefix_has_the_same_logits_as_within_the_whole(case):
    model = case_model(case)
    for length in (1, 4, 7, 13):
        check_prefix(model, length)


@cases
@pytest.mark.parametrize("padding", [0, 3])
def test_decoding_with_a_cache_equals_the_full_forward(case, padding):
    model = case_model(case)
    for chunks in CHUNKS:
        check_decoding(model, chunks, padding, atol=1e-10)


@cases
def test_decoding_in_single_precision_after_long_padding(case):
    check_decoding(case_model(case, torch.float32), [9, 1, 1, 5], padding=32, atol=1e-5)


@cases
def test_padding_on_the_right_changes_nothing(case):
    check_padding_on_the_right(case_model(case), padding=5)


@cases
@pytest.mark.parametrize(("start", "gap"), [(4, 0), (0, 7), (30, 1)])
def test_positions_may_start_anywhere_and_have_gaps(case, start, gap):
    positions = torch.arange(16) + start + gap * (torch.arange(16) > 6)
    check_given_positions(case_model(case), positions)


@cases
def test_positions_may_count_padding(case):
    check_positions_that_count_padding(case_model(case))


@cases
@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"do_sample": True, "temperature": 1e-4, "top_k": 0}])
def test_a_padded_batch_generates_what_its_rows_do(case, settings):
    check_generation(case_model(case), **settings)


@cases
def test_generation_with_and_without_a_cache(case):
    model, prompt = case_model(case), random_tokens(2, 6)
    settings = {"max_new_tokens": 9, "do_sample": False, "eos_token_id": None}
    assert torch.equal(model.generate(prompt, **settings), model.generate(prompt, use_cache=False, **settings))


@cases
@pytest.mark.parametrize("use_cache", [True, False])
def test_what_follows_padding_on_the_right_continues_the_prompt(case, use_cache):
    model, tokens = case_model(case), random_tokens(2, 9)
    mask = torch.ones_like(tokens)
    mask[0, 6:] = 0
    settings = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "use_cache": use_cache}
    if use_cache and "sliding_attention" in model.config.layer_types:
        with pytest.raises(ValueError, match="with padding among them, tokens are missing"):
            model.generate(tokens, attention_mask=mask, **settings)
        return
    generated = model.generate(tokens, attention_mask=mask, **settings)[:1, 9:]
    # the first new token is that of the padding; the others follow the prompt without it
    with torch.no_grad():
        logits = model(torch.cat((tokens[:1, :6], generated), dim=1), use_cache=False).logits
    assert torch.equal(logits[:, 6:-1].argmax(dim=-1), generated[:, 1:])


@cases
def test_generation_continues_from_past_key_values(case):
    model, prompt = case_model(case), random_tokens(1, 6)
    settings = {"do_sample": False, "eos_token_id": None, "return_dict_in_generate": True}
    whole = model.generate(prompt, max_new_tokens=9, **settings).sequences
    first = model.generate(prompt, max_new_tokens=4, **settings)
    # with a mask, because a generated pad token would be taken for padding
    settings["attention_mask"] = torch.ones_like(first.sequences)
    rest = model.generate(first.sequences, past_key_values=first.past_key_values, max_new_tokens=5, **settings)
    assert torch.equal(rest.sequences, whole)


@cases
def test_a_cache_that_was_reset_starts_anew(case):
    if set(case_config(case).layer_types) != {"birthgpt_state"}:
        pytest.skip("some layer has a cache of transformers' own")
    model, cache = case_model(case), DynamicCache(config=case_config(case))
    with torch.no_grad():
        model(random_tokens(2, 7, seed=9), past_key_values=cache)
        cache.reset()
        tokens = random_tokens(2, 5)
        logits = model(tokens, past_key_values=cache).logits
        torch.testing.assert_close(logits, model(tokens).logits, rtol=0, atol=1e-10)


@cases
def test_saving_keeps_every_weight_and_buffer(case, tmp_path):
    check_saving(case_model(case, torch.float32), tmp_path)


@cases
def test_the_same_seed_builds_the_same_model(case):
    first, second = (case_model(case).state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@cases
def test_every_trained_parameter_gets_a_finite_gradient(case):
    model, tokens = case_model(case), random_tokens(2, 16)
    model(tokens, labels=tokens).loss.backward()
    for name, parameter in model.named_parameters():
        # learned positions after the last token have gradient zero, so only the maximum is checked
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@cases
def test_gradient_checkpointing_changes_no_gradient(case):
    model, tokens = case_model(case).train(), random_tokens(2, 12)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed, rtol=0, atol=1e-12)


@cases
def test_branches_or_an_error_that_says_what_to_do(case):
    model = case_model(case)
    if separates_branches(model):
        check_branches(model)
    else:
        with pytest.raises(ValueError, match="objective_layout to unrolled"):
            check_branches(model)


@cases
def test_half_precision_stays_close_and_keeps_its_type(case):
    tokens = random_tokens(2, 18)
    # smaller weights: with larger ones, half precision has too few digits
    model = case_model(case, torch.float32, initializer_range=0.05)
    with torch.no_grad():
        logits = model(tokens).logits
        halves = model.bfloat16()(tokens).logits
    assert halves.dtype == torch.bfloat16
    assert (halves.float() - logits).abs().max() < 0.1 * logits.abs().max()


@pytest.mark.parametrize("case", [*ATTENTION_TYPES, "bigbird-dense", "perceiver-cs224n"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_padding_is_finite_in_half_precision(case, implementation):
    # such scores overflow when they are added to the lowest number of half precision
    settings = {"initializer_range": 3.0, "attn_implementation": implementation}
    model = case_model(case, torch.float16, **settings)
    rows = [random_tokens(1, 4)[0], random_tokens(1, 13, seed=3)[0]]
    tokens, mask = left_padded(rows, 13)
    with torch.no_grad():
        outputs = model(tokens, attention_mask=mask, output_hidden_states=True, use_cache=False)
    assert all(states.isfinite().all() for states in (outputs.logits, *outputs.hidden_states))
    generated = model.generate(tokens, attention_mask=mask, max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert (generated[:, 13:] != model.config.pad_token_id).any()


@cases
@pytest.mark.parametrize("cached", [0, 6])
def test_the_positions_that_are_kept_have_the_logits_of_the_whole(case, cached):
    model, tokens = case_model(case), random_tokens(2, 15)

    def forward(**arguments):
        cache = DynamicCache(config=model.config)
        if cached:
            model(tokens[:, :cached], past_key_values=cache)
        return model(tokens[:, cached:], past_key_values=cache, **arguments)

    with torch.no_grad():
        whole = forward().logits
        index = torch.tensor([[1, 8, 2], [0, 3, 3]])
        mask = torch.arange(2)[:, None] == torch.arange(15 - cached) % 3
        ways = [
            (3, whole[:, -3:]),
            (index[0], whole[:, index[0]]),
            (index, whole.take_along_dim(index[..., None], dim=1)),
            (mask, whole[mask]),
        ]
        for kept, expected in ways:
            torch.testing.assert_close(forward(logits_to_keep=kept).logits, expected, rtol=0, atol=1e-12)
            outputs = forward(logits_to_keep=kept, output_hidden_states=True)
            torch.testing.assert_close(outputs.logits, expected, rtol=0, atol=1e-12)
            assert outputs.hidden_states[-1].shape[:2] == whole.shape[:2]


@cases
@pytest.mark.parametrize("name", ["hidden_dropout", "attention_dropout"])
def test_dropout_acts_in_training_alone(case, name):
    model, tokens = case_model(case, **{name: 0.5}), random_tokens(2, 9)

    def gives_the_same_twice() -> bool:
        with torch.no_grad():
            return torch.equal(*(model(tokens, use_cache=False).logits for _ in range(2)))

    assert gives_the_same_twice()
    model.train()
    # gated_deltanet has no weights to drop
    has_weights = set(model.config.attention_types) != {"gated_deltanet"}
    assert gives_the_same_twice() == (name == "attention_dropout" and not has_weights)


@cases
@pytest.mark.parametrize("name", ["hidden_dropout", "attention_dropout"])
def test_a_dropout_that_is_changed_after_loading_acts(case, name, tmp_path):
    tokens = random_tokens(2, 9)
    case_model(case, torch.float32).save_pretrained(tmp_path)
    model = BirthGPTForCausalLM.from_pretrained(tmp_path).train()
    # gated_deltanet has no weights to drop
    has_no_weights = name == "attention_dropout" and set(model.config.attention_types) == {"gated_deltanet"}
    for rate, changes in ((0.5, True), (0.0, False)):
        setattr(model.config, name, rate)
        with torch.no_grad():
            first, second = (model(tokens, use_cache=False).logits for _ in range(2))
        assert torch.equal(first, second) == (has_no_weights or not changes)


@cases
def test_a_cache_is_made_for_generation_alone(case):
    model, tokens = case_model(case), random_tokens(2, 9)

    def makes_a_cache(**arguments) -> bool:
        with torch.no_grad():
            return model(tokens, **arguments).past_key_values is not None

    assert makes_a_cache()
    assert not makes_a_cache(labels=tokens) and not makes_a_cache(shift_labels=tokens)
    assert makes_a_cache(labels=tokens, use_cache=True)
    model.train()
    assert not makes_a_cache()
    assert model.model(tokens).past_key_values is None
    assert makes_a_cache(use_cache=True)


def test_the_default_call_in_training_drops_the_weights_of_performer():
    model, tokens = case_model("performer", attention_dropout=0.5).train(), random_tokens(2, 9)
    assert not torch.equal(model(tokens, labels=tokens).loss, model(tokens, labels=tokens).loss)


@cases
def test_attentions_have_one_entry_a_layer_if_any_has_weights(case):
    model, tokens = case_model(case, attn_implementation="eager"), random_tokens(2, 9)
    with torch.no_grad():
        outputs = model(tokens, output_attentions=True, output_hidden_states=True, use_cache=False)
    assert len(outputs.attentions) in (0, model.config.num_hidden_layers)
    assert len(outputs.hidden_states) == model.config.num_hidden_layers + 1
    for weights in outputs.attentions:
        if weights is not None:
            assert weights.shape[:2] == (2, model.config.num_attention_heads)
            # trigonometric features estimate weights of both signs, but their sum is one
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones_like(weights[..., 0]), rtol=0, atol=1e-8)


@cases
def test_shown_weights_and_states_have_the_gradient_of_what_was_computed(case):
    model, tokens = case_model(case, attn_implementation="eager"), random_tokens(2, 19)
    mask = torch.ones_like(tokens)
    mask[0, :3] = 0
    for arguments in ({}, {"attention_mask": mask}):
        outputs = model(tokens, output_attentions=True, output_hidden_states=True, use_cache=False, **arguments)
        # fixed scores, without a mixture, depend on no parameter
        shown = [each for each in (*outputs.attentions, *outputs.hidden_states) if each is not None]
        shown = [each for each in shown if each.requires_grad]
        for each in shown:
            each.retain_grad()
        outputs.logits.square().sum().backward()
        for each in shown:
            assert each.grad is not None and each.grad.abs().max() > 0


@cases
def test_the_states_of_chosen_layers_are_those_of_all_layers(case):
    model, tokens = case_model(case), random_tokens(2, 9)
    with torch.no_grad():
        every = model(tokens, output_hidden_states=True, use_cache=False).hidden_states
        chosen = model(tokens, output_hidden_states=[1, 2], use_cache=False).hidden_states
        base = model.model(tokens, output_hidden_states=[1, 2], use_cache=False).hidden_states
    for states in (chosen, base):
        assert len(states) == len(every)
        for index, state in enumerate(states):
            assert state is None if index not in (1, 2) else torch.equal(state, every[index])


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTENTION_TYPES)
def test_a_compiled_model_equals_the_model(name, nothing_compiled):
    model, tokens = case_model(name), random_tokens(2, 16)
    # only the capture of graphs: code generation is the task of torch, and takes minutes
    compiled = torch.compile(model, backend="eager")
    results = []
    for each in (model, compiled):
        model.zero_grad()
        each(tokens, labels=tokens, use_cache=False).loss.backward()
        results.append([parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad])
    for plain, captured in zip(*results, strict=True):
        torch.testing.assert_close(captured, plain, rtol=0, atol=1e-12)


@cases
def test_a_cache_of_another_kind_serves_or_is_refused(case):
    model, tokens = case_model(case), random_tokens(1, 4)
    needs_states = model.config.canon_width or model.config.ngram_orders
    if needs_states or not set(model.config.attention_types) <= {"softmax", "sliding_softmax"}:
        with pytest.raises(ValueError, match=r"DynamicCache\(config=model.config\)"):
            model(tokens, past_key_values=DynamicCache())
    else:
        logits = model(tokens, past_key_values=DynamicCache()).logits
        torch.testing.assert_close(logits, model(tokens, use_cache=False).logits, rtol=0, atol=1e-12)


@cases
def test_a_mask_of_ones_own_is_heeded_or_refused(case):
    model, tokens = case_model(case), random_tokens(1, 9)
    mask = torch.ones(9, 9, dtype=torch.bool).tril()
    # the third token sees itself, and later tokens do not see it
    mask[3:, 2] = False
    kinds = {layer.mask_type for layer in model.model.layers}
    if model.config.canon_width or model.config.ngram_orders or kinds - {"full", "sliding"}:
        with pytest.raises(ValueError, match="does not support a 4-D attention_mask"):
            model(tokens, attention_mask=mask[None, None])
        return
    changed = tokens.clone()
    changed[0, 2] = 2 + (changed[0, 2] - 1) % 22
    with torch.no_grad():
        logits, others = (model(each, attention_mask=mask[None, None]).logits for each in (tokens, changed))
    torch.testing.assert_close(others[:, 3:], logits[:, 3:], rtol=0, atol=1e-12)
    assert (others[:, 2] - logits[:, 2]).abs().max() > 1e-4


def separates_branches(model: BirthGPTForCausalLM) -> bool:
    return all(get_attention_type(name).supports_branches for name in model.config.attention_types)


@cases
@pytest.mark.parametrize("arguments", [{}, {"use_cache": False}, {"attention_mask": torch.ones(2, 11)}], ids=str)
def test_packed_sequences_are_kept_apart_or_refused(case, arguments):
    model, first, second = case_model(case), random_tokens(2, 6), random_tokens(2, 5, seed=4)
    packed = {"input_ids": torch.cat((first, second), dim=1), "position_ids": torch.tensor([[*range(6), *range(5)]])}
    with torch.no_grad():
        if not separates_branches(model):
            with pytest.raises(ValueError, match="cannot separate sequences in one row"):
                model(**packed, **arguments)
            return
        logits = model(**packed, **arguments).logits
        torch.testing.assert_close(logits[:, :6], model(first).logits, rtol=0, atol=1e-10)
        torch.testing.assert_close(logits[:, 6:], model(second).logits, rtol=0, atol=1e-10)
        with pytest.raises(ValueError, match="restart.* cannot be combined with a cache"):
            model(**packed, **arguments, past_key_values=DynamicCache(config=model.config))


@cases
def test_positions_of_padding_do_not_start_a_sequence(case):
    model, tokens = case_model(case), random_tokens(2, 12)
    mask = torch.tensor([[0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0], [1] * 12])
    row = mask[0].bool()
    for fill in (0, 1, 50):
        positions = (mask.cumsum(dim=1) - 1).masked_fill(mask == 0, fill)
        with torch.no_grad():
            logits = model(tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits
            alone = model(tokens[:1, row]).logits
        torch.testing.assert_close(logits[:1, row], alone, rtol=0, atol=1e-10)


@cases
@pytest.mark.parametrize("chunks", [[6, 1, 1, 1, 1, 1, 1], [9, 3], [1] * 12], ids=str)
def test_padding_between_the_tokens_of_a_cached_row_is_skipped_or_refused(case, chunks):
    model, tokens = case_model(case), random_tokens(2, 12)
    mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1], [1] * 12])
    row, cache, logits, end = mask[0].bool(), DynamicCache(config=model.config), [], 0
    with torch.no_grad():
        alone = model(tokens[:1, row]).logits
        for size in chunks:
            chunk, end = tokens[:, end : end + size], end + size
            try:
                logits.append(model(chunk, attention_mask=mask[:, :end], past_key_values=cache).logits)
            except ValueError as error:
                # a cache that keeps only the last entries
                assert "start with a new cache" in str(error) and "sliding_attention" in model.config.layer_types
                break
    logits = torch.cat(logits, dim=1)
    seen = row[: logits.shape[1]]
    torch.testing.assert_close(logits[:1, seen], alone[:, : int(seen.sum())], rtol=0, atol=1e-10)


def cannot_forget(model: BirthGPTForCausalLM) -> bool:
    """Whether a layer keeps sums over tokens, or a window of the last ones."""
    keeps_a_window = model.config.canon_width or model.config.ngram_orders
    return bool(keeps_a_window) or not all(layer.cache_can_crop for layer in model.model.layers)


@cases
def test_a_mask_that_hides_cached_tokens_is_heeded_or_refused(case):
    model, tokens, cache = case_model(case), random_tokens(2, 14), DynamicCache(config=case_config(case))
    mask = torch.ones(2, 14, dtype=torch.long)
    # the first row ended early, and pads were taken for tokens
    mask[0, 6:9] = 0
    with torch.no_grad():
        model(tokens[:, :6], past_key_values=cache)
        for index in (6, 7, 8):
            model(tokens[:, index : index + 1], attention_mask=torch.ones(2, index + 1), past_key_values=cache)
        try:
            parts = [
                model(tokens[:, start:stop], attention_mask=mask[:, :stop], past_key_values=cache).logits
                for start, stop in ((9, 12), (12, 13), (13, 14))
            ]
        except ValueError as error:
            assert "start with a new cache" in str(error)
            assert cannot_forget(model) or "sliding_attention" in model.config.layer_types
            return
        assert not cannot_forget(model)
        for row, its_mask, its_logits in zip(tokens, mask.bool(), torch.cat(parts, dim=1), strict=True):
            alone = model(row[its_mask][None], use_cache=False).logits[0, -5:]
            torch.testing.assert_close(its_logits, alone, rtol=0, atol=1e-10)


@cases
def test_a_call_without_the_mask_of_a_padded_cache_is_refused_where_it_matters(case):
    model, cache = case_model(case), DynamicCache(config=case_config(case))
    if not cannot_forget(model):
        pytest.skip("the model masks its past in each call")
    tokens, mask = left_padded([random_tokens(1, 4)[0], random_tokens(1, 6, seed=2)[0]], 6)
    model(tokens, attention_mask=mask, past_key_values=cache)
    for arguments in ({}, {"attention_mask": torch.ones(2, 1)}):
        with pytest.raises(ValueError, match="attention_mask"):
            model(tokens[:, :1], past_key_values=cache, **arguments)


@cases
@pytest.mark.parametrize("length", [1, 3])
def test_no_mask_says_that_every_entry_of_a_cache_is_a_token(case, length):
    """As in the models of transformers, no mask is a mask of ones: padding is shown, or the call is refused."""
    model = case_model(case)
    tokens, mask = left_padded([random_tokens(1, 4)[0], random_tokens(1, 6, seed=2)[0]], 6)
    new, found = random_tokens(2, length, seed=3), []
    for attention_mask in (None, torch.ones(2, 6 + length), torch.cat((mask, torch.ones(2, length)), dim=1)):
        cache = DynamicCache(config=model.config)
        with torch.no_grad():
            model(tokens, attention_mask=mask, past_key_values=cache)
            try:
                found.append(model(new, attention_mask=attention_mask, past_key_values=cache).logits)
            except ValueError as error:
                assert "takes other tokens of the cache for padding than earlier calls did" in str(error)
                found.append(None)
    without, ones, padded = found
    assert padded is not None and (without is None) == (ones is None)
    if without is None or ones is None:
        return
    assert not cannot_forget(model)
    torch.testing.assert_close(without, ones, rtol=0, atol=1e-10)
    # the second row has no padding
    torch.testing.assert_close(without[1], padded[1], rtol=0, atol=1e-10)


@cases
def test_packed_sequences_with_padding_anywhere_are_kept_apart(case):
    model, tokens = case_model(case), random_tokens(1, 16)
    if not separates_branches(model):
        pytest.skip("refused")
    sequences = torch.tensor([0, 0, 1, 1, 1, 0, 1, 1, 2, 2, 0, 2, 3, 0, 4, 0])
    positions = torch.zeros(1, 16, dtype=torch.int32)
    for number in range(1, 5):
        positions[0, sequences == number] = torch.arange(int((sequences == number).sum()), dtype=torch.int32)
    with torch.no_grad():
        logits = model(tokens, attention_mask=(sequences > 0)[None], position_ids=positions).logits
        for number in range(1, 5):
            alone = model(tokens[:, sequences == number]).logits
            torch.testing.assert_close(logits[:, sequences == number], alone, rtol=0, atol=1e-10)


@cases
def test_the_position_of_a_token_counts_not_the_length_of_the_tensor(case):
    model, tokens = case_model(case), random_tokens(1, 60)
    # 10 tokens of padding are beyond the 64 positions, in one call or in two
    padded, mask = left_padded([tokens[0]], 70)
    with torch.no_grad():
        alone = model(tokens, use_cache=False).logits
        cache = DynamicCache(config=model.config)
        first = model(padded[:, :65], attention_mask=mask[:, :65], past_key_values=cache).logits
        second = model(padded[:, 65:], attention_mask=mask, past_key_values=cache).logits
        for logits in (
            model(padded, attention_mask=mask).logits,
            # positions of padding do not count
            model(padded, attention_mask=mask, position_ids=torch.arange(70)[None] - 10).logits,
            torch.cat((first, second), dim=1),
        ):
            torch.testing.assert_close(logits[:, 10:], alone, rtol=0, atol=1e-10)
        if separates_branches(model):
            packed = torch.cat((tokens, tokens[:, :30]), dim=1)
            positions = torch.tensor([[*range(60), *range(30)]])
            logits = model(packed, position_ids=positions).logits
            torch.testing.assert_close(logits[:, :60], alone, rtol=0, atol=1e-10)
            torch.testing.assert_close(logits[:, 60:], alone[:, :30], rtol=0, atol=1e-10)


@cases
def test_a_static_cache_serves_or_is_refused_in_a_line(case):
    model, prompt = case_model(case, torch.float32), random_tokens(1, 5)
    settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    if "birthgpt_state" in model.config.layer_types:
        with pytest.raises(ValueError, match="has no static cache"):
            model.generate(prompt, cache_implementation="static", **settings)
    else:
        static = StaticCache(config=model.config, max_cache_len=16)
        assert torch.equal(
            model.generate(prompt, past_key_values=static, **settings), model.generate(prompt, **settings)
        )


def test_the_type_that_contributing_adds_keeps_the_whole_contract(tmp_path):
    with contributed_attention():
        for settings in ({}, {"canon_width": 3}, {"attention_type": ["softmax", "mean", "sliding_softmax"]}):
            model = case_model("mean", mean_power=1.5, **settings)
            assert isinstance(model, BirthGPTForCausalLM)
            check_causality(model, 9, 4)
            check_prefix(model, 7)
            for chunks in CHUNKS:
                check_decoding(model, chunks, padding=3, atol=1e-10)
            check_padding_on_the_right(model, 5)
            check_generation(model)
            check_generation(model, num_beams=3)
            check_saving(model.float(), tmp_path / str(len(settings)))
            with pytest.raises(ValueError, match="mean.*unrolled"):
                check_branches(model)
