"""The heads for sequences, tokens and answers, on every attention type, causal and bidirectional."""

import pytest
import torch
from builders import case_config, is_bidirectional, left_padded, random_tokens
from torch import nn
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    Trainer,
    TrainingArguments,
)

from birthgpt import BirthGPTForCausalLM
from birthgpt.model.attention import ATTENTION_TYPES

HEADS = {
    "sequence": (AutoModelForSequenceClassification, {"labels": torch.tensor([2, 0])}),
    "token": (AutoModelForTokenClassification, {"labels": random_tokens(2, 9) % 3}),
    "question": (
        AutoModelForQuestionAnswering,
        {"start_positions": torch.tensor([1, 3]), "end_positions": torch.tensor([4, 8])},
    ),
}
every = [
    pytest.mark.parametrize("case", ATTENTION_TYPES),
    pytest.mark.parametrize("is_causal", [True, False], ids=["causal", "encoder"]),
    pytest.mark.parametrize("head", HEADS),
]


def head_model(head: str, case: str, is_causal: bool, dtype=torch.float64) -> nn.Module:
    if not is_causal and not is_bidirectional(case):
        pytest.skip("the type has no bidirectional form")
    torch.manual_seed(0)
    model = HEADS[head][0].from_config(case_config(case, is_causal=is_causal, num_labels=3))
    return model.to(dtype).eval()


def scores_of(model, tokens, **arguments) -> torch.Tensor:
    """The logits, (batch, …, classes); of an answer, those of first and last token."""
    with torch.no_grad():
        outputs = model(tokens, **arguments)
    return torch.stack((outputs.start_logits, outputs.end_logits), -1) if "start_logits" in outputs else outputs.logits


@every[0]
@every[1]
@every[2]
def test_a_head_is_trained_and_saved_with_its_model(case, is_causal, head, tmp_path):
    model, tokens = head_model(head, case, is_causal, torch.float32), random_tokens(2, 9)
    loss = model(tokens, **HEADS[head][1]).loss
    loss.backward()
    head_weights = model.get_parameter("qa_outputs.weight" if head == "question" else "score.weight")
    assert loss.isfinite() and head_weights.grad.any() and model.model.embed_tokens.weight.grad.any()
    assert model.model.config.is_causal == is_causal
    model.save_pretrained(tmp_path)
    loaded = HEADS[head][0].from_pretrained(tmp_path)
    assert torch.equal(scores_of(loaded, tokens), scores_of(model, tokens))


@every[0]
@every[1]
@every[2]
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_score_of_a_token(case, is_causal, head, side):
    model, row, other = head_model(head, case, is_causal), random_tokens(1, 7), random_tokens(1, 10, seed=3)
    pads = (3, 0) if side == "left" else (0, 3)
    tokens = torch.cat((nn.functional.pad(row, pads), other))
    mask = torch.cat((nn.functional.pad(torch.ones_like(row), pads), torch.ones_like(other)))
    scores, alone = scores_of(model, tokens, attention_mask=mask)[0], scores_of(model, row)[0]
    torch.testing.assert_close(scores if head == "sequence" else scores[mask[0].bool()], alone, rtol=0, atol=1e-10)


def test_the_scores_are_a_linear_map_of_the_states():
    tokens, mask = left_padded([random_tokens(1, 9)[0], random_tokens(1, 6, seed=3)[0]], 9)
    for is_causal in (True, False):
        model = head_model("sequence", "softmax", is_causal)
        with torch.no_grad():
            states = model.model(tokens, attention_mask=mask).last_hidden_state
        expected = states[:, -1] @ model.score.weight.T
        torch.testing.assert_close(scores_of(model, tokens, attention_mask=mask), expected, rtol=0, atol=1e-12)


def test_a_language_model_is_where_a_head_may_start(tmp_path):
    torch.manual_seed(0)
    model = BirthGPTForCausalLM(case_config("softmax"))
    model.save_pretrained(tmp_path)
    head, report = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert report["missing_keys"] == {"score.weight"}
    for name, weights in model.model.state_dict().items():
        assert torch.equal(weights, head.model.state_dict()[name]), name


def test_the_trainer_of_transformers_trains_a_head(tmp_path):
    model = head_model("sequence", "linformer", False, torch.float32)
    # the class of a sequence is whether a token is in it
    rows = [{"input_ids": row.tolist(), "label": int(5 in row)} for row in random_tokens(64, 6)]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=30, learning_rate=1e-2, report_to=[], use_cpu=True, per_device_train_batch_size=64
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    tokens = torch.tensor([row["input_ids"] for row in rows])
    right = scores_of(model.eval(), tokens).argmax(dim=-1) == torch.tensor([row["label"] for row in rows])
    assert right.float().mean() > 0.9
