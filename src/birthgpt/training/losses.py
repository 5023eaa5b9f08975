"""Losses: of targets that allow every token but the unknown answer, and of those that are not learned yet."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.loss.loss_utils import ForCausalLMLoss

from birthgpt.data.objectives import IGNORE, NOT_UNKNOWN
from birthgpt.data.tokenizers import unknown_answer_id
from birthgpt.settings import Number, checked, setting


@checked
@dataclass(kw_only=True)
class LossSettings:
    """Which targets have a loss."""

    leave_out_known: Number = setting(
        1.0, "targets that the model gives a higher probability are known, and have no loss; 1: all have one",
        above=0, max=1,
    )  # fmt: skip


class KnownNameLoss:
    """Cross-entropy; where the label is `NOT_UNKNOWN`, −log(1 − p(␀)) instead.

    The gradient of log(1 − p(␀)) is the mean of the gradients of log p(t) over all other tokens t, weighted by their
    probabilities. So it makes a model say that it knows a name, and leaves the proportions of its answers as they are.

    Args:
        unknown_id: the token ␀.
    """

    def __init__(self, unknown_id: int):
        self.unknown_id = unknown_id

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor | None,
        vocab_size: int,
        shift_labels: torch.Tensor,
        num_items_in_batch: int | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of `logits` (…, vocab_size) for `shift_labels` (…): a sum, divided by the number of targets."""
        scores, targets = logits.float().view(-1, vocab_size), shift_labels.view(-1)
        count = (targets != IGNORE).sum() if num_items_in_batch is None else torch.as_tensor(num_items_in_batch)
        is_open = targets == NOT_UNKNOWN
        others = targets.masked_fill(is_open, IGNORE)
        loss = ForCausalLMLoss(scores, labels, vocab_size, count, shift_labels=others)
        is_unknown = torch.arange(vocab_size, device=scores.device) == self.unknown_id
        rest = scores.masked_fill(is_unknown, -torch.inf).logsumexp(dim=-1)
        # −log(1 − p) = log(1 + p / (1 − p)), without a difference of almost equal numbers
        refusals = torch.nn.functional.softplus(scores[:, self.unknown_id] - rest).masked_fill(~is_open, 0.0)
        return loss + refusals.sum() / count.to(scores.device)


def teach_known_names(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Train this model with `KnownNameLoss`; it is not saved with the model."""
    unknown_id = unknown_answer_id(tokenizer)
    assert unknown_id is not None, "the token is added before the model is built"
    model.loss_function = KnownNameLoss(unknown_id)


class UnlearnedTargetLoss:
    """The mean loss of the targets t with p(t) ≤ `known`: an update serves what is not known.

        L = −(1 / U) Σ_t [p(t) ≤ known] · log p(t),    U: the number of these targets

    Selecting facts by the training loss alone lets a small model store more of them (2604.08519, where lines are
    selected). With several processes or accumulation, each micro-batch has the mean of its own unlearned targets, and
    the weight of all of its targets.

    Args:
        loss: the loss of all targets.
        known: the probability above which a target is known, in (0, 1).
    """

    def __init__(self, loss: Callable[..., torch.Tensor], known: float):
        self.loss, self.known = loss, known

    def __call__(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor | None,
        vocab_size: int,
        shift_labels: torch.Tensor,
        num_items_in_batch: int | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of `logits` (…, vocab_size) for `shift_labels` (…), with the weight of all targets."""
        scores, targets = logits.detach().float().view(-1, vocab_size), shift_labels.view(-1)
        # labels that are no token, such as `IGNORE`, are negative
        own = scores.gather(-1, targets.clamp(min=0)[:, None])[:, 0]
        is_known = (targets >= 0) & ((own - scores.logsumexp(dim=-1)).exp() > self.known)
        unlearned = shift_labels.masked_fill(is_known.view(shift_labels.shape), IGNORE)
        total = (targets != IGNORE).sum()
        count = total if num_items_in_batch is None else num_items_in_batch
        loss = self.loss(
            logits=logits, labels=labels, vocab_size=vocab_size, shift_labels=unlearned, num_items_in_batch=count
        )
        return loss * total / (unlearned != IGNORE).sum().clamp(min=1)


def leave_out_known(model: PreTrainedModel, known: float) -> None:
    """Train this model with `UnlearnedTargetLoss`, unless `known` is 1; it is not saved with the model."""
    if known < 1:
        model.loss_function = UnlearnedTargetLoss(model.loss_function, known)
