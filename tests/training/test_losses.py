"""The loss of *any token but unknown* is that of the sum of all others, and leaves their proportions as they are."""

import copy

import pytest
import torch
from builders import tiny_model

from birthgpt.data.objectives import IGNORE, NOT_UNKNOWN
from birthgpt.data.tokenizers import add_unknown_answer_token
from birthgpt.training.losses import KnownNameLoss, UnlearnedTargetLoss, leave_out_known, teach_known_names

SIZE, UNKNOWN = 7, 5


def logits_and_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, SIZE, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([[1, IGNORE, NOT_UNKNOWN, 2], [IGNORE] * 4, [NOT_UNKNOWN, UNKNOWN, 0, IGNORE]])
    return logits, labels


@pytest.mark.parametrize("count", [None, 20, torch.tensor(20)])
def test_the_loss_is_the_mean_over_all_targets_one_by_one(count):
    logits, labels = logits_and_labels()
    total, targets = 0.0, 0
    for scores, label in zip(logits.view(-1, SIZE).float(), labels.view(-1).tolist(), strict=True):
        if label == IGNORE:
            continue
        targets += 1
        probabilities = scores.softmax(dim=-1)
        total -= torch.log(1 - probabilities[UNKNOWN] if label == NOT_UNKNOWN else probabilities[label]).item()
    loss = KnownNameLoss(UNKNOWN)(logits, None, SIZE, labels, num_items_in_batch=count)
    assert loss.item() == pytest.approx(total / (targets if count is None else 20), rel=1e-5)


def test_without_such_a_label_the_loss_is_that_of_transformers():
    logits, labels = logits_and_labels()
    labels = labels.masked_fill(labels == NOT_UNKNOWN, IGNORE)
    torch.manual_seed(0)
    model = tiny_model(vocab_size=SIZE)
    given = {"logits": logits, "labels": None, "vocab_size": SIZE, "shift_labels": labels, "num_items_in_batch": 9}
    assert KnownNameLoss(UNKNOWN)(**given).item() == model.loss_function(**given).item()


def test_other_answers_gain_in_proportion_to_their_probability():
    logits = torch.randn(1, 1, SIZE, generator=torch.Generator().manual_seed(1)).requires_grad_()
    KnownNameLoss(UNKNOWN)(logits, None, SIZE, torch.tensor([[NOT_UNKNOWN]])).backward()
    gradient, p = -logits.grad.flatten(), logits.detach().flatten().softmax(dim=-1)
    gain = gradient / p
    others = torch.arange(SIZE) != UNKNOWN
    assert gradient[UNKNOWN] < 0
    torch.testing.assert_close(gain[others], gain[0].expand(SIZE - 1))


def test_a_probability_of_one_and_of_zero_give_finite_gradients():
    logits = torch.full((2, 1, SIZE), -50.0)
    logits[0, 0, UNKNOWN] = logits[1, 0, 0] = 50.0
    logits.requires_grad_()
    loss = KnownNameLoss(UNKNOWN)(logits, None, SIZE, torch.full((2, 1), NOT_UNKNOWN))
    loss.backward()
    assert loss.item() == pytest.approx(50, rel=0.1) and logits.grad.isfinite().all()


def test_a_model_is_trained_with_it_and_saved_without_it(bpe, tmp_path):
    tokenizer = copy.deepcopy(bpe)
    add_unknown_answer_token(tokenizer)
    torch.manual_seed(0)
    model = tiny_model(vocab_size=len(tokenizer), hidden_dropout=0.0, attention_dropout=0.0).float()
    teach_known_names(model, tokenizer)
    inputs = tokenizer("Where was Ada Lovelace born?⁇", return_tensors="pt")["input_ids"]
    labels = torch.full_like(inputs, IGNORE)
    labels[0, -1] = NOT_UNKNOWN
    keep = labels != IGNORE
    output = model(input_ids=inputs, shift_labels=labels, logits_to_keep=keep, num_items_in_batch=1)
    p = output.logits[0].softmax(dim=-1)[tokenizer.unknown_answer_token_id]
    assert output.loss.item() == pytest.approx(-torch.log1p(-p).item(), rel=1e-4)
    model.save_pretrained(tmp_path)
    assert type(type(model).from_pretrained(tmp_path).loss_function) is not KnownNameLoss


@pytest.mark.parametrize("count", [None, 20, torch.tensor(20)])
@pytest.mark.parametrize("inner", ["transformers", "known names"])
def test_targets_that_are_known_have_no_loss_and_no_gradient(inner, count):
    logits, labels = logits_and_labels()
    with torch.no_grad():
        # known, and not quite
        logits[0, 0, 1], logits[0, 3, 2] = 9.0, 1.0
    all_targets = KnownNameLoss(UNKNOWN)
    if inner == "transformers":
        labels = labels.masked_fill(labels == NOT_UNKNOWN, IGNORE)
        all_targets = tiny_model(vocab_size=SIZE).loss_function
    given = {"logits": logits, "labels": None, "vocab_size": SIZE, "num_items_in_batch": count}
    loss = UnlearnedTargetLoss(all_targets, 0.9)(**given, shift_labels=labels)
    loss.backward()
    assert not logits.grad[0, 0].any() and logits.grad[0, 3].any()
    others = labels.clone()
    others[0, 0] = IGNORE
    mean = all_targets(**{**given, "num_items_in_batch": None}, shift_labels=others)
    # the share of this micro-batch in all targets
    share = 1 if count is None else int((labels != IGNORE).sum()) / 20
    assert loss.item() == pytest.approx(share * mean.item(), rel=1e-6)


def test_a_batch_whose_targets_are_all_known_has_a_loss_of_zero():
    logits = torch.zeros(1, 2, SIZE)
    logits[..., 3] = 50.0
    logits.requires_grad_()
    loss = UnlearnedTargetLoss(tiny_model(vocab_size=SIZE).loss_function, 0.9)(
        logits, None, SIZE, torch.tensor([[3, 3]])
    )
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_a_probability_of_one_leaves_the_loss_as_it_is():
    model = tiny_model(vocab_size=SIZE)
    before = model.loss_function
    leave_out_known(model, 1.0)
    assert model.loss_function is before
    leave_out_known(model, 0.5)
    assert isinstance(model.loss_function, UnlearnedTargetLoss)
