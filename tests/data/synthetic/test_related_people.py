"""Synthetic people with several relations: what their lines and questions contain, and that they are reproducible."""

import json
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations, islice, permutations

import pytest
from builders import name_of, read_lines

from birthgpt.data.questions import load_questions
from birthgpt.data.synthetic import RelationSettings, SyntheticSettings, people, write_related_people
from birthgpt.data.synthetic.facts import STEMS, subject_at
from birthgpt.data.synthetic.people import FIRST_NAMES, LAST_NAMES, person_at
from birthgpt.data.synthetic.related_people import RELATIONS
from birthgpt.data.synthetic.templates import builtin_templates
from birthgpt.data.synthetic.wordings import WordingSettings, lines_about, questions_about
from birthgpt.settings import make_settings
from birthgpt.utils.files import sha256_of

ALL = builtin_templates().relations
SUBJECTS = [subject_at(index, seed=3) for index in range(300)]
FILES = ["questions_train", "questions_dev", "questions_new_wordings"]


def write(folder, relations=("all",), seed=0, test_inputs=0, left_out=0, count=100, held_out=20, lines=2, **wording):
    return write_related_people(
        folder,
        SyntheticSettings(people=count, held_out=held_out, biographies_per_person=lines),
        make_settings(RelationSettings, relations=list(relations), left_out=left_out, **wording),
        seed=seed,
        test_inputs=test_inputs,
    )


