"""The model behaves like a causal language model of transformers 5."""

import logging
import warnings

import pytest
import torch
from builders import VARIANTS, case_model, left_padded, random_tokens, tiny_config, tiny_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    CompileConfig,
    DynamicCache,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    StaticCache,
)

from birthgpt import BirthGPTForCausalLM, BirthGPTModel
from birthgpt.model import modeling_base
from birthgpt.model.attention import ATTENTION_TYPES, register_attention_type
from birthgpt.model.attention_softmax import SoftmaxAttention
from birthgpt.model.input_checks import packed_sequences

variants = pytest.mark.parametrize("variant", VARIANTS)


@variants
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_token_changes_nothing_before_it(variant, implementation):
    model = tiny_model(variant, attn_implementation=implementation)
    tokens = random_tokens(2, 20)
    changed = tokens.clone()
    changed[:, 12] = (changed[:, 12] + 1) % 64
    before, after = model(tokens).logits, model(changed).logits
    assert (before[:, :12] - after[:, :12]).abs().max() <= 1e-12
    assert (before[:, 12:] - after[:, 12:]).abs().max() > 1e-3


@variants
def test_implementations_agree(variant):
    tokens, mask = random_tokens(3, 15), torch.ones(3, 15, dtype=torch.long)
    mask[1, :4] = 0
    eager = tiny_model(variant, attn_implementation="eager")(tokens, attention_mask=mask).logits
    sdpa = tiny_model(variant, attn_implementation="sdpa")(tokens, attention_mask=mask).logits
    kept = mask.bool()
    torch.testing.assert_close(eager[kept], sdpa[kept], rtol=0, atol=1e-10)


@variants
def test_generation_with_and_without_cache_or_from_embeddings(variant):
    model, prompt = tiny_model(variant), random_tokens(2, 5)
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    cached = model.generate(prompt, **settings)
    assert torch.equal(cached, model.generate(prompt, use_cache=False, **settings))
    static = StaticCache(config=model.config, max_cache_len=16)
    assert torch.equal(cached, model.generate(prompt, past_key_values=static, **settings))
    from_embeddings = model.generate(inputs_embeds=model.get_input_embeddings()(prompt), **settings)
    assert torch.equal(cached[:, 5:], from_embeddings)


def test_branches_see_the_prefix_and_themselves_only():
    prefix, branches = random_tokens(1, 5), [random_tokens(1, 3), random_tokens(1, 6), random_tokens(1, 1)]
    tokens = torch.cat([prefix, *branches, torch.zeros(1, 2, dtype=torch.long)], dim=1)
    branch_ids = torch.tensor([[0] * 5 + [1] * 3 + [2] * 6 + [3] + [-1] * 2])
    positions = torch.tensor([[*range(5), *range(5, 8), *range(5, 11), 5, 0, 0]])
    for variant in VARIANTS:
        for implementation in ("eager", "sdpa"):
            model = tiny_model(variant, attn_implementation=implementation)
            logits = model(tokens, branch_ids=branch_ids, position_ids=positions).logits[0]
            assert logits.isfinite().all()
            for branch_id, branch in enumerate(branches, start=1):
                alone = model(torch.cat([prefix, branch], dim=1)).logits[0, 5:]
                torch.testing.assert_close(logits[branch_ids[0] == branch_id], alone, rtol=0, atol=1e-10)
            torch.testing.assert_close(logits[:5], model(prefix).logits[0], rtol=0, atol=1e-10)


def test_branches_are_refused_where_they_would_be_ignored():
    model, tokens = tiny_model(), random_tokens(1, 4)
    branches = {"branch_ids": torch.zeros(1, 4, dtype=torch.long)}
    with pytest.raises(ValueError, match="position_ids that restart"):
        model(tokens, **branches)
    positions = {"position_ids": torch.arange(4)[None]}
    with pytest.raises(ValueError, match="cannot be combined with a cache"):
        model(tokens, **branches, **positions, past_key_values=DynamicCache(config=model.config))
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match="flash attention cannot separate branches"):
        model(tokens, **branches, **positions)
    with pytest.raises(ValueError, match="flash attention does not support a 4-D"):
        model(tokens, attention_mask=torch.ones(1, 1, 4, 4))


