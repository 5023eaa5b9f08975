"""Heads for sequences, tokens and answers in a text, on a causal model or an encoder.

They are the generic classes of transformers. The class of a sequence is read at its last token, which has seen all
others also in a causal model.
"""

from transformers.modeling_layers import (
    GenericForQuestionAnswering,
    GenericForSequenceClassification,
    GenericForTokenClassification,
)

from .modeling_base import BirthGPTPreTrainedModel


class BirthGPTForSequenceClassification(GenericForSequenceClassification, BirthGPTPreTrainedModel):
    """One class, or one number, for each sequence."""


class BirthGPTForTokenClassification(GenericForTokenClassification, BirthGPTPreTrainedModel):
    """One class for each token."""


class BirthGPTForQuestionAnswering(GenericForQuestionAnswering, BirthGPTPreTrainedModel):
    """The first and the last token of an answer that stands in the text."""


__all__ = ["BirthGPTForQuestionAnswering", "BirthGPTForSequenceClassification", "BirthGPTForTokenClassification"]
