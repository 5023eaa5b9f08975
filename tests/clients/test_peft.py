"""PEFT trains, saves, loads and merges adapters of every linear layer."""

import torch
from builders import random_tokens


def test_a_merged_adapter_is_the_trained_model(run, workspace):
    found = run("peft_lora")
    trained, merged, (base, _) = found["trainer"].model.eval(), found["merged"].eval(), workspace.load()
    adapted = {name.split(".lora_A")[0] for name, _ in trained.named_parameters() if ".lora_A" in name}
    for number in range(base.config.num_hidden_layers):
        assert any(f"layers.{number}.attention" in name for name in adapted), adapted
        assert any(f"layers.{number}.mlp" in name for name in adapted), adapted
    tokens = random_tokens(2, 20, vocab_size=base.config.vocab_size)
    with torch.no_grad():
        of_trained, of_merged, of_base = (model(tokens).logits for model in (trained, merged, base))
    torch.testing.assert_close(of_merged, of_trained, rtol=1e-4, atol=1e-4)
    assert (of_trained - of_base).abs().max() > 0.1
    assert {name for name, _ in merged.named_parameters()} == {name for name, _ in base.named_parameters()}
    losses = [entry["loss"] for entry in found["trainer"].state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
