"""Optimizers contain every parameter once and decay the right ones."""

import pytest
import torch
from builders import VARIANTS, random_tokens, tiny_model

from birthgpt.training.optimizers import OptimizerSettings, RowAdam, build_optimizers, clip_sparse_gradients

SETTINGS = {"learning_rate": 1e-2, "weight_decay": 0.1, "adam_beta1": 0.9, "adam_beta2": 0.95}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_is_trained_once(variant, optimizer):
    model = tiny_model(variant)
    optimizers = build_optimizers(model, OptimizerSettings(optimizer=optimizer, **SETTINGS))
    held = [id(p) for opt in optimizers for group in opt.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def names_where(model, optimizers, condition) -> set[str]:
    chosen = {
        id(p) for opt in optimizers for group in opt.param_groups if condition(opt, group) for p in group["params"]
    }
    return {name for name, p in model.named_parameters() if id(p) in chosen}


def test_adamw_decays_linear_weights_only_and_a_tied_head_is_an_embedding():
    for variant, head in (("assignment", {"lm_head.weight"}), ("modern", set())):
        model = tiny_model(variant)
        decayed = names_where(
            model,
            build_optimizers(model, OptimizerSettings(optimizer="adamw", **SETTINGS)),
            lambda _, g: g["weight_decay"],
        )
        linear = {n for n, p in model.named_parameters() if "layers" in n and p.ndim == 2}
        assert decayed == linear | head


def test_muon_takes_the_matrices_of_the_blocks():
    model = tiny_model("assignment")
    optimizers = build_optimizers(model, OptimizerSettings(optimizer="muon", **SETTINGS))
    by_muon = names_where(model, optimizers, lambda opt, _: isinstance(opt, torch.optim.Muon))
    assert by_muon == {n for n, p in model.named_parameters() if "layers" in n and p.ndim == 2}


def test_a_muon_step_has_the_size_of_an_adamw_step():
    model = tiny_model("modern").float()
    muon, _ = build_optimizers(model, OptimizerSettings(optimizer="muon", **{**SETTINGS, "weight_decay": 0.0}))
    before = {id(p): p.detach().clone() for p in model.parameters()}
    tokens = random_tokens(4, 16)
    model(tokens, labels=tokens).loss.backward()
    muon.step()
    for matrix in muon.param_groups[0]["params"]:
        size = (matrix - before[id(matrix)]).pow(2).mean().sqrt().item()
        # 0.2 × the rate, up to the spread of Newton–Schulz's singular values
        assert 0.5 * 0.2 * 1e-2 < size < 1.5 * 0.2 * 1e-2


def test_an_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="optimizer='sgd' does not exist: choose from adamw, muon"):
        OptimizerSettings(optimizer="sgd")


def test_muon_decays_matrices_alone_and_adamw_has_the_betas_given():
    muon, adamw = build_optimizers(tiny_model(), OptimizerSettings(optimizer="muon", **SETTINGS))
    assert [group["weight_decay"] for group in muon.param_groups] == [0.1]
    assert [(group["weight_decay"], group["betas"]) for group in adamw.param_groups] == [(0.0, (0.9, 0.95))]


def row_gradients(rows: list[int], size: int = 8, width: int = 4) -> torch.Tensor:
    """Sparse gradients of a table; a row that is listed twice has two parts."""
    return torch.sparse_coo_tensor(
        torch.tensor([rows]), torch.randn(len(rows), width), (size, width), check_invariants=True
    )


BATCHES = [[0, 3, 3], [5], [3, 0, 7], [3, 0]]
"""The rows of a table that are in each of four updates."""


def test_row_adam_is_sparse_adam_of_torch_without_momentum():
    ours, theirs = (torch.nn.Parameter(torch.ones(8, 4)) for _ in range(2))
    optimizers = [RowAdam([ours], lr=0.1, beta2=0.9), torch.optim.SparseAdam([theirs], lr=0.1, betas=(0.0, 0.9))]
    for rows in BATCHES:
        ours.grad = row_gradients(rows)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    assert (ours[[1, 2, 4, 6]] == 1).all(), "rows without a gradient stay"


def test_row_adam_has_the_same_result_for_sparse_and_dense_gradients():
    sparse, dense = (torch.nn.Parameter(torch.ones(8, 4)) for _ in range(2))
    optimizers = [RowAdam([table], lr=0.1, beta2=0.9) for table in (sparse, dense)]
    for rows in BATCHES:
        sparse.grad = row_gradients(rows).coalesce()
        if 7 in rows:
            # row 0 was read, but has no part in the loss
            sparse.grad.values()[0] = 0
        dense.grad = sparse.grad.to_dense()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(sparse, dense)


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_sparse_gradients_are_clipped_like_dense_ones(max_norm):
    sparse, dense, matrix, same_matrix = (torch.nn.Parameter(torch.ones(8, 4)) for _ in range(4))
    sparse.grad, matrix.grad = row_gradients([0, 3, 3]), torch.randn(8, 4)
    dense.grad, same_matrix.grad = sparse.grad.to_dense(), matrix.grad.clone()
    clip_sparse_gradients([sparse, matrix], max_norm)
    torch.nn.utils.clip_grad_norm_([dense, same_matrix], max_norm)
    torch.testing.assert_close(sparse.grad.to_dense(), dense.grad)
    torch.testing.assert_close(matrix.grad, same_matrix.grad)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_sparse_ngrams_has_every_parameter_once_and_the_tables_by_row_adam(optimizer):
    model = tiny_model("modern", ngram_orders=[2, 3])
    settings = OptimizerSettings(optimizer=optimizer, sparse_ngrams=True, **SETTINGS)
    optimizers = build_optimizers(model, settings)
    held = [id(p) for opt in optimizers for group in opt.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    by_rows = names_where(model, optimizers, lambda opt, _: isinstance(opt, RowAdam))
    assert by_rows == {name for name, _ in model.named_parameters() if "embed_ngrams" in name} != set()


def test_sparse_ngrams_without_ngrams_is_named(caplog):
    (_,) = build_optimizers(tiny_model("modern"), OptimizerSettings(sparse_ngrams=True, **SETTINGS))
    assert "sparse_ngrams=True has no effect: the model has no embeddings of n-grams" in caplog.text
