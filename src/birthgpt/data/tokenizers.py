"""Two tokenizers, both plain files of the tokenizers library: one a character, one byte-level BPE.

Each knows two reserved characters, read as special tokens wherever they stand, so that text which holds
them is refused on reading (`files.clean_text`):

- ``⁇`` opens and closes a masked span and an answer: mask token and end-of-sequence token at once.
- ``□`` pads.

The default call appends ``⁇``, so that a bare question is a whole prompt; ``tokenizer(question, answer)``
gives ``question⁇answer⁇``. Text that already carries its ``⁇`` is encoded with ``add_special_tokens=False``.
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

# words, numbers and single punctuation marks, each with the space before it: no mark ever joins a name
_PIECES = r" ?\p{L}[\p{L}\p{M}]*| ?\p{N}+| ?[^\s\p{L}\p{N}]|\s+(?!\S)|\s+"


@checked
@dataclass(kw_only=True)
class TokenizerSettings:
    """How text is cut into tokens, where no checkpoint says it."""

    tokenizer_name_or_path: str | None = setting(None, "take this tokenizer instead of training one")
    tokenizer_type: Literal["character", "bpe"] = setting("character", "train this kind on the corpus")
    vocab_size: int = setting(2048, "tokens of a bpe tokenizer", min=1)


def train_tokenizer(
    settings: TokenizerSettings, texts: Iterable[str], model_max_length: int
) -> PreTrainedTokenizerFast:
    """Train a tokenizer of the type that the settings name."""
    if settings.tokenizer_type == "character":
        return train_character_tokenizer(texts, model_max_length)
    return train_bpe_tokenizer(texts, settings.vocab_size, model_max_length)


def train_character_tokenizer(texts: Iterable[str], model_max_length: int) -> PreTrainedTokenizerFast:
    """A vocabulary of every character of `texts`, sorted, after ``□`` (0), ``⁇`` (1) and unknown (2).

    Text round-trips exactly, white space included; a character not in `texts` becomes the unknown token
    (see `warn_unknown_characters`).

    Raises:
        ValueError: `texts` holds no character.
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

    Whatever stands at the head of a text, or after a special token, gets one space before it unless it has
    one: a name has the same tokens at the head of its line, after ``⁇`` and within a question. So decoded
    text is the text up to outer spaces. The vocabulary is smaller than `vocab_size` where `texts` holds fewer
    repeated pairs. Same `texts`, same tokenizer.

    Raises:
        ValueError: `texts` is empty, or `vocab_size` has no room for the bytes and the special tokens.
    """
    special = [PAD_TOKEN, MASK_TOKEN]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(special) + len(alphabet)
    if vocab_size < smallest:
        raise ValueError(f"vocab_size={vocab_size} is too small: byte-level BPE takes at least {smallest}")

    tokenizer = Tokenizer(models.BPE())
    # n spaces become n+1, then n again where n > 0
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
    """How often each character of `texts` occurs that `tokenizer` reads as its unknown token."""
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
    """Log one warning that names the commonest characters `tokenizer` does not know, if there are any.

    Args:
        where: what `texts` are, for the reader of the warning: a file, say.
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
