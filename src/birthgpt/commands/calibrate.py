"""Calibration: how sure a checkpoint may be of its answers, measured on people that finetuning held out."""

import logging
from dataclasses import dataclass
from pathlib import Path

from birthgpt.commands.command import Command
from birthgpt.commands.invented_questions import invented_questions
from birthgpt.commands.loading import load_model_and_tokenizer
from birthgpt.commands.trained_people import check_held_out, trained_people
from birthgpt.commands.unused_settings import unused_in_calibration, warn_unused
from birthgpt.data.corpus import ColumnSettings, lines_by_name
from birthgpt.data.names import NameFinder
from birthgpt.data.questions import answers_of, load_questions
from birthgpt.data.splits import person_of
from birthgpt.evaluation.answering import AnsweringSettings, check_question_lengths
from birthgpt.evaluation.calibration import CALIBRATION, MOST_BEAMS, Calibration, save_calibration
from birthgpt.evaluation.calibration_fit import FitSettings, check_scikit_learn, fit_calibration
from birthgpt.evaluation.name_likelihood import NameLikelihood
from birthgpt.evaluation.risk import choose_threshold, effective_counts, upper_bound
from birthgpt.evaluation.signals import SignalSource, collect_signals
from birthgpt.evaluation.wordings import Wordings
from birthgpt.settings import Number, checked, setting
from birthgpt.training.accelerators import ThreadSettings
from birthgpt.training.manifest import RUN, add_to_manifest
from birthgpt.utils.environment import connected_accelerator, use_threads
from birthgpt.utils.errors import naming_source
from birthgpt.utils.files import check_output_file
from birthgpt.utils.folders import record_files, recorded_files
from birthgpt.utils.tables import text_table

logger = logging.getLogger(__name__)

RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""The risks that the command shows."""


@checked
@dataclass(kw_only=True)
class CalibrateSettings(ColumnSettings):
    """Learn from held-out people when an answer of a checkpoint is right, and save it beside the checkpoint."""

    answering: AnsweringSettings
    threads: ThreadSettings
    model_name_or_path: str = setting(help="folder of a finetuned checkpoint; calibration.json is written into it")
    question_file: str = setting(help="questions with answers about people that finetuning held out")
    train_file: str | None = setting(
        None, "train questions, none of which may be about these people; those of run.json if not given"
    )
    corpus_file: str | None = setting(
        None, "biographies: makes names that no line has, so that p(unknown) can be learned"
    )
    agreement_models: list[str] | None = setting(
        None, "other checkpoints, such as other seeds, whose agreement is a signal; they are needed later too"
    )
    wordings: list[str] | None = setting(
        None, "other wordings of the questions, with {name} in place of the name, whose agreement is a signal"
    )
    num_beams: int = setting(4, "beams of the search for other answers", min=2, max=MOST_BEAMS)
    invented_names: int = setting(500, "names that no line has; 0: none", min=0)
    unknown_ratio: Number = setting(
        0.1, "fraction of the questions about unknown names that p(right) expects", above=0, below=1
    )
    fit_ratio: Number = setting(
        0.5, "fraction of the people for the regression; the others are for the thresholds", above=0, below=1
    )
    confidence: Number = setting(
        0.95, "probability that the bound on the risk holds, over the draw of the people", above=0, below=1
    )
    seed: int = setting(0, "of the split of the people, and of the invented names", min=0)


def calibrate(settings: CalibrateSettings) -> Calibration:
    """Fit a calibration on held-out people, and save it as `calibration.json` in the folder of the checkpoint.

    Raises:
        ValueError: the checkpoint, a file or a setting is wrong; a person was trained on; all answers are right or all
            are wrong; there are too few people.
    """
    # before the answers, which take minutes
    check_scikit_learn()
    accelerator = connected_accelerator()
    use_threads(accelerator, settings.threads.num_threads)
    folder = Path(settings.model_name_or_path)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: download the checkpoint, and calibrate it there")
    warn_unused(settings, unused_in_calibration(settings))
    files = {name: getattr(settings, name) for name in ("question_file", "train_file", "corpus_file")}
    check_output_file(folder / CALIBRATION, files)
    lines = None if settings.corpus_file is None else lines_by_name(settings.read_lines(settings.corpus_file))
    names = None if lines is None else NameFinder(lines)
    questions = list(load_questions(settings.question_file, names=names))
    trained = trained_people(settings.model_name_or_path, settings.train_file, names)
    check_held_out(questions, settings.question_file, trained)
    with naming_source(settings.question_file):
        wordings = Wordings.of_questions(questions, settings.wordings or ())
    source = build_source(settings, wordings, lines, accelerator.device)
    texts = [row["question"] for row in questions]
    with naming_source(settings.question_file):
        check_question_lengths(source.model, source.tokenizer, texts)
    invented = []
    if lines is None:
        logger.info("without corpus_file no names can be invented: the verdict unknown depends on the model alone")
    else:
        invented = invented_questions(
            filter(None, lines), questions, settings.invented_names, "calibration", settings.seed
        )
    found = collect_signals(source, texts, names=[row["name"] for row in questions])
    of_invented = collect_signals(source, invented) if invented else ()
    fit = FitSettings(
        confidence=settings.confidence,
        unknown_ratio=settings.unknown_ratio,
        fit_ratio=settings.fit_ratio,
        seed=settings.seed,
    )
    right = [signals.answer.text in answers_of(row) for signals, row in zip(found, questions, strict=True)]
    with naming_source(settings.question_file):
        calibration = fit_calibration(source, found, right, [person_of(row) for row in questions], of_invented, fit)
    save_calibration(folder, calibration)
    if recorded_files(folder):
        record_files(folder, RUN, [CALIBRATION])
    add_to_manifest(folder, CALIBRATION)
    return calibration


def build_source(
    settings: CalibrateSettings, wordings: Wordings, lines: dict[str, list[str]] | None, device
) -> SignalSource:
    """What the signals are computed from."""
    (model, tokenizer), *others = [
        (model.to(device), tokenizer)
        for model, tokenizer in map(
            load_model_and_tokenizer, [settings.model_name_or_path, *(settings.agreement_models or ())]
        )
    ]
    return SignalSource(
        model,
        tokenizer,
        wordings=wordings,
        others=others,
        name_likelihood=None if lines is None else NameLikelihood.of_names(filter(None, lines)),
        num_beams=settings.num_beams,
        batch_size=settings.answering.batch_size,
        max_new_tokens=settings.answering.max_new_tokens,
        always_answer=settings.answering.always_answer,
    )


def show_thresholds(calibration: Calibration) -> None:
    """Print how many answers are given at each of some risks."""
    about = calibration.about
    people = about["people"]
    print(
        f"calibrated on {people['fit'] + people['thresholds']:,} people ({people['thresholds']:,} for the thresholds) "
        f"and {sum(about['invented_names'].values()):,} invented names; accuracy {about['accuracy']:.1%}\n"
    )
    rows = []
    for risk in RISKS:
        chosen = choose_threshold(calibration.thresholds, risk, calibration.confidence)
        row = {"risk": f"{risk:.0%}", "threshold": "none", "answered": "0.0%", "wrong": "–", "bound": "–"}
        if chosen is not None:
            row["threshold"] = f"{chosen.value:.3f}"
            row["answered"] = f"{chosen.answered / about['questions']['thresholds']:.1%}"
            row["wrong"] = f"{chosen.wrong / max(1, chosen.answered):.1%}"
            row["bound"] = f"{upper_bound(*effective_counts(chosen), calibration.confidence):.1%}"
        rows.append(row)
    print(text_table(rows, list(rows[0])))
    print(
        f"\nrisk: allowed rate of wrong answers among those that are given; bound: upper bound of that rate, with "
        f"{calibration.confidence:.0%} confidence"
    )


COMMAND = Command(
    CalibrateSettings, calibrate, show_thresholds, positional=("model_name_or_path",), several_processes=False
)
