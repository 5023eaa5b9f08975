"""Causal BigBird attends to global, near and random blocks, in every implementation and with padding."""

import pytest
import torch
from builders import SIZES, case_config, case_model, random_tokens
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

from birthgpt.model.attention_bigbird import BigBirdAttention, draw_random_blocks
from birthgpt.model.attention_softmax import SoftmaxAttention
from birthgpt.model.layers import INVALID_POSITION

BLOCK, LENGTH = SIZES["bigbird_block"], 30
# global, window and random blocks
PATTERNS = [(1, 2, 1), (2, 1, 2), (0, 1, 3), (1, 3, 0), (3, 2, 2)]
patterns = pytest.mark.parametrize("pattern", PATTERNS, ids=str)
implementations = pytest.mark.parametrize("implementation", ["gathered", "dense"])


def bigbird(pattern: tuple[int, int, int] = (1, 2, 1), **settings) -> BigBirdAttention:
    """One seeded layer in double precision and eval mode."""
    sizes = dict(zip(("bigbird_global", "bigbird_window", "bigbird_random"), pattern, strict=True))
    torch.manual_seed(0)
    attention = BigBirdAttention(case_config("bigbird", **sizes | settings), 1).double().eval()
    attention.initialize_parameters()
    return attention


def as_dense(attention: BigBirdAttention, implementation: str = "dense") -> BigBirdAttention:
    """The same layer, weights and pattern with another implementation."""
    settings = attention.config.to_dict() | {"bigbird_implementation": implementation}
    other = BigBirdAttention(type(attention.config).from_dict(settings), 1).double().train(attention.training)
    other.load_state_dict(attention.state_dict())
    return other


def run(attention, states, positions=None, token_mask=None, cache=None):
    return attention(
        states,
        attention_mask=None,
        position_ids=torch.arange(states.shape[1])[None] if positions is None else positions,
        position_embeddings=None,
        token_mask=token_mask,
        past_key_values=cache,
    )