def rows(folder, name):
    return [json.loads(line) for line in read_lines(folder / f"{name}.jsonl")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("related") / "people"
    write(folder, left_out=10, test_inputs=4)
    return folder


# wordings


def test_there_are_ten_relations_with_many_wordings():
    assert RELATIONS == (
        "birthplace", "birth_date", "occupation", "employer", "workplace",
        "field", "study_place", "residence", "nationality", "spouse",
    )  # fmt: skip
    for relation in ALL:
        assert len(relation.texts) >= 6 and len(relation.questions) >= 4 and len(relation.new_questions) >= 2
    questions = [question.text for relation in ALL for question in (*relation.questions, *relation.new_questions)]
    texts = [text.text for relation in ALL for text in relation.texts]
    assert len(set(questions)) == len(questions) and len(set(texts)) == len(texts)


@pytest.mark.parametrize("relation", ALL, ids=lambda relation: relation.name)
def test_new_questions_use_words_that_five_texts_or_the_trained_questions_have(relation):
    def stems(templates):
        # "attended" and "attend" have the same first four letters
        text = " ".join(template.text for template in templates).replace("{possessive}", "")
        return {word[:4] for word in re.findall(r"(?<!{)\b[a-z]{5,}", text)}

    known = stems((*relation.texts[:5], *relation.questions)) | {"whic"}
    for question in relation.new_questions:
        assert stems([question]) <= known


def test_every_sentence_contains_its_answer_as_the_question_expects_it():
    for subject in SUBJECTS:
        for relation in ALL:
            for template in relation.texts:
                one_wording = replace(relation, texts=(template,))
                (line,) = lines_about(subject, [one_wording], 1, WordingSettings(), seed=0)
                assert subject.values[relation.name] in line.removeprefix(f"{subject.name}. ")


# facts


def test_facts_depend_on_seed_and_index_alone_and_name_and_pronoun_are_those_of_the_person():
    assert subject_at(7, seed=1) == subject_at(7, seed=1) != subject_at(7, seed=2)
    assert all(
        (subject.name, subject.pronoun) == (person_at(index, 3).name, person_at(index, 3).pronoun)
        for index, subject in enumerate(SUBJECTS)
    )


def test_spouses_name_each_other():
    for one, other in zip(SUBJECTS[::2], SUBJECTS[1::2], strict=True):
        assert one.values["spouse"] == other.name and other.values["spouse"] == one.name


@pytest.mark.parametrize(
    ("relation", "form", "at_least"),
    [
        ("birthplace", r"\w+, [A-Z][A-Z]", 0.1),
        ("birthplace", r"[A-Z]\w+ [A-Z]\w+", 0.15),
        ("birthplace", r"[A-Z]\w+ (by|in|on|under) the [A-Z]\w+", 0.03),
        ("birth_date", r"[A-Z]\w+ \d\d?, 19\d\d", 1),
        ("occupation", r"[a-z ]+, [a-z ]+ and [a-z ]+", 0.05),
        ("occupation", r"[a-z]+( [a-z]+)?", 0.5),
        ("employer", r".* F\.C\.", 0.08),
        ("employer", r".*, Inc\.", 0.08),
        ("study_place", r"(University|.* School) of .*", 0.2),
        ("field", r"[a-z ]+ and [a-z ]+", 0.1),
        ("nationality", r"[A-Z]\w+ and [A-Z]\w+", 0.04),
    ],
)
def test_answers_have_many_forms(relation, form, at_least):
    answers = [subject.values[relation] for subject in SUBJECTS]
    assert sum(bool(re.fullmatch(form, answer)) for answer in answers) >= at_least * len(answers)


@pytest.mark.parametrize("relation", RELATIONS)
def test_one_constant_answer_is_right_for_few_people_and_no_other_fact_tells_the_answer(relation):
    answers = Counter(subject.values[relation] for subject in SUBJECTS)
    assert max(answers.values()) <= 0.06 * len(SUBJECTS)
    for other in set(RELATIONS) - {relation}:
        same = sum(subject.values[relation] == subject.values[other] for subject in SUBJECTS)
        assert same <= 0.04 * len(SUBJECTS)


def test_what_distinguishes_an_answer_is_in_no_other_and_in_no_name():
    stems = [stem for kind in STEMS.values() for stem in kind]
    assert len(set(stems)) == len(stems) == 240 + 120 + 256
    assert not [pair for pair in combinations(sorted(stems, key=len), 2) if pair[0] in pair[1]]
    names = set(FIRST_NAMES + LAST_NAMES)
    assert not names & {word for stem in stems for word in stem.split()}


# lines


def test_a_line_has_its_name_and_one_sentence_for_each_relation():
    for subject in SUBJECTS[:100]:
        for line in lines_about(subject, ALL, 3, WordingSettings(), seed=0):
            assert name_of(line) == subject.name
            assert line.count("  ") == line.count("..") == 0 and not set(line) & set("{}\t\n")
            assert all(answer in line.removeprefix(f"{subject.name}. ") for answer in subject.values.values())


@pytest.mark.parametrize("use", ["full_name", "pronoun"])
def test_the_first_sentence_has_the_full_name_and_the_others_as_the_setting_says(use):
    for subject in SUBJECTS[:50]:
        others = {"she": "he", "he": "she"}[subject.pronoun]
        (line,) = lines_about(subject, ALL[:3], 1, WordingSettings(subject=use), seed=0)
        # the line starts with the name; the first sentence, or all three, name the subject again
        assert line.count(subject.name) == (2 if use == "pronoun" else 4)
        assert not re.search(rf"\b{others}\b", line, re.IGNORECASE)


def test_a_pronoun_at_the_start_of_a_sentence_has_a_capital():
    (line,) = lines_about(SUBJECTS[0], ALL[:4], 1, WordingSettings(wordings=1, sentence_order="fixed"), seed=0)
    assert re.search(r"\. (He|She) (works|is)", line) or re.search(r"\. (His|Her) ", line)


def test_the_order_of_sentences_is_fixed_or_permuted():
    def order(line, subject):
        return tuple(sorted(range(3), key=lambda index: line.rindex(subject.values[ALL[index].name])))

    fixed, permuted = Counter(), Counter()
    for subject in SUBJECTS:
        if len({subject.values[relation.name] for relation in ALL[:3]}) == 3:
            for counts, name in ((fixed, "fixed"), (permuted, "permuted")):
                (line,) = lines_about(subject, ALL[:3], 1, WordingSettings(sentence_order=name), seed=0)
                counts[order(line, subject)] += 1
    assert set(fixed) == {(0, 1, 2)}
    assert set(permuted) == set(permutations(range(3)))
    assert max(permuted.values()) < 3 * min(permuted.values())


def test_lines_are_different_and_at_most_as_many_as_the_wordings_make():
    for wordings, order, possible in ((1, "fixed", 1), (1, "permuted", 6), (2, "fixed", 8), (2, "permuted", 48)):
        relations = [replace(relation, texts=relation.texts[:wordings]) for relation in ALL[:3]]
        lines = lines_about(SUBJECTS[0], relations, 1000, WordingSettings(sentence_order=order), seed=0)
        assert len(lines) == len(set(lines)) == possible
        assert lines[:3] == lines_about(SUBJECTS[0], relations, 3, WordingSettings(sentence_order=order), seed=0)[:3]


# questions


def test_a_question_asks_once_for_each_relation_in_a_wording_of_it():
    for new in (False, True):
        asked = list(questions_about(SUBJECTS[0], ALL, seed=0, new=new))
        assert [row.relation for row in asked] == list(RELATIONS)
        for row, relation in zip(asked, ALL, strict=True):
            wordings = relation.new_questions if new else relation.questions
            assert row.wording in [wording.text for wording in wordings]
            assert row.question == row.wording.replace("{name}", SUBJECTS[0].name)
            assert row.answer == SUBJECTS[0].values[row.relation]


# files


def test_the_same_arguments_write_the_same_bytes(tmp_path):
    for folder, seed in (("one", 4), ("two", 4), ("other", 5)):
        write(tmp_path / folder, seed=seed)
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {
        "README.md",
        "biographies.txt",
        *(f"{name}.{ending}" for name in FILES for ending in ("tsv", "jsonl")),
    }
    for name in names:
        one, two, other = (sha256_of(tmp_path / folder / name) for folder in ("one", "two", "other"))
        assert one == two != other


def test_everybody_has_lines_but_those_left_out_and_all_have_questions_in_one_part(corpus):
    names = {
        name: {row["name"] for row in rows(corpus, f"questions_{name}")}
        for name in ("train", "dev", "new_wordings", "left_out", "test_inputs")
    }
    assert {name: len(people) for name, people in names.items()} == {
        "train": 76, "dev": 20, "new_wordings": 20, "left_out": 10, "test_inputs": 4,
    }  # fmt: skip
    assert names["dev"] == names["new_wordings"]
    parts = [names["train"], names["dev"], names["left_out"], names["test_inputs"]]
    assert all(not one & other for one, other in combinations(parts, 2))
    counts = Counter(name_of(line) for line in read_lines(corpus / "biographies.txt"))
    assert counts == dict.fromkeys(names["train"] | names["dev"] | names["test_inputs"], 2)
    text = (corpus / "biographies.txt").read_text(encoding="utf-8")
    assert not any(name in text for name in names["left_out"])


def test_couples_are_in_the_same_part(corpus):
    for name in ("questions_train", "questions_dev", "questions_left_out"):
        people = {row["name"] for row in rows(corpus, name)}
        assert {row["answer"] for row in rows(corpus, name) if row["relation"] == "spouse"} == people


def test_the_two_forms_of_a_question_file_have_the_same_rows_and_both_can_be_loaded(corpus):
    for name in (*FILES, "questions_left_out"):
        pairs = [tuple(line.split("\t")) for line in read_lines(corpus / f"{name}.tsv")]
        assert pairs == [(row["question"], row["answer"]) for row in rows(corpus, name)]
        for ending in ("tsv", "jsonl"):
            loaded = load_questions(str(corpus / f"{name}.{ending}"))
            assert list(zip(loaded["question"], loaded["answer"], strict=True)) == pairs
    assert all("\t" not in line for line in read_lines(corpus / "questions_test_inputs.tsv"))
    assert not any("answer" in row for row in rows(corpus, "questions_test_inputs"))


def test_new_wordings_are_never_trained_on(corpus):
    wordings = {name: {row["wording"] for row in rows(corpus, name)} for name in FILES}
    assert wordings["questions_dev"] <= wordings["questions_train"]
    assert not wordings["questions_new_wordings"] & wordings["questions_train"]


def test_a_corpus_has_the_relations_and_the_wordings_that_are_asked_for(tmp_path):
    write(tmp_path, relations=("spouse", "field"), wordings=1, question_wordings=2, lines=3, sentence_order="fixed")
    train = rows(tmp_path, "questions_train")
    assert Counter(row["relation"] for row in train) == {"spouse": 80, "field": 80}
    assert len({row["wording"] for row in train}) == 4
    lines = read_lines(tmp_path / "biographies.txt")
    # one wording in a fixed order makes one line about each person
    assert len(lines) == 100 and all(" is married to " in line and " studied " in line for line in lines)


def test_corpora_of_different_sizes_have_the_same_dev_people_and_leave_out_the_same(tmp_path):
    for count in (100, 200):
        write(tmp_path / str(count), count=count, left_out=6, relations=["field", "employer"])
    for name in ("questions_dev", "questions_left_out"):
        assert rows(tmp_path / "100", name) == rows(tmp_path / "200", name)


def test_the_returned_counts_are_those_of_the_files(corpus, tmp_path):
    counts = write(tmp_path / "again", left_out=10, test_inputs=4)
    assert (counts.subjects, counts.held_out, counts.left_out, counts.lines) == (100, 20, 10, 200)
    assert counts.new_wordings == len(rows(corpus, "questions_new_wordings")) == 200
    for row in counts.relations:
        dev = [entry["answer"] for entry in rows(corpus, "questions_dev") if entry["relation"] == row.relation]
        train = [entry["answer"] for entry in rows(corpus, "questions_train") if entry["relation"] == row.relation]
        assert (row.train, row.dev, row.answers) == (len(train), len(dev), len({*train, *dev}))
        assert row.most_common_dev_ratio == max(Counter(dev).values()) / 20


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"relations": ["birthdate"]}, "^relations: there is no relation 'birthdate' in .*did you mean 'birth_date'"),
        ({"relations": ["field", "field"]}, "^relations: field field: give each relation once"),
        ({"wordings": 9}, "^wordings=9: the relation birthplace has 8"),
        ({"question_wordings": 5}, "^question_wordings=5: the relation birthplace has 4"),
        ({"sentence_order": "random"}, "^sentence_order='random' does not exist: choose from fixed, permuted"),
        ({"held_out": 21}, "^held_out=21: it must be even if spouse is a relation, to keep couples together"),
        ({"held_out": 100}, "^held_out: 100 is not a whole number from 1 to 99$"),
        ({"left_out": 999_982}, "^left_out: 999982 is not a whole number from 0 to 999980$"),
    ],
)
def test_a_wrong_number_or_name_is_named_and_nothing_is_written(given, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "people", **given)
    assert not (tmp_path / "people").exists()


