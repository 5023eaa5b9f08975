"""The laws of knowledge: experiments run, figures have their bounds, bits are those of toys, the page is current."""

import json
import math
import re
from collections import Counter

import pytest
import torch
from builders import tiny_model

from benchmarks.laws import __main__ as runner
from benchmarks.laws import bits, capacity, editing, lab, manipulation, page, reversal
from benchmarks.laws.law import SCALES
from birthgpt.data.synthetic import facts
from birthgpt.data.synthetic.templates import builtin_templates
from birthgpt.data.tokenizers import train_character_tokenizer

ROWS = {
    "wording": ["lm/single", "spans/both"],
    "mixing": ["single/from_start"],
    "reversal": ["both_ways"],
    "manipulation": ["written"],
    "editing": ["edited"],
    "capacity": ["softmax/0/0/plain"],
}
"""One or two rows of each law, which train all kinds of models."""


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


def run(law, rows, runs_dir, output, *arguments):
    runner.main(
        [law, "--scale", "tiny", "--rows", *rows, "--runs_dir", str(runs_dir), "--output_file", str(output), *arguments]
    )
    return json.loads(output.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("law", runner.LAWS)
def test_an_experiment_writes_figures_within_their_bounds_and_how_to_repeat_them(law, runs_dir, tmp_path):
    results = run(law, ROWS[law], runs_dir, tmp_path / "results.json")
    assert (results["law"], results["scale"]) == (law, "tiny") and list(results["rows"]) == ROWS[law]
    for (measured,) in results["rows"].values():
        assert measured["seed"] == 0 and measured["training_seconds"] > 0
        assert all(measured[key] for key in ("command", "hardware", "date", "versions"))
        assert {command.split()[1] for command in measured["birthgpt_commands"]} >= {"people", "pretrain"}
        assert measured["measures"].keys() <= runner.find_law(law).measures.keys()
        for key, value in measured["measures"].items():
            if value is None or key in ("parameters", "people"):
                continue
            heading = runner.find_law(law).measures[key]
            assert 0 <= value <= (100 if "%" in heading else 4), key


@pytest.mark.parametrize("size", [0, 1])
def test_the_published_capacity_depends_on_the_exposures_alone(size):
    published = capacity.LAW.published
    assert (published[f"softmax/{size}/0/plain"], published[f"softmax/{size}/1/ngrams"]) == ("1", "2")


@pytest.mark.slow
@pytest.mark.parametrize("kind", capacity.ATTENTION_TYPES)
def test_the_capacity_of_every_attention_type_can_be_measured_with_tables(kind, runs_dir, tmp_path):
    plain, tables = f"{kind}/0/0/plain", f"{kind}/0/0/ngrams"
    rows = run("capacity", [plain, tables], runs_dir, tmp_path / "results.json")["rows"]
    without, with_tables = (rows[row][0]["measures"] for row in (plain, tables))
    sizes = SCALES["tiny"].capacity
    # two orders of n-grams
    assert with_tables["parameters"] - without["parameters"] == 2 * sizes.ngram_vocab_size * sizes.hidden_sizes[0]
    assert without["facts_per_parameter"] == pytest.approx(capacity.FACTS_PER_PARAMETER[0], abs=0.01)
    assert 0 <= without["bits_per_parameter"] <= without["facts_per_parameter"]


@pytest.mark.slow
def test_rows_and_seeds_are_added_to_a_file_and_runs_are_not_repeated(runs_dir, tmp_path):
    output = tmp_path / "results.json"
    first = run("wording", ["lm/single"], runs_dir, output)
    again = run("wording", ["lm/single"], runs_dir, output)
    assert [row["measures"] for row in again["rows"]["lm/single"]] == [
        row["measures"] for row in first["rows"]["lm/single"]
    ]
    assert again["rows"]["lm/single"][0]["training_seconds"] == first["rows"]["lm/single"][0]["training_seconds"]
    both = run("wording", ["lm/single"], runs_dir, output, "--seeds", "1")
    assert [measured["seed"] for measured in both["rows"]["lm/single"]] == [0, 1]
    with pytest.raises(ValueError, match="law is 'wording', not 'mixing'"):
        run("mixing", ["single/afterwards"], runs_dir, output)


@pytest.mark.parametrize("name", runner.LAWS)
def test_a_law_says_what_it_assumes_does_measures_and_what_was_published(name):
    law = runner.find_law(name)
    words = [paragraph.partition(":")[0] for paragraph in law.paragraphs]
    assert words == ["Hypothesis", "Set-up", "Measured", "Published"]
    assert law.published.keys() <= law.rows.keys()


def test_an_unknown_row_is_one_line_with_the_choices(capsys):
    with pytest.raises(SystemExit):
        runner.main(["reversal", "--rows", "backward"])
    assert "'backward' is no row of reversal: choose from forward, both_ways" in capsys.readouterr().err


def test_a_folder_of_other_settings_is_refused(tmp_path):
    workplace = lab.LawLab(tmp_path, seed=0, sizes=SCALES["tiny"])
    workplace.people("people", biographies_per_person=1)
    with pytest.raises(ValueError, match="made with other settings"):
        workplace.people("people", biographies_per_person=2)


def test_the_bits_of_a_toy_are_those_that_were_put_in():
    """Of 8 equally likely answers, one who knows nothing has a loss of ln 8, one who has halved them twice of ln 2."""
    nothing, some, everything = ([math.log(choices)] * 10 for choices in (8, 2, 1))
    entropies = {"color": 3.0}
    assert bits.bits_stored(10, entropies, {"color": nothing}) == pytest.approx(0)
    assert bits.bits_stored(10, entropies, {"color": some}) == pytest.approx(20)
    assert bits.bits_stored(10, entropies, {"color": everything}) == pytest.approx(30)
    # half of the people are known, and nothing about the others
    assert bits.bits_stored(10, entropies, {"color": nothing[:5] + everything[:5]}) == pytest.approx(15)
    # worse than a uniform guess, and a relation that is known beside it
    both = {"color": [9.0] * 10, "shape": [0.0] * 10}
    assert bits.bits_stored(10, {"color": 3.0, "shape": 1.0}, both) == pytest.approx(10)


LINES = ("Ann Lee. She was born in Rome.", "Bo Li. He was born in Oslo, and works there.")


@pytest.fixture(scope="module")
def character_tokenizer():
    return train_character_tokenizer(LINES, 64)


class Oracle(torch.nn.Module):
    """A model that gives the next token of every text a probability, and all other tokens the same rest."""

    device, generation_config = torch.device("cpu"), None

    def __init__(self, probability, vocab_size):
        super().__init__()
        self.probability, self.vocab_size = probability, vocab_size

    def forward(self, input_ids, attention_mask, use_cache):
        rest = (1 - self.probability) / (self.vocab_size - 1)
        probabilities = torch.full((*input_ids.shape, self.vocab_size), rest, dtype=torch.float64)
        probabilities[:, :-1].scatter_(2, input_ids[:, 1:, None], self.probability)
        return type("Output", (), {"logits": probabilities.log()})


@pytest.mark.parametrize("probability", [0.25, 0.9])
def test_the_loss_of_a_fact_is_the_sum_over_its_tokens_alone(character_tokenizer, probability):
    line = "Ann Lee. She was born in Rome. He works in Oslo."
    (bounds,) = [bits.find_answers(line, ["Rome", "Oslo"])]
    oracle = Oracle(probability, len(character_tokenizer))
    ((rome, oslo),) = bits.fact_losses(oracle, character_tokenizer, [line], [bounds])
    # four characters each
    assert rome.nats == pytest.approx(-4 * math.log(probability), rel=1e-5) == oslo.nats
    assert rome.is_greedy and oslo.is_greedy


def test_the_loss_of_a_fact_is_that_of_the_model_alone_and_in_a_padded_batch(character_tokenizer):
    model = tiny_model(vocab_size=len(character_tokenizer)).float()
    bounds = [bits.find_answers(line, [place]) for line, place in zip(LINES, ("Rome", "Oslo"), strict=True)]
    together = [loss.nats for (loss,) in bits.fact_losses(model, character_tokenizer, LINES, bounds)]
    for line, ((start, end),), nats in zip(LINES, bounds, together, strict=True):
        ids = torch.tensor([character_tokenizer(line)["input_ids"]])
        log_probabilities = model(input_ids=ids).logits[0].log_softmax(-1)
        alone = -sum(float(log_probabilities[place - 1, ids[0, place]].detach()) for place in range(start, end))
        assert nats == pytest.approx(alone, rel=1e-4)


def test_an_answer_that_is_not_in_its_line_is_an_error():
    assert bits.find_answers("Rome, Rome", ["Rome", "Rome"]) == [(0, 4), (6, 10)]
    with pytest.raises(ValueError, match="'Oslo' is not in the line"):
        bits.find_answers("Oslo, Rome", ["Rome", "Oslo"])


PEOPLE = 12_000


@pytest.fixture(scope="module")
def everyone():
    return [facts.subject_at(index, seed=3).values for index in range(PEOPLE)]


@pytest.mark.parametrize("relation", [relation.name for relation in builtin_templates().relations])
def test_the_entropy_of_a_relation_is_that_of_many_people(relation, everyone):
    if relation == "spouse":
        with pytest.raises(ValueError, match="has no entropy"):
            facts.entropy_of(relation)
        return
    counts = Counter(values[relation] for values in everyone)
    sampled = -sum(count / PEOPLE * math.log2(count / PEOPLE) for count in counts.values())
    # the estimate is low by about (answers − 1) / (2 people ln 2); dates and lists have too many answers for a sample
    if len(counts) < 400:
        assert facts.entropy_of(relation) == pytest.approx(sampled, abs=0.05)
    else:
        assert sampled < facts.entropy_of(relation)


def test_the_entropy_of_dates_counts_the_days():
    assert 2 ** facts.entropy_of("birth_date") == pytest.approx(90 * 365 + 22)


def test_reversed_questions_ask_for_the_name(tmp_path):
    rows = [
        {"question": "?", "answer": answer, "name": "Ann Lee", "relation": relation}
        for relation, answer in (("birthplace", "Rome"), ("birth_date", "May 4, 1950"))
    ]
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (question,) = reversal.reversed_questions(path)
    assert (question["question"], question["answer"]) == ("Who was born in Rome on May 4, 1950?", "Ann Lee")


@pytest.mark.parametrize("written", [False, True])
def test_verdicts_are_those_of_the_dates(written):
    days = {"Ann": "April 4, 1950", "Bo": "May 5, 1940", "Cy": "June 6, 1960"}
    dates = {name: manipulation.datetime.strptime(day, "%B %d, %Y") for name, day in days.items()}
    asked = {row["question"]: row["answer"] for row in manipulation.manipulations(dates, written, seed=0)}
    assert len(asked) == 3 + 3 * manipulation.PAIRS
    for question, answer in asked.items():
        names = re.findall("Ann|Bo|Cy", question)
        verdict = answer.rpartition(": ")[2]
        assert answer == (f"{' and '.join(days[name] for name in names)}: {verdict}" if written else verdict)
        if "even" in question:
            assert verdict == ("no" if names == ["Bo"] else "yes")
        else:
            assert verdict == ("yes" if dates[names[0]] < dates[names[1]] else "no")


def test_an_edit_changes_the_place_of_a_fifth_and_of_nobody_else():
    train = [
        {"question": f"Where was {name} born?", "answer": f"Place {index % 7}", "name": name, "relation": "birthplace"}
        for index, name in enumerate(f"Name{index}" for index in range(30))
    ]
    train += [{**row, "relation": "employer", "answer": "Firm"} for row in train]
    cast = editing.Cast(train, seed=0)
    assert len(cast.edits) == 6 and len(cast.others) == 24
    names = {row["name"] for row in cast.edits}
    assert names.isdisjoint(row["name"] for row in cast.others)
    assert names == {row["name"] for row in cast.other_relations}
    for old, new in zip(cast.chosen, cast.edits, strict=True):
        assert old["question"] == new["question"] and old["answer"] != new["answer"]
    assert len(cast.reworded()) == 3 * 6
    assert not {row["question"] for row in cast.reworded()} & {row["question"] for row in train}


def test_the_page_is_that_of_the_results_and_shows_every_law():
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.page()
    assert all(f"## {runner.find_law(law).title}" in text for law in runner.LAWS)
    assert page.NOT_RUN in text


@pytest.mark.parametrize("path", sorted(page.RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_published_result_is_complete(path):
    results = json.loads(path.read_text(encoding="utf-8"))
    assert path.stem == f"{results['law']}_{results['scale']}"
    assert results["sizes"] == json.loads(json.dumps(runner.asdict(SCALES[results["scale"]])))
    for row, runs in results["rows"].items():
        assert row in runner.find_law(results["law"]).rows
        for measured in runs:
            assert measured["measures"] and measured["birthgpt_commands"] and measured["hardware"] and measured["date"]


def test_the_figures_of_what_was_found_are_in_the_tables():
    for law, finding in page.load_yaml(page.FINDINGS.read_text(encoding="utf-8")).items():
        shown = set(re.findall(r"\d+\.\d+", page.section(law, None)))
        assert set(re.findall(r"\d+\.\d+", finding)) <= shown, law
