"""What a process computes while only others have lines left adds nothing to the training, in every attention type."""

import pytest
import torch
from builders import CASES, case_model, random_tokens

from birthgpt.data.batching import empty_batch, model_inputs
from birthgpt.data.objectives import IGNORE
from birthgpt.model import BirthGPTEncoderDecoderConfig, BirthGPTForConditionalGeneration


def backward(model, batch) -> torch.Tensor:
    """The loss, as the trainer computes it."""
    keep = batch["shift_labels"] != IGNORE
    loss = model(**model_inputs(batch), logits_to_keep=keep, num_items_in_batch=7, use_cache=False).loss
    loss.backward()
    return loss


def check_that_nothing_is_added(model, full: dict, batch: dict) -> None:
    backward(model.train(), full)
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    assert backward(model, batch) == 0
    for name, parameter in model.named_parameters():
        # processes exchange the same gradients, or wait for each other
        assert (parameter.grad is not None) == (name in trained), name
        assert parameter.grad is None or not parameter.grad.any(), name


@pytest.mark.parametrize("case", CASES)
def test_a_batch_without_targets_adds_nothing_to_loss_and_gradients(case):
    tokens = random_tokens(2, 19)
    full = {"input_ids": tokens, "shift_labels": tokens}
    check_that_nothing_is_added(case_model(case, torch.float32), full, empty_batch(0))


def test_an_empty_batch_of_an_encoder_decoder_adds_nothing():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32}
    config = BirthGPTEncoderDecoderConfig(**sizes, vocab_size=40, pad_token_id=0, decoder_start_token_id=1)
    tokens = random_tokens(2, 9) % 40
    full = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "decoder_input_ids": tokens}
    batch = empty_batch(0, for_encoder_decoder=True)
    check_that_nothing_is_added(BirthGPTForConditionalGeneration(config), full | {"shift_labels": tokens}, batch)
