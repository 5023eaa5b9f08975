"""`Trainer` of transformers evaluates, keeps the best model, and resumes, with no setting for this package."""

import pytest
import torch
from safetensors.torch import load_file


def test_the_best_checkpoint_has_the_smallest_loss_and_a_resumed_run_the_same_weights(run, workspace):
    found = run("trainer")
    trainer, collator, rows = found["trainer"], found["collator"], found["rows"]
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(min(losses), rel=1e-6)
    # the mean over all labels, by one forward pass
    batch = collator([rows[index] for index in range(len(rows))])
    labels = batch.pop("labels")[:, 1:]
    with torch.no_grad():
        logits = trainer.model.eval()(**batch).logits[:, :-1]
    own = torch.nn.functional.cross_entropy(logits[labels != -100], labels[labels != -100])
    assert min(losses) == pytest.approx(own.item(), rel=1e-5)

    resumed = run("trainer_resume")["trainer"].model.state_dict()
    # six updates without a stop
    for name, weight in load_file("runs/trainer/checkpoint-6/model.safetensors").items():
        assert torch.equal(resumed[name], weight), name