def test_flash_attention_separates_a_single_packed_row_alone():
    packed, together = torch.tensor([[0, 1, 2, 0, 1]]), "flash attention separates sequences only in a batch of one row"

    def sequences(position_ids, attention_mask=None, **settings):
        model = tiny_model(**settings)
        model.config._attn_implementation = "flash_attention_2"
        return packed_sequences(position_ids, attention_mask, None, model.config, list(model.model.layers))

    # transformers cuts the row
    assert sequences(packed) is None and sequences(torch.arange(5)[None]) is None
    for arguments in ((packed.expand(2, -1),), (packed, torch.ones(1, 5)), (torch.tensor([[0, 1, 2, 1, 2]]),)):
        with pytest.raises(ValueError, match=together):
            sequences(*arguments)
    with pytest.raises(ValueError, match="canon_width=2 cannot separate sequences in one row under flash attention"):
        sequences(packed, canon_width=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "settings"), [("assignment", {"attention_type": "sliding_softmax"}), ("modern", {"canon_width": 3})]
)
def test_a_compiled_model_keeps_packed_sequences_apart(variant, settings, nothing_compiled):
    model, tokens = tiny_model(variant, **settings), random_tokens(2, 11)
    positions = torch.tensor([[*range(6), *range(5)]])
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    expected = model(tokens, position_ids=positions, use_cache=False).logits
    logits = compiled(tokens, position_ids=positions, use_cache=False).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)


class BranchlessAttention(SoftmaxAttention):
    """An attention type of another author."""

    supports_branches = False


@pytest.fixture
def branchless(monkeypatch):
    """`attention_type=branchless`, for one test."""
    monkeypatch.setitem(ATTENTION_TYPES, "branchless", BranchlessAttention)


def test_a_registered_type_runs_and_its_lack_of_branches_is_named(branchless):
    model = tiny_model(attention_type=["softmax", "branchless"])
    assert [type(layer.attention) for layer in model.model.layers] == [SoftmaxAttention, BranchlessAttention]
    with pytest.raises(ValueError, match="attention_type='branchless' cannot take branches: set objective_layout"):
        model(random_tokens(1, 3), branch_ids=torch.zeros(1, 3).long(), position_ids=torch.arange(3)[None])


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="already registered"):
        register_attention_type("softmax")(BranchlessAttention)


@variants
def test_the_head_at_the_targets_gives_the_same_loss_and_gradients(variant):
    model, tokens = tiny_model(variant), random_tokens(3, 10)
    labels = tokens.clone()
    labels[0, :6] = -100
    shift_labels = nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]
    expected = nn.functional.cross_entropy(model(tokens).logits.flatten(0, 1), shift_labels.flatten())
    expected_gradient = torch.autograd.grad(expected, model.model.layers[0].mlp.up_proj.weight)[0]
    keep = shift_labels != -100
    ways = (
        {"labels": labels},
        {"shift_labels": shift_labels},
        {"labels": labels, "logits_to_keep": keep},
        {"shift_labels": shift_labels, "logits_to_keep": keep},
    )
    for arguments in ways:
        loss = model(tokens, **arguments).loss
        gradient = torch.autograd.grad(loss, model.model.layers[0].mlp.up_proj.weight)[0]
        # the loss is computed in single precision
        torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-8)
    assert model(tokens, logits_to_keep=keep).logits.shape == (int(keep.sum()), 64)
    assert model(tokens, logits_to_keep=2).logits.shape == (3, 2, 64)


