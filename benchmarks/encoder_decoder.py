"""Does an encoder–decoder recall more than a decoder alone, at equal FLOPs, and what is reading on both sides worth?

python -m benchmarks.encoder_decoder --output_file benchmarks/encoder_decoder.json

Each row is one recipe, `wiki/pretrain` and `wiki/finetune`, in one form of one attention type: a *decoder* alone; an
*encoder_decoder* with as many layers in each of its stacks, so a token costs about the same; and *causal_encoder*, the
same encoder–decoder in which a token of the input sees only the tokens before it, which this script alone can train.
Every form is given its examples unrolled, one span each; *decoder_branches* is the decoder with the spans of a line as
branches of one pass, as the recipe has it. The rate and all other settings were chosen for a decoder.

The difference of *encoder_decoder* and *causal_encoder* is what the tokens behind are worth to the input. An input is a
name with a cue, or a question, of a few dozen tokens: Linformer and BigBird see almost all of it in one window.
`--objective span_corruption` gives the encoder a whole line around a masked span.

Each stack has two layers, and the budget is half of the recipe's. With its three layers, this budget is 481 updates of
a decoder in softmax and 249 of an encoder–decoder, which then answer 74.8% and 12.0%.

A row that is in the output file is not run again, nor is a training that is finished in `--runs_dir`, and a training
that was stopped goes on. `--small` runs every step with tiny models on synthetic people.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.lab import Lab
from birthgpt import BirthGPTEncoderDecoderConfig
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.report_answers import METRICS
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.data.synthetic import DEV, TRAIN, WIKI
from birthgpt.model.attention import ATTENTION_TYPES
from birthgpt.model.attention_types import get_attention_type
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import read_json, save_json, write_text
from birthgpt.utils.tables import magnitude, markdown_table, scientific, text_table

UNROLLED = {"objective_layout": "unrolled"}
SEQ2SEQ = {"architecture": "encoder_decoder", **UNROLLED}
FORMS: dict[str, dict[str, object]] = {
    "decoder": UNROLLED,
    "encoder_decoder": SEQ2SEQ,
    "causal_encoder": SEQ2SEQ,
    "decoder_branches": {},
}
"""The settings of pretraining of each form."""

DEFAULT_FORMS = ("decoder", "encoder_decoder", "causal_encoder")
DEFAULT_TYPES = ("softmax", "linformer", "bigbird", "performer", "perceiver", "synthesizer")
SETTINGS: dict[str, dict[str, object]] = {
    "gated_deltanet": {"canon_width": 4},
    "sliding_softmax": {"sliding_window": 64},
}
"""Settings that an attention type is given: those of its published run."""

OF_ENCODERS: dict[str, dict[str, object]] = {"linformer": {"linformer_sharing": "key_value"}}
"""Settings of an encoder. With E and F for each head, a layer of Linformer would have 1.4 times the weights of softmax,
most of them for positions that no example reaches, and so fewer updates for the same nominal FLOPs."""

OBJECTIVES = ("salient_spans", "name_first", "span_corruption")

BUDGET, SMALL_BUDGET = 2e13, 2e9
LAYERS = 2
"""The layers of a stack."""

SMALL_MODEL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 512}
SMALL = {
    "pretrain": {**SMALL_MODEL, "ngram_vocab_size": 256, "tokens_per_batch": 1024},
    "finetune": {"validation_size": 20, "eval_steps": 1, "max_train_steps": 2, "tokens_per_batch": 1024},
}
"""What `small` changes."""

TRAINED_BY = ("seed", "objective", "max_train_flops", "data", "small")
"""What rows of one file have in common."""

COLUMNS = ("form", "attention_type", "accuracy", "parameters", "weights_of_a_token", "flops", "seconds", "seed")


def measure(lab: Lab, files: dict[str, Path], form: str, attention_type: str, options: argparse.Namespace) -> dict:
    """Train and ask one row; its figures, and all that is needed to repeat it."""
    lab.start_row()
    small = SMALL if options.small else {"pretrain": {}, "finetune": {}}
    name = f"{form}/{attention_type}"
    with causal_encoder(form == "causal_encoder"):
        pretrained = lab.run(
            "pretrain",
            f"{name}/pretrained",
            **{
                "config": "wiki/pretrain",
                "resume_from_checkpoint": "latest",
                "train_file": files[WIKI],
                "objective": options.objective,
                "attention_type": attention_type,
                "max_train_flops": options.max_train_flops,
                "num_hidden_layers": LAYERS,
                **FORMS[form],
                **SETTINGS.get(attention_type, {}),
                **(OF_ENCODERS.get(attention_type, {}) if form == "encoder_decoder" else {}),
                **small["pretrain"],
            },
        )
        finetuned = lab.run(
            "finetune",
            f"{name}/finetuned",
            **{
                "config": "wiki/finetune",
                "resume_from_checkpoint": "latest",
                "train_file": files[TRAIN],
                "model_name_or_path": pretrained,
                **small["finetune"],
            },
        )
        answers = lab.run(
            "evaluate",
            f"{name}/answers",
            seeded=False,
            config="wiki/evaluate",
            question_file=files[DEV],
            train_file=files[TRAIN],
            corpus_file=files[WIKI],
            model_name_or_path=finetuned,
        )
        model, _ = load_model_and_tokenizer(str(finetuned))
    metrics, record = read_json(answers / METRICS), read_run_metadata(pretrained)
    assert record is not None
    return {
        "form": form,
        "attention_type": attention_type,
        **{key: metrics[key] for key in ("accuracy", "correct", "total", "flops", "seconds")},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        # FLOPs are 6 of these for each token
        "weights_of_a_token": round(record["flops"] / record["tokens"] / 6),
        "tokens": record["tokens"],
        "birthgpt_commands": lab.commands,
        **environment_info(),
    }


@contextmanager
def causal_encoder(enabled: bool) -> Iterator[None]:
    """Context in which an encoder that is built or loaded sees only earlier tokens."""
    original = BirthGPTEncoderDecoderConfig.encoder_config

    def causal(config: BirthGPTEncoderDecoderConfig) -> BirthGPTEncoderDecoderConfig:
        return config._config_of_stack(
            num_hidden_layers=config.num_encoder_layers,
            attention_type=config.encoder_attention_type,
            per_layer_config=None,
            use_cache=False,
        )

    if enabled:
        BirthGPTEncoderDecoderConfig.encoder_config = causal
    try:
        yield
    finally:
        BirthGPTEncoderDecoderConfig.encoder_config = original


def find_files(options: argparse.Namespace, lab: Lab) -> dict[str, Path]:
    """The corpus and the questions, those of the assignment or of synthetic people.

    Raises:
        ValueError: a file is missing.
    """
    folder = options.data_dir
    if options.small:
        folder = lab.run("people", "people", people=100, held_out=20, biographies_per_person=1)
    files = {name: folder / name for name in (WIKI, TRAIN, DEV)}
    for path in files.values():
        if not path.is_file():
            raise ValueError(f"{path}: there is no such file: give the folder of the assignment's files as --data_dir")
    return files


def open_results(options: argparse.Namespace) -> dict:
    """The results of the output file, to which rows are added.

    Raises:
        ValueError: they are those of other settings.
    """
    data = "synthetic people" if options.small else "cs224n"
    new = {key: getattr(options, key, data) for key in TRAINED_BY} | {"rows": [], "commands": []}
    if options.output_file is None or not options.output_file.exists():
        return new
    results = read_json(options.output_file)
    for key in TRAINED_BY:
        if results.get(key) != new[key]:
            raise ValueError(
                f"{options.output_file}: {key} is {results.get(key)!r}, not {new[key]!r}: give another output_file"
            )
    return results


def differences(rows: Sequence[dict]) -> list[dict]:
    """For each attention type, what an encoder and what the tokens behind are worth, in ratios; None if not run."""
    accuracy = {(row["form"], row["attention_type"]): row["accuracy"] for row in rows}

    def difference(name: str, form: str, other: str) -> float | None:
        values = [accuracy.get((each, name)) for each in (form, other)]
        return None if None in values else values[0] - values[1]

    return [
        {
            "attention_type": name,
            "over_the_decoder": points_of(difference(name, "encoder_decoder", "decoder")),
            "over_a_causal_encoder": points_of(difference(name, "encoder_decoder", "causal_encoder")),
        }
        for name in dict.fromkeys(row["attention_type"] for row in rows)
    ]


def shown(rows: Sequence[dict]) -> list[dict]:
    """The rows with counts as text."""
    return [row | {"weights_of_a_token": magnitude(row["weights_of_a_token"])} for row in rows]


def points_of(value: float | None) -> str | None:
    """A difference of ratios in percentage points."""
    return None if value is None else f"{100 * value:+.1f}"


def page(results: dict) -> str:
    """The tables of results as a page in Markdown."""
    rows, of_types = results["rows"], differences(results["rows"])
    budget = scientific(results["max_train_flops"])
    repeated = f"Objective {results['objective']}, {budget} FLOPs for each pretraining, data {results['data']}"
    return (
        "\n\n".join(
            [
                "# " + __doc__.split("\n")[0],
                "This page is written by\n\n" + "\n".join(f"    {command}" for command in results["commands"]),
                *(part for part in __doc__.split("\n\n")[2:5]),
                f"{repeated}; {rows[0]['hardware']}; {rows[0]['date']}.",
                markdown_table(shown(rows), COLUMNS),
                "What the encoder–decoder gains, in percentage points; one seed says little about two points:",
                markdown_table(of_types, list(of_types[0])),
                "",
            ]
        ).rstrip("\n")
        + "\n"
    )


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=Path("../shared/data/cs224n"), help="the assignment's files")
    parser.add_argument("--attention_types", nargs="+", default=DEFAULT_TYPES, choices=ATTENTION_TYPES)
    parser.add_argument("--forms", nargs="+", default=DEFAULT_FORMS, choices=FORMS)
    parser.add_argument("--objective", default=OBJECTIVES[0], choices=OBJECTIVES, help="that of pretraining")
    parser.add_argument("--max_train_flops", type=float, help=f"budget of each pretraining; {BUDGET:g} if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="tiny models and synthetic people, in seconds")
    parser.add_argument("--runs_dir", type=Path, default=Path("runs/encoder_decoder"), help="folder of the trainings")
    parser.add_argument("--output_file", type=Path, help="JSON; a page of the same name, .md, is written beside it")
    options = parser.parse_args(arguments)
    options.max_train_flops = options.max_train_flops or (SMALL_BUDGET if options.small else BUDGET)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rows that are missing; the output file is written after each."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(arguments)
    results = open_results(options)
    command = shlex.join(["python", "-m", "benchmarks.encoder_decoder", *arguments])
    results["commands"] = list(dict.fromkeys([*results["commands"], command]))
    lab = Lab(options.runs_dir / f"{options.objective}_{options.max_train_flops:g}_{options.seed}", options.seed)
    files = find_files(options, lab)
    for attention_type in options.attention_types:
        for form in options.forms:
            if form == "decoder_branches" and not get_attention_type(attention_type).supports_branches:
                continue
            if any((row["form"], row["attention_type"]) == (form, attention_type) for row in results["rows"]):
                continue
            results["rows"].append(measure(lab, files, form, attention_type, options) | {"seed": options.seed})
            print(text_table(shown(results["rows"]), COLUMNS), flush=True)
            if options.output_file:
                save_json(options.output_file, results)
                write_text(options.output_file.with_suffix(".md"), page(results))
    print(json.dumps(differences(results["rows"]), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
