"""Two tokenizers of the tokenizers library: one token per character, and byte-level BPE.

Both have two reserved characters. These are special tokens everywhere in a text, so text that contains them is refused
when it is read (`sources.clean_text`):

- ``⁇`` opens and closes a masked span or an answer. It is the mask token and the end-of-sequence token.
- ``□`` is the pad token.

The default call appends ``⁇``, so a question alone becomes a complete prompt. ``tokenizer(question, answer)`` returns
``question⁇answer⁇``. Text that already contains its ``⁇`` is encoded with ``add_special_tokens=False``.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from birthgpt.settings import checked, setting

logger = logging.getLogger(__name__)

MASK_TOKEN = "⁇"
PAD_TOKEN = "□"
UNKNOWN_TOKEN = "\ufffd"

# words, numbers and single punctuation marks, each with the space before it: a mark is never merged with a name
_PIECES = r" ?\p{L}[\p{L}\p{M}]*| ?\p{N}+| ?[^\s\p{L}\p{N}]|\s+(?!\S)|\s+"


@checked
@dataclass(kw_only=True)
class TokenizerSettings:
    """The tokenizer, unless a checkpoint has one."""

    tokenizer_name_or_path: str | None = setting(None, "use this tokenizer instead of training one")
    tokenizer_type: Literal["character", "bpe"] = setting("character", "kind of tokenizer to train on the corpus")
    vocab_size: int = setting(2048, "tokens of a bpe tokenizer", min=1)


def train_tokenizer(
    settings: TokenizerSettings, texts: Iterable[str], model_max_length: int
) -> PreTrainedTokenizerFast:
    """Train a tokenizer of the type that the settings name."""
    if settings.tokenizer_type == "character":
        return train_character_tokenizer(texts, model_max_length)
    return train_bpe_tokenizer(texts, settings.vocab_size, model_max_length)


def train_character_tokenizer(texts: Iterable[str], model_max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer with the vocabulary ``□`` (0), ``⁇`` (1), unknown (2) and all characters of `texts`, sorted.

    Decoding returns exactly the same text, including white space. A character that is not in `texts` becomes the
    unknown token (see `warn_unknown_characters`).

    Raises:
        ValueError: `texts` contains no character.
    """
    special = [PAD_TOKEN, MASK_TOKEN, UNKNOWN_TOKEN]
    characters = sorted({character for text in texts for character in text} - set(special))
    if not characters:
        raise ValueError("no text to build a character vocabulary from")

    vocabulary = {token: index for index, token in enumerate(special + characters)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_TOKEN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return _with_special_tokens(tokenizer, special, model_max_length, unk_token=UNKNOWN_TOKEN)


def train_bpe_tokenizer(texts: Iterable[str], vocab_size: int, model_max_length: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE (Sennrich et al. 2016; Radford et al. 2019) with ``□`` (0), ``⁇`` (1) and all 256 bytes.

    A space is added at the start of a text and after a special token, unless there already is one. So a name has the
    same tokens at the start of its line, after ``⁇`` and in a question. Decoded text may differ in outer spaces. The
    vocabulary is smaller than `vocab_size` if `texts` contains fewer repeated pairs. The same arguments always return
    the same tokenizer.

    Raises:
        ValueError: `texts` is empty, or `vocab_size` has no room for the bytes and the special tokens.
    """
    special = [PAD_TOKEN, MASK_TOKEN]
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
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_not_empty(texts), trainer)
    return _with_special_tokens(tokenizer, special, model_max_length)


def count_unknown(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Counter[str]:
    """The count in `texts` of each character that is unknown to `tokenizer`."""
    unknown = tokenizer.unk_token_id
    if unknown is None:
        return Counter()
    counts = Counter(character for text in texts for character in text)
    return Counter(
        {
            character: count
            for character, count in counts.items()
            if unknown in tokenizer(character, add_special_tokens=False).input_ids
        }
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


def _with_special_tokens(
    tokenizer: Tokenizer, special: list[str], model_max_length: int, **names: str
) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {MASK_TOKEN}",
        pair=f"$A {MASK_TOKEN} $B {MASK_TOKEN}",
        special_tokens=[(MASK_TOKEN, tokenizer.token_to_id(MASK_TOKEN))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        mask_token=MASK_TOKEN,
        eos_token=MASK_TOKEN,
        pad_token=PAD_TOKEN,
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
