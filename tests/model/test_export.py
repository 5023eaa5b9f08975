"""`torch.export` captures every attention type as one graph, which serves batches of every shape, with padding."""

from io import BytesIO

import pytest
import torch
from builders import CASES, case_config, case_model, is_bidirectional, random_tokens, seeded_encoder
from torch import nn
from torch.export import Dim, export

from birthgpt.model.attention import ATTENTION_TYPES

FURTHER = (
    "softmax-rotary softmax-canon softmax-ngrams bigbird-dense perceiver-cs224n perceiver-canon "
    "synthesizer-factorized-dense synthesizer-alpha abc-position linformer-of-two-windows"
)


class Logits(nn.Module):
    """The logits of a model as a function of tokens and mask."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.model(input_ids, attention_mask=attention_mask, use_cache=False).logits


class States(nn.Module):
    """The states of an encoder as a function of tokens and mask."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.model(input_ids, attention_mask=attention_mask).last_hidden_state


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "padded"),
    [*((case, True) for case in (*ATTENTION_TYPES, *FURTHER.split())), ("softmax", False), ("linformer", False)],
)
def test_an_exported_model_has_the_logits_of_the_model(case, padded):
    check_export(Logits(case_model(case)), padded)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [*filter(is_bidirectional, ATTENTION_TYPES), "softmax-rotary", "perceiver-rotary", "bigbird-dense"]
)
def test_an_exported_encoder_has_the_states_of_the_encoder(case):
    check_export(States(seeded_encoder(case_config(case, is_causal=False, **CASES[case]))), padded=True)


def check_export(model: nn.Module, padded: bool) -> None:
    """One graph of the model, saved and loaded, serves batches of every shape."""
    inputs = {"input_ids": random_tokens(2, 12)}
    if padded:
        inputs["attention_mask"] = torch.ones(2, 12, dtype=torch.long)
    shape = {0: Dim("batch", max=64), 1: Dim("length", min=2, max=60)}
    with torch.no_grad():
        graph, file = export(model, (), inputs, dynamic_shapes=dict.fromkeys(inputs, shape), strict=False), BytesIO()
        torch.export.save(graph, file)
        file.seek(0)
        exported = torch.export.load(file).module()
        for batch, length in ((2, 12), (3, 17), (1, 60), (5, 2)):
            inputs = {"input_ids": random_tokens(batch, length)}
            kept = torch.ones(batch, length, dtype=torch.long)
            if padded:
                # on the left of the first row, on the right of the last, where there is room
                kept[0, : length // 4] = 0
                kept[-1, length - length // 4 :] = 0
                inputs["attention_mask"] = kept
            of_graph, of_model = (each(**inputs)[kept.bool()] for each in (exported, model))
            torch.testing.assert_close(of_graph, of_model, rtol=0, atol=1e-9)