def random_states(batch: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    return torch.randn(batch, length, SIZES["hidden_size"], dtype=torch.float64, generator=generator)


def layouts() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Positions and token masks of three rows; positions of padding have no meaning."""
    padding = torch.tensor([99, -7, 3])

    def rows(*rows):
        positions = torch.full((3, LENGTH), 0)
        mask = torch.zeros(3, LENGTH, dtype=torch.bool)
        for row, (left, its_positions) in enumerate(rows):
            positions[row] = padding[row]
            positions[row, left : left + len(its_positions)] = torch.tensor(its_positions)
            mask[row, left : left + len(its_positions)] = True
        return positions, mask

    return {
        "left padding": rows((0, range(30)), (13, range(17)), (29, range(1))),
        "right padding": rows((0, range(30)), (0, range(17)), (0, range(4))),
        "both sides": rows((3, range(20)), (1, range(29)), (9, range(8))),
        "gaps and other starts": rows((5, range(0, 50, 2)), (0, range(34, 64)), (7, [1, 2, 3, 21, 22, 60, 63])),
    }


def mixed_by_the_paper(attention: BigBirdAttention, states: torch.Tensor, positions: list[int]) -> torch.Tensor:
    """(length, hidden_size) of one row without padding: one head, one query and one set of keys at a time."""
    config, heads = attention.config, []
    width = config.head_dim
    queries, keys, values = (
        p(states) for p in (attention.projections.q_proj, attention.projections.k_proj, attention.projections.v_proj)
    )
    for head in range(config.num_attention_heads):
        part, outputs = slice(head * width, (head + 1) * width), []
        for query, position in zip(queries[:, part], positions, strict=True):
            own = position // config.bigbird_block
            blocks = set(range(config.bigbird_global)) | set(range(own - config.bigbird_window + 1, own + 1))
            blocks |= set(attention.random_blocks[head, own].tolist())
            seen = [i for i, p in enumerate(positions) if p <= position and p // config.bigbird_block in blocks]
            weights = (keys[seen, part] @ query / width**0.5).exp()
            outputs.append(weights @ values[seen, part] / weights.sum())
        heads.append(torch.stack(outputs))
    return attention.projections.o_proj(torch.cat(heads, dim=-1))


@implementations
@patterns
def test_each_position_mixes_what_the_paper_says(implementation, pattern):
    attention = bigbird(pattern, bigbird_implementation=implementation)
    states = random_states(1, 58)
    with torch.no_grad():
        expected = mixed_by_the_paper(attention, states[0], list(range(58)))
        torch.testing.assert_close(run(attention, states)[0][0], expected, rtol=0, atol=1e-12)


@implementations
@pytest.mark.parametrize("layout", layouts())
def test_positions_decide_and_padding_does_not(implementation, layout):
    attention = bigbird((1, 2, 2), bigbird_implementation=implementation)
    positions, mask = layouts()[layout]
    states = random_states(3, LENGTH)
    with torch.no_grad():
        mixed, _ = run(attention, states, positions, mask)
        for row in range(3):
            expected = mixed_by_the_paper(attention, states[row, mask[row]], positions[row, mask[row]].tolist())
            torch.testing.assert_close(mixed[row, mask[row]], expected, rtol=0, atol=1e-12)


@patterns
@pytest.mark.parametrize("length", [1, 3, 4, 5, 30, 64])
@pytest.mark.parametrize("padding", [0, 3])
def test_gathered_equals_dense_forward_and_backward(pattern, length, padding):
    gathered, states = bigbird(pattern).train(), random_states(2, length + padding)
    mask = torch.ones(2, length + padding, dtype=torch.bool)
    mask[0, :padding] = mask[1, length:] = False
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    results = []
    for attention in (gathered, as_dense(gathered)):
        inputs = states.clone().requires_grad_()
        mixed = run(attention, inputs, positions, mask)[0][mask]
        mixed.square().sum().backward()
        parameters = [parameter.grad for parameter in attention.parameters()]
        results.append([mixed, inputs.grad, *parameters])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-10)


@implementations
@pytest.mark.parametrize("pattern", [(0, 16, 0), (1, 16, 2), (16, 1, 1), (4, 12, 3)], ids=str)
def test_with_all_blocks_in_sight_it_is_softmax(implementation, pattern):
    attention = bigbird(pattern, bigbird_implementation=implementation)
    config = case_config("softmax")
    config._attn_implementation = "eager"
    softmax = SoftmaxAttention(config, 1).double()
    softmax.load_state_dict({name: t for name, t in attention.state_dict().items() if name != "random_blocks"})
    results = []
    for layer, mask in ((attention, None), (softmax, torch.full((64, 64), -torch.inf).double().triu(1))):
        inputs = random_states(2, 64).requires_grad_()
        mixed, _ = layer(inputs, attention_mask=mask, position_ids=torch.arange(64)[None], position_embeddings=None)
        mixed.square().sum().backward()
        results.append((mixed, inputs.grad))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


@patterns
def test_random_blocks_are_older_blocks_each_at_most_once(pattern):
    global_blocks, window, count = pattern
    drawn = bigbird(pattern).random_blocks
    assert drawn.shape == (2, 16, count)
    for blocks in drawn:
        for own, row in enumerate(blocks.tolist()):
            chosen, older = [block for block in row if block != -1], range(global_blocks, own - window + 1)
            assert len(chosen) == len(set(chosen)) == min(count, len(older))
            assert set(chosen) <= set(older)


def test_every_older_block_is_drawn_about_as_often():
    config = case_config("bigbird", num_attention_heads=1000, hidden_size=1000, bigbird_random=2)
    # for block 11, two of the blocks 1 to 9
    frequencies = torch.bincount(draw_random_blocks(config, 0)[:, 11].flatten(), minlength=12) / 1000
    assert frequencies[[0, 10, 11]].eq(0).all()
    torch.testing.assert_close(frequencies[1:10], torch.full((9,), 2 / 9), rtol=0, atol=0.06)


def test_the_pattern_depends_on_seed_layer_head_and_block_alone():
    def drawn(layer=0, **settings):
        return draw_random_blocks(case_config("bigbird", **settings), layer)

    longer = {"max_position_embeddings": 256}
    assert torch.equal(drawn(), drawn())
    assert torch.equal(drawn(**longer)[:, :16], drawn())
    assert torch.equal(drawn(num_attention_heads=4)[:2], drawn())
    assert torch.equal(drawn(num_hidden_layers=7), drawn())
    patterns = [*drawn(**longer), *drawn(layer=1, **longer), *drawn(bigbird_seed=1, **longer)]
    for index, pattern in enumerate(patterns):
        # blocks with many older blocks rarely have the same draw by chance
        assert all((pattern[30:] == other[30:]).float().mean() < 0.3 for other in patterns[:index])
    blocks = patterns[0][40:, 0]
    assert len(blocks.unique()) > 10


def test_building_a_model_leaves_the_global_generators_alone():
    draws = []
    for seed in (0, 1):
        torch.manual_seed(5)
        model = case_model("bigbird", bigbird_seed=seed)
        draws.append((torch.rand(3), model.model.layers[0].attention.random_blocks))
    assert torch.equal(draws[0][0], draws[1][0])
    assert not torch.equal(draws[0][1], draws[1][1])


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that an operation returned."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **kwargs or {})
        for tensor in output if isinstance(output, (tuple, list)) else [output]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return output


def largest_tensor(implementation: str, length: int) -> int:
    attention = bigbird(bigbird_implementation=implementation, max_position_embeddings=length)
    with LargestTensor() as largest:
        run(attention, random_states(1, length))[0].sum().backward()
    return largest.elements


def test_gathered_takes_memory_linear_in_length():
    assert largest_tensor("gathered", 1024) == 4 * largest_tensor("gathered", 256)
    assert largest_tensor("dense", 1024) == 16 * largest_tensor("dense", 256)


def test_a_decoded_token_gathers_its_own_blocks_only():
    attention = bigbird(max_position_embeddings=1024)
    cache, states = DynamicCache(config=attention.config), random_states(1, 1001)
    run(attention, states[:, :1000], cache=cache)
    with LargestTensor() as largest:
        mixed, _ = run(attention, states[:, 1000:], torch.tensor([[1000]]), cache=cache)
    # no tensor is larger than the keys and one extra slot
    assert largest.elements <= (1004 + 1) * SIZES["hidden_size"]
    torch.testing.assert_close(mixed[:, 0], run(attention, states)[0][:, -1], rtol=0, atol=1e-12)


@implementations
def test_a_row_that_pauses_while_the_others_go_on(implementation):
    attention = bigbird(bigbird_implementation=implementation)
    mask = torch.tensor([[1] * 9 + [0] * 4 + [1] * 2, [0] * 7 + [1] * 8]).bool()
    positions, states = mask.cumsum(dim=1) - 1, random_states(2, 15)
    cache = DynamicCache(config=attention.config)
    mixed = [
        run(attention, states[:, part], positions[:, part], mask[:, part], cache)[0]
        for part in (slice(0, 9), slice(9, 13), slice(13, 15))
    ]
    whole, _ = run(attention, states, positions, mask)
    torch.testing.assert_close(torch.cat(mixed, dim=1)[mask], whole[mask], rtol=0, atol=1e-12)


def test_dense_shows_weights_within_the_pattern():
    attention = bigbird(bigbird_implementation="dense")
    positions, mask = layouts()["left padding"]
    states = random_states(3, LENGTH)
    _, weights = run(attention, states, positions, mask)
    assert weights.shape == (3, 2, LENGTH, LENGTH)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 2, LENGTH).double())
    # the last block sees the first block, itself, the block before, and one random block
    last = weights[0, :, -1].unflatten(-1, (-1, 2)).sum(dim=-1) > 0  # 30 tokens are 15 pairs
    assert last[:, [0, 1, 12, 13, 14]].all() and (last.sum(dim=-1) == 7).all()
    assert weights[1][:, 13:, :13].abs().max() == 0
    assert run(bigbird(), states)[1] is None


@implementations
def test_dropout_is_for_training(implementation):
    attention = bigbird(bigbird_implementation=implementation, attention_dropout=0.5)
    states = random_states(1, LENGTH)
    torch.testing.assert_close(run(attention, states)[0], run(bigbird(), states)[0], rtol=0, atol=1e-12)
    attention.train()
    assert (run(attention, states)[0] - run(attention, states)[0]).abs().max() > 1e-3


def test_a_pattern_saved_under_a_narrower_window_counts_nothing_twice():
    gathered = bigbird((0, 1, 3))
    gathered.config.bigbird_window, gathered.config.bigbird_global = 4, 2
    wider = as_dense(gathered, "gathered")
    states = random_states(2, 64)
    torch.testing.assert_close(run(wider, states)[0], run(as_dense(wider), states)[0], rtol=0, atol=1e-12)


@implementations
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_with_a_row_of_padding(implementation, autocast):
    model = case_model("bigbird-rotary", torch.float32 if autocast else torch.bfloat16)
    model.config.bigbird_implementation = implementation
    tokens, mask = random_tokens(2, 9), torch.tensor([[0] * 3 + [1] * 6, [0] * 9])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(tokens, attention_mask=mask).logits
    logits[0, 3:].square().sum().backward()
    assert logits.isfinite().all() and all(parameter.grad.isfinite().all() for parameter in model.parameters())
    expected = case_model("bigbird-rotary")(tokens[:1, 3:]).logits[0]
    torch.testing.assert_close(logits[0, 3:].double(), expected, rtol=0, atol=0.3)
    assert expected.std() > 1


@implementations
def test_positions_beyond_the_pattern(implementation):
    model = case_model("bigbird-rotary", max_position_embeddings=18, bigbird_implementation=implementation)
    assert model(random_tokens(1, 18)).logits.isfinite().all()
    with pytest.raises(ValueError, match="max_position_embeddings=18: position 18 ") as error:
        model(random_tokens(1, 19))
    assert "\n" not in str(error.value)
    # padding has no position
    mask = torch.tensor([[0] * 4 + [1] * 17])
    assert model(random_tokens(1, 21), attention_mask=mask).logits.isfinite().all()


@implementations
def test_positions_that_do_not_rise(implementation):
    attention = bigbird(bigbird_implementation=implementation)
    for positions in ([0, 1, 2, 0, 1, 2], [0, 1, 2, 2, 3, 4]):
        with pytest.raises(ValueError, match="position_ids that increase"):
            run(attention, random_states(1, 6), torch.tensor([positions]))


def test_flex_needs_cuda():
    with pytest.raises(ValueError, match="needs a CUDA device: choose gathered or dense"):
        run(bigbird(bigbird_implementation="flex"), random_states(1, 6))


def test_the_mask_of_flex_is_that_of_dense():
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    attention = bigbird()
    positions, token_mask = layouts()["both sides"]
    positions_of_tokens = positions.masked_fill(~token_mask, INVALID_POSITION)
    sees = attention.mask_function(positions_of_tokens, positions_of_tokens)
    _, weights = run(as_dense(attention), random_states(3, LENGTH), positions, token_mask)
    mask = flex.create_mask(sees, 3, 2, LENGTH, LENGTH, device="cpu")
    assert torch.equal(mask.transpose(1, 2)[token_mask], weights.transpose(1, 2)[token_mask] > 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="FlexAttention is for CUDA")
def test_flex_equals_gathered():
    gathered = bigbird(hidden_size=64, max_position_embeddings=512, bigbird_block=16).float().cuda().train()
    flex = as_dense(gathered, "flex").float().cuda()
    states, mask = torch.randn(2, 300, 64, device="cuda"), torch.ones(2, 300, dtype=torch.bool, device="cuda")
    mask[0, :37] = False
    positions, results = (mask.cumsum(dim=1) - 1).clamp(min=0), []
    for attention in (gathered, flex):
        inputs = states.clone().requires_grad_()
        mixed = run(attention, inputs, positions, mask)[0][mask]
        mixed.square().sum().backward()
        results.append((mixed, inputs.grad))
    torch.testing.assert_close(*results, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("implementation", ["gathered", "dense"])
def test_only_the_last_tokens_of_a_cached_row_can_be_hidden(implementation):
    model, tokens = case_model("bigbird", bigbird_implementation=implementation), random_tokens(1, 9)
    for hidden in (slice(2, 3), slice(0, 1)):
        cache, mask = DynamicCache(config=model.config), torch.ones(1, 9)
        model(tokens[:, :8], past_key_values=cache)
        mask[:, hidden] = 0
        with pytest.raises(ValueError, match="attention_type='bigbird' cannot forget.*start with a new cache"):
            model(tokens[:, 8:], attention_mask=mask, past_key_values=cache)