def test_compiled_the_blocks_and_the_loss_at_the_targets_are_one_graph_for_all_shapes(nothing_compiled):
    calls = []

    def count_calls(graph, example_inputs):
        calls.append(sum(node.op.startswith("call") for node in graph.graph.nodes))
        return graph

    model = tiny_model(num_hidden_layers=3)
    compiled = torch.compile(model, dynamic=True, backend=count_calls)
    for batch, length in ((4, 12), (3, 20), (5, 9)):
        tokens = random_tokens(batch, length)
        arguments = {"shift_labels": tokens, "logits_to_keep": torch.rand(batch, length) < 0.5, "use_cache": False}
        # labels at other positions have no effect
        torch.testing.assert_close(compiled(tokens, **arguments).loss, model(tokens, **arguments).loss)
    # the positions of the targets are computed before this graph
    assert sorted(calls)[-1] > 100
    assert sum(calls) - max(calls) < 10


@pytest.mark.parametrize("name", ["gradient_checkpointing_enable", "activation_checkpointing_enable"])
@pytest.mark.parametrize("options", [{}, {"use_reentrant": True}], ids=str)
def test_checkpointing_is_enabled_without_a_warning(name, options):
    model, tokens = tiny_model("modern").train(), random_tokens(2, 8)
    if not hasattr(model, name):
        pytest.skip("this version of transformers has only the other name")
    calls = []
    for layer in model.model.layers:
        layer.mlp.register_forward_hook(lambda *_: calls.append(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        getattr(model, name)(options or None)
    model(tokens, labels=tokens).loss.backward()
    # each MLP is computed a second time in the backward pass
    assert len(calls) == 2 * model.config.num_hidden_layers


def test_num_items_in_batch_divides_the_summed_loss():
    model, tokens = tiny_model(), random_tokens(2, 8)
    mean = model(tokens, labels=tokens).loss
    torch.testing.assert_close(model(tokens, labels=tokens, num_items_in_batch=28).loss, mean * 14 / 28)


@variants
def test_attentions_and_hidden_states(variant):
    model, tokens = tiny_model(variant, attn_implementation="eager"), random_tokens(2, 6)
    outputs = model(tokens, output_attentions=True, output_hidden_states=True)
    assert len(outputs.attentions) == 2 and len(outputs.hidden_states) == 3
    for weights in outputs.attentions:
        assert weights.shape == (2, 4, 6, 6)
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 6).double())
        assert weights.triu(1).abs().max() == 0
    torch.testing.assert_close(model.lm_head(outputs.hidden_states[-1]), outputs.logits)
    assert model(tokens).attentions is None


@pytest.mark.parametrize("name", ATTENTION_TYPES)
def test_attentions_that_no_layer_has_are_left_out_with_a_warning(name, caplog):
    # the loggers of transformers do not propagate
    logger = logging.getLogger("birthgpt.model.modeling_base")
    logger.addHandler(caplog.handler)
    try:
        for model in (case_model(name), case_model(name).model):
            modeling_base.logger.warning_once.cache_clear()
            caplog.clear()
            attentions = model(random_tokens(1, 4), output_attentions=True, use_cache=True).attentions
            if name == "synthesizer":
                assert len(attentions) == 3 and "output_attentions" not in caplog.text
                continue
            assert attentions == ()
            assert f"no layer of attention_type='{name}' returned weights" in caplog.text
            as_tuple = model(random_tokens(1, 4), output_attentions=True, use_cache=False, return_dict=False)
            assert isinstance(as_tuple, tuple)
    finally:
        logger.removeHandler(caplog.handler)


HYBRID = {"attention_type": ["softmax", "gated_deltanet", "softmax"]}
WINDOWS = {"attention_type": "sliding_softmax", "per_layer_config": {1: {"sliding_window": 3}}}