def test_an_odd_number_is_allowed_without_couples(tmp_path):
    assert write(tmp_path, relations=["field"], held_out=21).held_out == 21


def test_people_are_generated_while_their_lines_are_written(generated, tmp_path, monkeypatch):
    generated_after_line = []

    def consume_a_few(path, lines, count, rng):
        path.touch()
        for _ in islice(lines, 4):
            generated_after_line.append(len(set(generated)))

    monkeypatch.setattr("birthgpt.data.synthetic.facts.person_at", people.person_at)
    monkeypatch.setattr("birthgpt.data.synthetic.relation_corpus.write_shuffled", consume_a_few)
    write(tmp_path, relations=["field"], seed=9, lines=1)
    # with each person, the spouse is generated
    assert generated_after_line == [2, 2, 4, 4]


def test_existing_files_are_kept(tmp_path):
    (tmp_path / "questions_dev.jsonl").write_text("mine")
    with pytest.raises(ValueError, match="^output_dir: .*questions_dev.jsonl exists already"):
        write(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("given", [{"wordings": 2}, {"subject": "full_name"}, {"left_out": 2}])
def test_a_setting_that_needs_relations_says_so(given):
    with pytest.raises(ValueError, match=f"^{next(iter(given))}: give --relations too"):
        make_settings(RelationSettings, **given)
