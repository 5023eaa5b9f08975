"""Settings that are given and that nothing reads are named in one line before the work."""

import pytest
from builders import run_finetuning, run_pretraining

from birthgpt.commands.evaluate import EvaluateSettings, evaluate
from birthgpt.commands.finetune import FinetuneSettings
from birthgpt.commands.pretrain import PretrainSettings
from birthgpt.commands.unused_settings import unused_in_finetuning, unused_in_pretraining, unused_settings
from birthgpt.model.attention import ATTENTION_TYPES
from birthgpt.model.configuration_base import BaseConfig
from birthgpt.settings import make_settings, parse_settings, settings_of

PRETRAIN = "--train_file x --output_dir y --max_train_steps 1 --tokens_per_batch 99"
ENCODER = "--architecture encoder_decoder --encoder_attention_type"
FINETUNE = f"{PRETRAIN} --validation_size 1"


def lines(settings_class, unused, arguments):
    settings = parse_settings(settings_class, arguments.split())
    return unused_settings(settings, unused(settings))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", []),
        ("--objective salient_spans --cue_probability 0.5", []),
        ("--cue_probability 0.5", ["cue_probability=0.5 has no effect: objective=span_corruption does not read it"]),
        (
            "--comma_probability 0.3 --cue_probability 0.5",
            ["comma_probability=0.3, cue_probability=0.5 have no effect: objective=span_corruption does not read it"],
        ),
        ("--lr_cycle_steps 5", ["lr_cycle_steps=5 has no effect: only lr_scheduler_type=assignment_cosine has cycles"]),
        ("--question_word_shuffle 0.5", ["question_word_shuffle=0.5 has no effect: no questions are trained on"]),
        ("--question_word_shuffle 0.5 --question_file x", []),
        (
            "--objective salient_spans --cue_question_words 3",
            ["cue_question_words=3 has no effect: no questions are trained on"],
        ),
        ("--objective salient_spans --cue_question_words 3 --question_file x", []),
        (
            "--objective salient_spans --max_gap_tokens 2 --cue_probability 0",
            ["max_gap_tokens=2 has no effect: cue_probability is 0"],
        ),
        (
            "--objective salient_spans --cue_question_words 3 --question_file x --cue_before_name_probability 0",
            ["cue_question_words=3 has no effect: cue_before_name_probability is 0"],
        ),
        (
            "--objective salient_spans --leave_out_collocations true --lower_case_probability 0",
            ["leave_out_collocations=True has no effect: lower_case_probability is 0"],
        ),
        ("--report_to trackio", ["report_to=trackio has no effect: with_tracking is false"]),
        ("--save_total_limit 3", []),
        ("--save_total_limit 3 --save_steps 0", ["save_total_limit=3 has no effect: save_steps=0 saves no checkpoint"]),
        ("--overwrite_output_dir true --resume_from_checkpoint y/checkpoint-2", []),
        (
            "--overwrite_output_dir true --resume_from_checkpoint latest",
            [
                "overwrite_output_dir=True has no effect: resume_from_checkpoint=latest goes on with the run in "
                "output_dir"
            ],
        ),
        ("--vocab_size 99 --tokenizer_type bpe", []),
        ("--vocab_size 99", ["vocab_size=99 has no effect: tokenizer_type=character has a token for each character"]),
        ("--answer_end mask --tokenizer_name_or_path x", ["answer_end=mask has no effect: no tokenizer is trained"]),
        ("--ngram_vocab_size 9", ["ngram_vocab_size=9 has no effect: ngram_orders is empty"]),
        ("--sliding_window 9", ["sliding_window=9 has no effect: attention_type=softmax does not read it"]),
        ("--sliding_window 9 --attention_type softmax sliding_softmax --num_hidden_layers 2", []),
        (
            "--attention_type linformer --linformer_rank 9",
            ["linformer_rank=9 has no effect: only an encoder reads it"],
        ),
        ("--attention_type linformer --linformer_window 64", []),
        (f"{ENCODER} linformer --linformer_rank 9", []),
        (f"{ENCODER} linformer --linformer_window 64", ["linformer_window=64 has no effect: only a decoder reads it"]),
        (f"{ENCODER} perceiver --attention_type perceiver --perceiver_kind cs224n", []),
        (
            f"{ENCODER} softmax --abc_num_slots 9",
            ["abc_num_slots=9 has no effect: attention_type=softmax does not read it"],
        ),
        (
            "--per_layer_config {1:\u00a0{abc_num_slots:\u00a02}}",
            ["per_layer_config={1: {'abc_num_slots': 2}} has no effect: layer 1 does not read abc_num_slots"],
        ),
    ],
)
def test_pretraining_names_what_has_no_effect(arguments, expected):
    # a space within a value is a hard space here
    given = [argument.replace("\u00a0", " ") for argument in f"{PRETRAIN} {arguments}".split(" ")]
    settings = parse_settings(PretrainSettings, [argument for argument in given if argument])
    assert unused_settings(settings, unused_in_pretraining(settings)) == expected


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_no_attention_type_reads_the_settings_of_another(attention_type):
    """The settings of each type are without effect for softmax attention, and with effect for the type itself."""
    settings = make_settings(PretrainSettings, train_file="x", output_dir="y", max_train_steps=1, tokens_per_batch=9)
    own = {entry.name for entry in settings_of(ATTENTION_TYPES[attention_type].config_class)}
    own -= {entry.name for entry in settings_of(BaseConfig)}
    unused = {name for names in unused_in_pretraining(settings).values() for name in names}
    assert own <= unused
    settings.model.attention_type = [attention_type]
    own -= set(ATTENTION_TYPES[attention_type].bidirectional_settings)
    assert not own & {name for names in unused_in_pretraining(settings).values() for name in names}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--model_name_or_path x", []),
        (
            "--model_name_or_path x --block_size 64 --vocab_size 99",
            [
                "vocab_size=99, block_size=64 have no effect: tokenizer and longest example are those of "
                "model_name_or_path"
            ],
        ),
        (
            "--model_name_or_path x --validation_size 0 --eval_steps 5",
            ["eval_steps=5 has no effect: no question is held out: give validation_size or validation_file"],
        ),
        ("--model_name_or_path x --validation_size 0 --eval_steps 5 --validation_file z", []),
        ("--model_name_or_path x --name_column who", ["name_column=who has no effect: there is no corpus_file"]),
        (
            "--corpus_file x --sliding_window 3",
            ["sliding_window=3 has no effect: attention_type=softmax does not read it"],
        ),
    ],
)
def test_finetuning_names_what_has_no_effect(arguments, expected):
    assert lines(FinetuneSettings, unused_in_finetuning, f"{FINETUNE} {arguments}") == expected


def test_the_commands_warn(people_files, pretrained, tmp_path, caplog):
    questions = people_files / "birth_places_train.tsv"
    output = ("--output_dir", tmp_path / "x", "--dry_run", True, "--report_to", "tensorboard")
    run_pretraining("--train_file", people_files / "wiki.txt", *output, "--comma_probability", 0.3)
    run_finetuning("--train_file", questions, "--model_name_or_path", pretrained, *output, "--vocab_size", 77)
    files = {"question_file": str(questions), "output_dir": str(tmp_path / "out")}
    evaluate(make_settings(EvaluateSettings, **files, baseline="Rome", num_beams=3, text_column="bio"))
    for start in ("comma_probability=0.3 has", "vocab_size=77 has", "num_beams=3 has", "text_column=bio has"):
        assert sum(record.message.startswith(f"{start} no effect: ") for record in caplog.records) == 1
