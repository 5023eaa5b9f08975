"""Both tokenizers: they append nothing, decoding returns the text, and reloading changes nothing."""

import copy
import logging
import subprocess
import sys
from collections import Counter

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, TextStreamer

from birthgpt.data.tokenizers import (
    EOS_TOKEN,
    MASK_TOKEN,
    PAD_TOKEN,
    RESERVED_TOKENS,
    UNKNOWN_ANSWER_TOKEN,
    UNKNOWN_TOKEN,
    UnknownCharacterWarnings,
    add_unknown_answer_token,
    count_unknown,
    question_prompt,
    train_bpe_tokenizer,
    train_character_tokenizer,
    unknown_answer_id,
    warn_unknown_characters,
)

LINES = [
    "Ada Lovelace. Ada Lovelace was born in London .",
    "Zoë M. Müller Jr.. Née à Köln, Zoë  Müller was born in 1901 .",
    "Ng%C3%A9 O'Hara-Żak. Where was Ada Lovelace born?\n",
] * 3

# all of Unicode except lone surrogates, which are not text, and the special tokens, which the readers refuse
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="".join([*RESERVED_TOKENS, UNKNOWN_TOKEN]))
TEXTS = st.text(CHARACTERS)
NAMES = st.text(CHARACTERS, min_size=1).map(str.strip).filter(bool)

thorough = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def bpe():
    return train_bpe_tokenizer(LINES, vocab_size=320, model_max_length=64)


@pytest.fixture(scope="module")
def characters():
    return train_character_tokenizer(LINES, model_max_length=64)