@pytest.mark.parametrize(
    ("name", "settings", "interface", "backend", "static_cache"),
    [
        *[(name, {}, *[name in ("softmax", "sliding_softmax")] * 3) for name in ATTENTION_TYPES],
        ("softmax", {"canon_width": 4}, True, False, False),
        ("softmax", {"ngram_orders": [2], "ngram_vocab_size": 50}, True, False, False),
        ("hybrid", HYBRID, True, False, False),
        ("hybrid-of-two-windows", WINDOWS, True, False, False),
    ],
)
def test_each_configuration_says_what_it_supports(name, settings, interface, backend, static_cache):
    """Flash and flex attention act in it or are refused; a static cache serves it or is refused."""
    model = case_model(name, **settings)
    for part in (model, model.model):
        assert (part._supports_flash_attn, part._supports_flex_attn) == (interface, interface)
        assert (part._supports_attention_backend, part._can_compile_fullgraph) == (backend, static_cache)
    assert ("birthgpt_state" not in model.config.layer_types) == static_cache
    if not interface:
        with pytest.raises(ValueError, match="flex_attention"):
            model.set_attn_implementation("flex_attention")
        with pytest.raises(ValueError, match="does not support"):
            case_model(name, **settings, attn_implementation="flex_attention")


def test_a_sequence_beyond_learned_positions_is_refused_and_rotary_takes_it():
    with pytest.raises(ValueError, match="65 tokens does not fit max_position_embeddings=64"):
        tiny_model("assignment")(random_tokens(1, 65))
    model = tiny_model("assignment")
    cache = model(random_tokens(1, 60), use_cache=True).past_key_values
    with pytest.raises(ValueError, match="65 tokens"):
        model(random_tokens(1, 5), past_key_values=cache)
    with pytest.raises(ValueError, match="65 tokens"):
        model(random_tokens(1, 5), position_ids=torch.arange(60, 65)[None])
    with pytest.raises(ValueError, match="position_ids contain -1: the first learned position is 0"):
        model(random_tokens(1, 5), position_ids=torch.arange(-1, 4)[None])
    assert tiny_model("modern")(random_tokens(1, 65)).logits.isfinite().all()


@variants
def test_auto_classes_load_what_was_saved_bit_for_bit(variant, tmp_path):
    model = tiny_model(variant).float()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    assert type(AutoConfig.from_pretrained(tmp_path)).__name__ == "BirthGPTConfig"
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, BirthGPTForCausalLM)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    tokens = random_tokens(1, 5)
    base = AutoModel.from_pretrained(tmp_path)
    assert isinstance(base, BirthGPTModel)
    assert torch.equal(model.model(tokens).last_hidden_state, base(tokens).last_hidden_state)
    assert torch.equal(model(tokens).logits, loaded.eval()(tokens).logits)


def test_tied_head_shares_its_weights_after_loading(tmp_path):
    tiny_model("modern").save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    untied = tiny_model("assignment")
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight


def test_initial_weights():
    torch.manual_seed(0)
    model = BirthGPTForCausalLM(tiny_config("assignment", initializer_range=0.02, hidden_size=128, vocab_size=999))
    assert abs(model.model.embed_tokens.weight.std().item() - 0.02) < 1e-3
    assert model.model.embed_positions.weight.abs().max() == 0
    assert model.model.layers[0].mlp.up_proj.bias.abs().max() == 0
    zeroed = BirthGPTForCausalLM(tiny_config(zero_init_residual=True))
    tokens = random_tokens(1, 4)
    embedded = zeroed.model.norm(zeroed.model.embed_tokens(tokens))
    torch.testing.assert_close(zeroed.eval().model(tokens).last_hidden_state, embedded)


def test_embeddings_can_be_resized():
    model = tiny_model("modern")
    model.resize_token_embeddings(80)
    assert model(random_tokens(1, 4, 80)).logits.shape[-1] == 80
    assert model.lm_head.weight is model.model.embed_tokens.weight


