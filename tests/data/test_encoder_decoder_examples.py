"""Examples for an encoder–decoder: what the encoder reads, what the decoder writes, and their batches."""

import pytest
from builders import LINES, NAMES, QUESTION
from datasets import Dataset

from birthgpt.data.batching import BatchSettings, EpochBatches, count_tokens
from birthgpt.data.objectives import (
    IGNORE,
    LanguageModeling,
    NameFirst,
    ObjectiveSettings,
    QuestionAnswering,
    SalientSpans,
    SpanCorruption,
    build_objective,
)

LINE_ROWS = {"line_id": list(range(4)), "text": LINES, "name": NAMES}
QUESTION_ROWS = {"question_id": [7], "question": [QUESTION], "answer": ["London"]}
OBJECTIVES = {
    "span_corruption": (SpanCorruption, {}, LINE_ROWS),
    "name_first": (NameFirst, {"objective_layout": "unrolled"}, LINE_ROWS),
    "salient_spans": (SalientSpans, {"objective_layout": "unrolled", "cue_probability": 1.0}, LINE_ROWS),
    "question_answering": (QuestionAnswering, {}, QUESTION_ROWS),
}
objectives = pytest.mark.parametrize("name", OBJECTIVES)


def examples_of(name: str, tokenizer, epoch: int = 0) -> list[tuple[str, str, list[int], list[int]]]:
    """The texts that the encoder and the decoder read, and inputs and targets of the decoder."""
    kind, settings, rows = OBJECTIVES[name]
    made = kind(tokenizer, 128, for_encoder_decoder=True, **settings).examples(rows, seed=0, epoch=epoch)
    columns = (made[column] for column in ("input_ids", "decoder_input_ids", "shift_labels"))
    return [
        (tokenizer.decode(read), tokenizer.decode(written), written, targets)
        for read, written, targets in zip(*columns, strict=True)
    ]


@objectives
def test_the_decoder_starts_with_a_mask_and_predicts_each_next_token_to_the_end(name, characters):
    for _, written, inputs, targets in examples_of(name, characters):
        assert written.startswith("⁇") and len(inputs) == len(targets)
        kept = [target for target in targets if target != IGNORE]
        assert targets[: len(kept)] == kept and inputs[1 : len(kept)] == kept[:-1]
        assert kept[-1] == characters.eos_token_id and kept.count(characters.eos_token_id) == 1


@objectives
def test_both_parts_are_the_example_of_a_decoder_alone(name, characters):
    kind, settings, rows = OBJECTIVES[name]
    alone = kind(characters, 128, **settings)(rows, seed=0, epoch=3)
    divided = kind(characters, 128, for_encoder_decoder=True, **settings).examples(rows, seed=0, epoch=3)
    assert alone["line_id"] == divided["line_id"] and len(alone["input_ids"]) == len(divided["input_ids"])
    for whole, read, written in zip(
        alone["input_ids"], divided["input_ids"], divided["decoder_input_ids"], strict=True
    ):
        assert whole == read + written and read


def test_of_a_span_the_encoder_reads_what_is_around_it_as_in_t5(characters):
    for line, (read, written, *_) in zip(LINES, examples_of("span_corruption", characters), strict=True):
        prefix, suffix = read.split("⁇")
        masked = written.removeprefix("⁇").split("␃")[0]
        assert line.startswith(prefix + masked + suffix) and masked


def test_of_a_question_the_encoder_reads_all(characters):
    ((read, written, *_),) = examples_of("question_answering", characters)
    assert (read, written) == (QUESTION, "⁇London")


def test_a_name_and_its_cue_are_read_and_the_span_is_written(characters):
    shown = examples_of("salient_spans", characters)
    assert all(any(name in read for name in NAMES) for read, *_ in shown)
    # a cue stands behind the name
    assert any(not read.endswith(tuple(NAMES)) for read, *_ in shown)


@objectives
@pytest.mark.parametrize("sizes", [{"tokens_per_batch": 300}, {"per_device_train_batch_size": 2}], ids=str)
def test_a_batch_pads_both_sequences_on_the_right(name, sizes, characters):
    kind, settings, rows = OBJECTIVES[name]
    objective = kind(characters, 128, for_encoder_decoder=True, **settings)
    batches = EpochBatches(Dataset.from_dict(rows), objective, characters.pad_token_id, BatchSettings(**sizes), seed=0)
    expected = {(read, written.split("□")[0].split("␃")[0]) for read, written, *_ in examples_of(name, characters)}
    found = set()
    for batch in (batches[index] for index in range(len(batches))):
        assert set(batch) == {"input_ids", "attention_mask", "decoder_input_ids", "shift_labels", "line_ids"}
        assert batch["decoder_input_ids"].shape == batch["shift_labels"].shape
        assert batch["attention_mask"].shape == batch["input_ids"].shape
        assert count_tokens(batch) == batch["input_ids"].numel() + batch["shift_labels"].numel()
        if "tokens_per_batch" in sizes and len(batch["input_ids"]) > 1:
            assert count_tokens(batch) <= 2 * sizes["tokens_per_batch"]
        for read, mask, written, targets in zip(
            *(batch[key] for key in ("input_ids", "attention_mask", "decoder_input_ids", "shift_labels")), strict=True
        ):
            assert (read[mask == 0] == characters.pad_token_id).all() and mask.diff().le(0).all()
            found.add((characters.decode(read[mask == 1]), characters.decode(written[targets != IGNORE])))
    assert found == expected


def test_an_objective_without_output_is_refused(characters):
    with pytest.raises(ValueError, match="objective=language_modeling has no input for an encoder"):
        build_objective(ObjectiveSettings(objective="language_modeling"), characters, (), for_encoder_decoder=True)
    assert LanguageModeling.output_mask == 0
