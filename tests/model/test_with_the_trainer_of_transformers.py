"""`Trainer` of transformers trains and evaluates the models as it does its own."""

import copy

import numpy as np
import pytest
import torch
from builders import NAMES, case_model, random_tokens, seq2seq_config
from datasets import Dataset
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
)
from transformers.utils.generic import find_labels

from birthgpt import BirthGPTForCausalLM, BirthGPTForConditionalGeneration
from birthgpt.model.attention import ATTENTION_TYPES


def right_share(predictions) -> dict[str, float]:
    """The share of next tokens that have the largest logit."""
    right = predictions.predictions.argmax(-1)[:, :-1] == predictions.label_ids[:, 1:]
    return {"accuracy": float(np.mean(right))}


def build_trainer(model, folder, **arguments) -> Trainer:
    """Four updates on 12 rows, with an evaluation and a checkpoint after every two."""
    tokens = random_tokens(12, 9).tolist()
    rows = Dataset.from_dict({"input_ids": tokens, "labels": tokens})
    settings = {
        "max_steps": 4,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 2,
        "per_device_eval_batch_size": 4,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
    }
    return Trainer(
        model,
        TrainingArguments(output_dir=str(folder), **settings, **arguments),
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=right_share,
    )


@pytest.mark.parametrize("name", ATTENTION_TYPES)
def test_the_best_of_its_checkpoints_has_the_loss_and_accuracy_of_the_model(name, tmp_path):
    model = case_model(name, torch.float32)
    # the larger loss counts as better, so the first checkpoint must be loaded again
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss", "greater_is_better": True}
    trainer = build_trainer(model, tmp_path, learning_rate=0.01, **best)
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert losses[0] > losses[1]
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == losses[0]
    tokens = random_tokens(12, 9)
    with torch.no_grad():
        outputs = model.eval()(tokens, labels=tokens)
    assert metrics["eval_loss"] == pytest.approx(outputs.loss.item(), rel=1e-5)
    right = outputs.logits.argmax(-1)[:, :-1] == tokens[:, 1:]
    assert metrics["eval_accuracy"] == pytest.approx(right.double().mean().item())


def test_labels_are_the_only_input_that_must_be_there():
    assert find_labels(BirthGPTForCausalLM) == ["labels"]


def test_the_sequence_to_sequence_trainer_trains_and_generates(tmp_path, bpe):
    torch.manual_seed(0)
    config = seq2seq_config(
        "softmax", vocab_size=len(bpe), encoder_attention_type="linformer", decoder_start_token_id=bpe.mask_token_id,
        pad_token_id=bpe.pad_token_id, eos_token_id=bpe.eos_token_id, initializer_range=0.05, hidden_size=32,
    )  # fmt: skip
    model = BirthGPTForConditionalGeneration(config)
    places = ["London", "Manchester", "Paris", "Vienna"]
    rows = [
        {"input_ids": bpe(f"Where was {name} born?")["input_ids"], "labels": bpe(f"{place}␃")["input_ids"]}
        for name, place in zip(NAMES, places, strict=True)
    ]
    arguments = Seq2SeqTrainingArguments(
        str(tmp_path), max_steps=150, learning_rate=5e-3, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        predict_with_generate=True, generation_max_length=24, label_smoothing_factor=0.0, disable_tqdm=True,
    )  # fmt: skip
    # on the left, an output would not follow the token that starts it
    bpe = copy.deepcopy(bpe)
    bpe.padding_side = "right"
    collator = DataCollatorForSeq2Seq(bpe, model=model)
    batch = collator(rows)
    # the collator asks the model for the inputs of the decoder
    assert (batch["decoder_input_ids"][:, 0] == bpe.mask_token_id).all() and (batch["labels"] == -100).any()
    trainer = Seq2SeqTrainer(
        model=model, args=arguments, train_dataset=rows, eval_dataset=rows, data_collator=collator,
        processing_class=bpe,
    )  # fmt: skip
    trainer.train()
    predictions = trainer.predict(rows).predictions
    assert [bpe.decode(row, skip_special_tokens=True) for row in predictions] == places
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "checkpoint-150")
    assert isinstance(loaded, BirthGPTForConditionalGeneration)