@pytest.fixture(scope="module", params=["bpe", "characters"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


@thorough
@given(TEXTS.filter(bool))
@example("\r\n a\u0301  \t")
@example("She 's here , is n't she ?")
def test_characters_decode_to_exactly_the_same_text(text):
    tokenizer = train_character_tokenizer([text], model_max_length=64)
    ids = encode(tokenizer, text)
    assert len(ids) == len(text)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids) == text


@thorough
@given(TEXTS)
@example(" \n")
@example("  two spaces")
def test_bpe_decodes_to_the_same_text_without_a_space_at_its_start(bpe, text):
    assert bpe.decode(encode(bpe, text)) == text.removeprefix(" ")


@thorough
@given(NAMES)
@example("Zoë M. Müller Jr.")
@example("2Pac")
@example("\u0301Ada  O'Hara-")
@example("P!nk (1979)")
def test_a_name_has_the_same_bpe_tokens_everywhere(bpe, name):
    ids = encode(bpe, name)
    mask = [bpe.mask_token_id]
    where_was, born = encode(bpe, "Where was"), encode(bpe, " born?")
    line = encode(bpe, f"{name}. Born .")
    assert (line[: len(ids)], bpe.decode(line[len(ids) :])) == (ids, ". Born .")
    assert encode(bpe, f"Where was {name} born?") == where_was + ids + born
    assert encode(bpe, f"Where was⁇{name}⁇ born?") == where_was + mask + ids + mask + born
    assert encode(bpe, f"Where was⁇ {name} born?") == where_was + mask + ids + born
    assert encode(bpe, f"Where was  {name} born?") == where_was + encode(bpe, " ") + ids + born


def test_bpe_merges_what_repeats(bpe):
    assert bpe.tokenize("Lovelace") == ["ĠLovelace"]
    assert len(bpe.tokenize("xyzzy")) == len(" xyzzy")


def test_the_vocabulary_of_characters_is_sorted_after_the_special_tokens(characters):
    tokens = characters.convert_ids_to_tokens(range(len(characters)))
    assert tokens == [PAD_TOKEN, MASK_TOKEN, UNKNOWN_TOKEN, EOS_TOKEN, *sorted(set("".join(LINES)))]


def test_bpe_has_every_byte_and_no_unknown_token(bpe):
    assert (bpe.pad_token_id, bpe.mask_token_id, bpe.eos_token_id, bpe.unk_token_id) == (0, 1, 2, None)
    single_bytes = [token for token in bpe.get_vocab() if len(token) == 1]
    assert len(single_bytes) == 256 + len([PAD_TOKEN, MASK_TOKEN, EOS_TOKEN])
    assert len(bpe) <= 320


def test_special_tokens_are_read_in_text_and_left_out_on_request(tokenizer):
    ids = encode(tokenizer, "Ada⁇London␃□□")
    special = [tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.pad_token_id]
    assert [index for index in ids if index in tokenizer.all_special_ids] == special
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "AdaLondon"


PROMPTS = st.one_of(NAMES, TEXTS.map("Where was {} born?".format), TEXTS.map("Where was {} born?⁇".format))
COMPLETIONS = st.one_of(NAMES.map("⁇{}".format), NAMES.map("⁇{}␃".format), NAMES.map("{}␃".format))


@settings(max_examples=2000, deadline=None, derandomize=True)
@given(PROMPTS, COMPLETIONS)
@example("Where was Ada Lovelace born?", "⁇London␃")
@example("Where was Ada Lovelace born?⁇", "London")
@example("Where was Ada  Lovelace born? ⁇", " London , Ohio␃")
def test_the_tokens_of_a_prompt_begin_those_of_prompt_and_completion(tokenizer, prompt, completion):
    """A completion begins with ⁇, or its prompt ends with it: nothing merges over this border."""
    if not completion.startswith(MASK_TOKEN) and not prompt.endswith(MASK_TOKEN):
        prompt += MASK_TOKEN
    prefix, whole = tokenizer(prompt).input_ids, tokenizer(prompt + completion).input_ids
    assert whole[: len(prefix)] == prefix
    assert len(whole) > len(prefix)


@thorough
@given(TEXTS)
def test_nothing_is_appended(tokenizer, text):
    assert tokenizer(text).input_ids == encode(tokenizer, text)
    assert not set(tokenizer(text).input_ids) & {
        tokenizer.pad_token_id,
        tokenizer.mask_token_id,
        tokenizer.eos_token_id,
    }


@thorough
@given(st.text(CHARACTERS, min_size=1), NAMES)
@example("Where was Ada Lovelace born?", "London")
@example("Where was Ada Lovelace born? ", "Frankfurt (Oder)")
def test_the_chat_template_writes_question_mask_answer_end(tokenizer, question, answer):
    user, assistant = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
    prompt = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    assert prompt == question_prompt(tokenizer, question) == f"{question}⁇"
    assert tokenizer.apply_chat_template([user, assistant], tokenize=False) == f"{question}⁇{answer}␃"
    encoded = tokenizer.apply_chat_template([user, assistant], return_dict=True, return_assistant_tokens_mask=True)
    learned = [token for token, taught in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if taught]
    assert learned == tokenizer(f"⁇{answer}␃").input_ids[1:]


def test_the_chat_template_refuses_other_roles(tokenizer):
    with pytest.raises(Exception, match="the roles are user .a question. and assistant"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Answer."}], tokenize=False)


@pytest.mark.parametrize(
    "train", [train_character_tokenizer, lambda texts, length, **end: train_bpe_tokenizer(texts, 320, length, **end)]
)
def test_the_tokenizer_of_the_assignment_ends_answers_with_the_mask_token(train):
    tokenizer = train(LINES, 64, eos_token=MASK_TOKEN)
    assert tokenizer.eos_token == tokenizer.mask_token == MASK_TOKEN
    messages = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "London"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "Where?⁇London⁇"
    assert tokenizer("Where?⁇London⁇").input_ids.count(tokenizer.mask_token_id) == 2


@thorough
@given(st.lists(NAMES, min_size=1, max_size=3).map(" ".join))
@example("San  Juan , Puerto Rico")
@example("Zoë Müller漢")
def test_streamed_pieces_join_to_the_answer(tokenizer, answer):
    """transformers' TextStreamer decodes growing prefixes and prints what is new."""
    ids, pieces = tokenizer(f"{answer}␃").input_ids, []
    streamer = TextStreamer(tokenizer, skip_prompt=False, skip_special_tokens=True)
    streamer.on_finalized_text = lambda text, stream_end=False: pieces.append(text)
    for index in ids:
        streamer.put(torch.tensor([index]))
    streamer.end()
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)


def test_auto_tokenizer_reloads_it_unchanged(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    reloaded = AutoTokenizer.from_pretrained(tmp_path)
    assert reloaded.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    for name in (
        "special_tokens_map",
        "padding_side",
        "model_max_length",
        "model_input_names",
        "clean_up_tokenization_spaces",
        "chat_template",
    ):
        assert getattr(reloaded, name) == getattr(tokenizer, name), name
    for text in [*LINES, " Ada", "⁇Ada␃ Zoë .  ⁇Ż , ?□", "never seen: Ω漢"]:
        assert reloaded(text).input_ids == tokenizer(text).input_ids
        assert reloaded.decode(reloaded(text).input_ids) == tokenizer.decode(tokenizer(text).input_ids)


@pytest.mark.slow
def test_another_process_trains_the_same_tokenizers(bpe, characters):
    program = (
        "import sys; from birthgpt.data.tokenizers import train_bpe_tokenizer, train_character_tokenizer\n"
        f"lines = {LINES!r}\n"
        "for tokenizer in train_bpe_tokenizer(lines, 320, 64), train_character_tokenizer(lines, 64):\n"
        "    sys.stdout.buffer.write(tokenizer.backend_tokenizer.to_str().encode() + b'\\n')"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    expected = [tokenizer.backend_tokenizer.to_str() for tokenizer in (bpe, characters)]
    assert run.stdout.decode().split("\n")[:-1] == expected


def test_unknown_characters_are_counted(characters, bpe):
    texts = ["Ω in London", "ΩΩ and 漢", f"spoilt {UNKNOWN_TOKEN}"]
    assert count_unknown(characters, texts) == Counter({"Ω": 3, "漢": 1, "p": 1, "t": 1, UNKNOWN_TOKEN: 1})
    assert count_unknown(bpe, texts) == Counter()


def test_unknown_characters_cause_one_warning(characters, caplog):
    with caplog.at_level(logging.WARNING):
        warn_unknown_characters(characters, LINES, "lines.txt")
        assert not caplog.records
        warn_unknown_characters(characters, ["ΩΩ 漢"], "lines.txt")
    (record,) = caplog.records
    assert record.getMessage().startswith("lines.txt: 3 characters (2 distinct)")
    assert record.getMessage().endswith("'Ω' (2), '漢' (1)")


def test_a_warning_of_many_unknown_characters_names_twenty(characters, caplog):
    warn_unknown_characters(characters, map(chr, range(0x4E00, 0x4E64)), "lines.txt")
    (record,) = caplog.records
    assert "100 characters (100 distinct)" in record.getMessage()
    assert record.getMessage().count("(1)") == 20
    assert record.getMessage().endswith("…")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (lambda: train_character_tokenizer([""], 64), "no text"),
        (lambda: train_bpe_tokenizer(iter([]), 320, 64), "no text"),
        (lambda: train_bpe_tokenizer(LINES, 258, 64), "vocab_size=258 is too small.*at least 259"),
    ],
    ids=["characters-no-text", "bpe-no-text", "bpe-small-vocabulary"],
)
def test_impossible_vocabularies_are_refused(train, message):
    with pytest.raises(ValueError, match=message):
        train()


def test_a_stream_warns_of_each_unknown_character_once(caplog):
    watch = UnknownCharacterWarnings(train_character_tokenizer(["abc"], 16), "lines.txt")
    for texts in (["abc"], ["abx", "xx"], ["x"], ["xé"]):
        watch(texts)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("lines.txt: 3 characters (1 distinct)") and "'x' (3)" in first
    assert second.startswith("lines.txt: 1 characters (1 distinct)") and "'é' (1)" in second


def test_the_unknown_answer_token_is_the_last_and_changes_no_other(tokenizer, tmp_path):
    taught = copy.deepcopy(tokenizer)
    add_unknown_answer_token(taught)
    add_unknown_answer_token(taught)
    assert unknown_answer_id(tokenizer) is None
    assert unknown_answer_id(taught) == taught.unknown_answer_token_id == len(tokenizer) == len(taught) - 1
    assert taught.unk_token_id == tokenizer.unk_token_id
    for text in (*LINES, "Ada⁇London␃"):
        assert encode(taught, text) == encode(tokenizer, text)
    taught.save_pretrained(tmp_path)
    for same in (taught, AutoTokenizer.from_pretrained(tmp_path)):
        assert same.unknown_answer_token == UNKNOWN_ANSWER_TOKEN
        assert encode(same, UNKNOWN_ANSWER_TOKEN) == [len(tokenizer)]
        ids = encode(same, "Ada⁇␀␃")
        assert ids[-3:] == [same.mask_token_id, len(tokenizer), same.eos_token_id]
        assert same.decode(ids[-3:], skip_special_tokens=True) == ""
        chat = [{"role": "user", "content": "Ada?"}, {"role": "assistant", "content": UNKNOWN_ANSWER_TOKEN}]
        assert same.apply_chat_template(chat, tokenize=False) == "Ada?⁇␀␃"