# code is generated for one of them only: it takes long
@pytest.mark.slow
@pytest.mark.parametrize(("variant", "backend"), [("assignment", "aot_eager"), ("modern", "inductor")])
def test_compiled_model_equals_eager_mode(variant, backend, nothing_compiled):
    model, tokens = tiny_model(variant), random_tokens(2, 8)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    torch.testing.assert_close(compiled(tokens, use_cache=False).logits, model(tokens).logits, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["softmax", "softmax-rotary", "sliding_softmax"])
def test_generation_with_a_static_cache_is_one_graph(case, nothing_compiled):
    model = case_model(case, torch.float32)
    tokens, mask = left_padded([random_tokens(1, 4)[0], random_tokens(1, 7)[0]], 7)
    settings = {"attention_mask": mask, "max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    compile_config = CompileConfig(fullgraph=True, backend="eager", mode=None)
    # transformers compiles by itself on a GPU only
    compile_config._compile_all_devices = True
    torch._dynamo.utils.counters.clear()
    compiled = model.generate(tokens, cache_implementation="static", compile_config=compile_config, **settings)
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] > 0
    assert torch.equal(compiled, model.generate(tokens, **settings))


def test_bfloat16_runs_and_keeps_its_type():
    model = tiny_model().to(torch.bfloat16)
    assert model(random_tokens(1, 5)).logits.dtype == torch.bfloat16


def as_gpt_neox(ours: BirthGPTForCausalLM) -> GPTNeoXForCausalLM:
    """The model of transformers with the same weights."""
    settings = (
        "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings "
        "hidden_act layer_norm_eps"
    )
    config = GPTNeoXConfig(
        **{name: getattr(ours.config, name) for name in settings.split()},
        use_parallel_residual=False,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "partial_rotary_factor": 1.0, **ours.config.rope_parameters},
        attn_implementation="eager",
    )
    theirs = GPTNeoXForCausalLM(config).double().eval()
    modules = {
        "gpt_neox.embed_in": ours.model.embed_tokens,
        "gpt_neox.final_layer_norm": ours.model.norm,
        "lm_head": ours.lm_head,
    }
    for index, (block, layer) in enumerate(zip(ours.model.layers, theirs.gpt_neox.layers, strict=True)):
        parts = {
            "input_layernorm": block.attention_norm,
            "post_attention_layernorm": block.mlp_norm,
            "attention.dense": block.attention.projections.o_proj,
            "mlp.dense_h_to_4h": block.mlp.up_proj,
            "mlp.dense_4h_to_h": block.mlp.down_proj,
        }
        modules |= {f"gpt_neox.layers.{index}.{name}": module for name, module in parts.items()}
        maps = [getattr(block.attention.projections, f"{name}_proj") for name in "qkv"]
        for name in ("weight", "bias"):
            # their matrix contains q, k and v head by head
            of_heads = [
                getattr(linear, name).detach().unflatten(0, (config.num_attention_heads, -1)) for linear in maps
            ]
            getattr(layer.attention.query_key_value, name).data = torch.cat(of_heads, dim=1).flatten(0, 1)
    for name, module in modules.items():
        theirs.get_submodule(name).load_state_dict(module.state_dict())
    return theirs


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"partial_rotary_factor": 0.5},
        {"rope_type": "linear", "factor": 8.0},
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8, "partial_rotary_factor": 0.5},
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 8.0, "beta_slow": 0.5, "attention_factor": 1.3},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        {"rope_type": "proportional", "partial_rotary_factor": 0.5},
    ],
    ids=str,
)
def test_with_rotary_positions_it_is_gpt_neox_of_transformers(parameters):
    parameters = {"rope_theta": 100.0} | parameters
    ours = tiny_model("assignment", position_embedding_type="rotary", rope_parameters=parameters)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    theirs, tokens = as_gpt_neox(ours), random_tokens(2, 30)
    # their angles are in single precision
    torch.testing.assert_close(ours(tokens).logits, theirs(tokens).logits, rtol=0, atol=1e-4)
