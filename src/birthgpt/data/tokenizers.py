"""Two tokenizers of the tokenizers library: one token per character, and byte-level BPE.

Both have reserved characters. These are special tokens everywhere in a text, so text that contains them is
refused when it is read (`sources.clean_text`):

- ``⁇`` is the mask token: it marks where a masked span or an answer begins.
- ``␃`` is the end-of-sequence token, which ends a span or an answer. The recipe of the assignment has no such token:
  there, ``⁇`` also ends an answer.
- ``□`` is the pad token.
- ``␀`` is the unknown-answer token, the whole answer to a question about a name that the model never read. A tokenizer
  has it only if a model is trained to give this answer; it is not the unknown token (``unk_token``), which stands for a
  character that the tokenizer does not know.

A tokenizer appends nothing, so the tokens of a prompt are the first tokens of the prompt with its completion. The full
text of an answered question is ``question⁇answer␃``, or ``question⁇␀␃``.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from birthgpt.settings import checked, setting

logger = logging.getLogger(__name__)

MASK_TOKEN = "⁇"
EOS_TOKEN = "␃"
PAD_TOKEN = "□"
UNKNOWN_ANSWER_TOKEN = "␀"
RESERVED_TOKENS = (MASK_TOKEN, EOS_TOKEN, PAD_TOKEN, UNKNOWN_ANSWER_TOKEN)
UNKNOWN_TOKEN = "\ufffd"

CHAT_TEMPLATE = """{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{{ message['content'] + MASK }}
{%- elif message['role'] == 'assistant' -%}
{%- generation -%}{{ message['content'] + eos_token }}{%- endgeneration -%}
{%- else -%}{{ raise_exception('the roles are user (a question) and assistant (its answer)') }}
{%- endif -%}
{%- endfor -%}""".replace("MASK", repr(MASK_TOKEN))
"""`question⁇answer␃`. The markers of the answer are for a loss on the answers only."""

# words, numbers and single punctuation marks, each with the space before it: a mark is never merged with a name
_PIECES = r" ?\p{L}[\p{L}\p{M}]*| ?\p{N}+| ?[^\s\p{L}\p{N}]|\s+(?!\S)|\s+"


@checked
@dataclass(kw_only=True)
class TokenizerSettings:
    """The tokenizer, unless a checkpoint has one."""

    tokenizer_name_or_path: str | None = setting(None, "use this tokenizer instead of training one")
    tokenizer_type: Literal["character", "bpe"] = setting("character", "kind of tokenizer to train on the corpus")
    vocab_size: int = setting(2048, "tokens of a bpe tokenizer", min=1)
    answer_end: Literal["eos", "mask"] = setting(
        "eos", "what ends an answer: eos, a token of its own, or mask, the token ⁇ as in the assignment"
    )


def train_tokenizer(
    settings: TokenizerSettings, texts: Iterable[str], model_max_length: int
) -> PreTrainedTokenizerFast:
    """Train a tokenizer of the type that the settings name."""
    eos_token = EOS_TOKEN if settings.answer_end == "eos" else MASK_TOKEN
    if settings.tokenizer_type == "character":
        return train_character_tokenizer(texts, model_max_length, eos_token=eos_token)
    return train_bpe_tokenizer(texts, settings.vocab_size, model_max_length, eos_token=eos_token)


def question_prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """A question with the ⁇ after which its answer begins; also the chat template adds it."""
    return f"{question}{tokenizer.mask_token}"


def add_unknown_answer_token(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer the token ``␀`` as its last one, unless it has it; all other tokens keep their ids.

    Afterwards `tokenizer.unknown_answer_token` and `tokenizer.unknown_answer_token_id` exist, also when it is loaded.
    """
    if unknown_answer_id(tokenizer) is not None:
        return
    token = AddedToken(UNKNOWN_ANSWER_TOKEN, special=True, normalized=False)
    # as an extra token, it is skipped with the other special tokens
    tokenizer.add_special_tokens({"extra_special_tokens": [token]}, replace_extra_special_tokens=False)
    # transformers names such a token only when a tokenizer is made
    tokenizer._set_model_specific_special_tokens({"unknown_answer_token": UNKNOWN_ANSWER_TOKEN})


def unknown_answer_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The id of the unknown-answer token; None for a tokenizer without it."""
    return getattr(tokenizer, "unknown_answer_token_id", None)


def train_character_tokenizer(
    texts: Iterable[str], model_max_length: int, *, eos_token: str = EOS_TOKEN
) -> PreTrainedTokenizerFast:
    """A tokenizer with the special tokens ``□`` (0), ``⁇`` (1), unknown, ``␃`` and all characters of `texts`, sorted.

    Decoding returns exactly the same text, including white space. A character that is not in `texts` becomes the
    unknown token (see `warn_unknown_characters`).

    Raises:
        ValueError: `texts` contains no character.
    """
    special = list(dict.fromkeys([PAD_TOKEN, MASK_TOKEN, UNKNOWN_TOKEN, eos_token]))
    characters = sorted({character for text in texts for character in text} - set(special))
    if not characters:
        raise ValueError("no text to build a character vocabulary from")

    vocabulary = {token: index for index, token in enumerate(special + characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_TOKEN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return _with_special_tokens(tokenizer, special, model_max_length, eos_token=eos_token, unk_token=UNKNOWN_TOKEN)


def train_bpe_tokenizer(
    texts: Iterable[str], vocab_size: int, model_max_length: int, *, eos_token: str = EOS_TOKEN
) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Sennrich et al. 2016, Radford et al. 2019) with ``□`` (0), ``⁇`` (1), ``␃`` (2) and all bytes.

    A space is added at the start of a text and after a special token, unless there already is one, and decoding leaves
    out the first one. So a name has the same tokens at the start of its line, after ``⁇`` and in a question, and a
    decoded answer has no space before it. The vocabulary is smaller than `vocab_size` if `texts` contains fewer
    repeated pairs. The same arguments always return the same tokenizer.

    Raises:
        ValueError: `texts` is empty, or `vocab_size` has no room for the bytes and the special tokens.
    """
    special = list(dict.fromkeys([PAD_TOKEN, MASK_TOKEN, eos_token]))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(special) + len(alphabet)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size={vocab_size} is too small: byte-level BPE needs at least {smallest}")

    tokenizer = Tokenizer(models.BPE())
    # n spaces become n + 1, and then n again if n > 0
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(" "), normalizers.Replace(Regex(r"\A  "), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = bpe_decoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_not_empty(texts), trainer)
    return _with_special_tokens(tokenizer, special, model_max_length, eos_token=eos_token)


def bpe_decoder() -> decoders.Decoder:
    """The decoder of BPE tokens, which leaves out the space at the start of a text."""
    return decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", left=1, right=0)])


def count_unknown(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Counter[str]:
    """The count in `texts` of each character that is unknown to `tokenizer`."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return Counter()
    counts = Counter(character for text in texts for character in text)
    return Counter(
        {character: count for character, count in counts.items() if unknown in tokenizer(character).input_ids}
    )


def warn_unknown_characters(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], where: str) -> None:
    """Log one warning with the most common characters that are unknown to `tokenizer`, if there are any.

    Args:
        where: the source of `texts`, such as a file, for the text of the warning.
    """
    counts = count_unknown(tokenizer, texts)
    if counts:
        logger.warning(
            "%s: %d characters (%d distinct) are not in the tokenizer's vocabulary and read as unknown: %s%s",
            where,
            counts.total(),
            len(counts),
            ", ".join(f"{character!r} ({count})" for character, count in counts.most_common(20)),
            ", …" if len(counts) > 20 else "",
        )


class UnknownCharacterWarnings:
    """Warns of the unknown characters of a stream while it is read, of each character once.

    Args:
        tokenizer: the tokenizer that may not know them.
        where: the source of the texts, for the text of the warnings.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, where: str):
        self.tokenizer, self.where = tokenizer, where
        self.seen: set[str] = set()

    def __call__(self, texts: Iterable[str]) -> None:
        """Log a warning if these texts contain unknown characters that earlier texts did not contain."""
        texts = list(texts)
        new = set().union(*texts) - self.seen
        self.seen |= new
        with_new = ["".join(character for character in text if character in new) for text in texts]
        warn_unknown_characters(self.tokenizer, with_new, self.where)


def _with_special_tokens(
    tokenizer: Tokenizer, special: list[str], model_max_length: int, **names: str
) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        mask_token=MASK_TOKEN,
        pad_token=PAD_TOKEN,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **names,
    )


def _not_empty(texts: Iterable[str]) -> Iterator[str]:
    empty = True
    for text in texts:
        empty = False
        yield text
    if empty:
        raise ValueError("no text to train a tokenizer on")
