"""The loss of targets that allow every token but the unknown answer."""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.loss.loss_utils import ForCausalLMLoss

from birthgpt.data.objectives import IGNORE, NOT_UNKNOWN
from birthgpt.data.tokenizers import unknown_answer_id


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
