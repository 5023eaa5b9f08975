"""Templates of a user: what they mean, and how a mistake in them is told."""

from pathlib import Path

import pytest

from birthgpt.data.synthetic.templates import builtin_templates, check_fields, parse_templates, read_templates
from birthgpt.data.synthetic.wordings import Subject, WordingSettings, lines_about, questions_about

GOOD = """name: player
relations:
  team:
    answer: club
    texts:
      - "{subject} plays for {answer} in {country}."
    questions:
      - "Which team does {name} play for?"
    new_questions:
      - "Who is the team of {name}?"
"""
COLUMNS = ["player", "club", "country"]


def test_a_template_is_filled_with_columns_and_words():
    relations = parse_templates(GOOD, "t.yaml").relations
    subject = Subject("Ada Keller", {"player": "Ada Keller", "club": "Lynx F.C.", "country": "Chad"})
    assert lines_about(subject, relations, 5, WordingSettings(), 0) == [
        "Ada Keller. Ada Keller plays for Lynx F.C. in Chad."
    ]
    (asked,) = questions_about(subject, relations, seed=0)
    assert vars(asked) == {
        "question": "Which team does Ada Keller play for?",
        "answer": "Lynx F.C.",
        "name": "Ada Keller",
        "relation": "team",
        "wording": "Which team does {name} play for?",
    }
    (new,) = questions_about(subject, relations, seed=0, new=True)
    assert new.question == "Who is the team of Ada Keller?"


@pytest.mark.parametrize(
    ("text", "pronoun", "line"),
    [
        ("{subject} is with {answer}.", "she", "Bo. Bo is with Elk. She is with Elk."),
        ("{possessive} club is {answer}.", "he", "Bo. Bo's club is Elk. His club is Elk."),
        ("{answer} employs {object}.", "she", "Bo. Elk employs Bo. Elk employs her."),
        ("{answer} employs {object}.", "it", "Bo. Elk employs Bo. Elk employs it."),
        ("{name} is with {answer}.", "she", "Bo. Bo is with Elk. Bo is with Elk."),
        ("{subject} is with {answer}.", None, "Bo. Bo is with Elk. Bo is with Elk."),
        ("{subject} runs {an_answer}.", "it", "Bo. Bo runs an Elk. It runs an Elk."),
    ],
)
def test_subject_possessive_and_object_are_the_name_first_and_then_the_pronoun(text, pronoun, line):
    (relation,) = parse_templates(GOOD.replace("{subject} plays for {answer} in {country}.", text), "t").relations
    subject = Subject("Bo", {"player": "Bo", "club": "Elk", "country": "Chad"}, pronoun)
    assert lines_about(subject, [relation, relation], 1, WordingSettings(), seed=0) == [line]


def test_one_full_stop_ends_a_sentence_after_an_abbreviation():
    (relation,) = parse_templates(GOOD.replace(" in {country}", ""), "t").relations
    subject = Subject("Bo", {"player": "Bo", "club": "Elk F.C.", "country": "Chad"})
    assert lines_about(subject, [relation], 1, WordingSettings(), 0) == ["Bo. Bo plays for Elk F.C."]


def test_what_nobody_knows_is_left_out():
    relations = parse_templates(GOOD, "t.yaml").relations
    for unknown in ("club", "country"):
        subject = Subject("Bo", {"player": "Bo", "club": "Elk", "country": "Chad", unknown: ""})
        assert lines_about(subject, relations, 5, WordingSettings(), 0) == []
        assert len(list(questions_about(subject, relations, 0))) == (unknown == "country")


def test_the_templates_of_synthetic_people_are_read_from_the_package():
    check_fields(builtin_templates(), ["name", "pronoun", *(r.name for r in builtin_templates().relations)], "people")


def test_the_templates_of_the_documentation_can_be_used():
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    templates = parse_templates(page.partition("```yaml\n")[2].partition("```")[0], "data.md")
    check_fields(templates, ["player", "club", "country", "pronoun"], "players.csv")
    assert [len(relation.new_questions) for relation in templates.relations] == [1]


# mistakes


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{country}",
            "{city}",
            r"^t.yaml, line 6: \{city\} in '.*' is not a column of T.csv; there are: player, club, ",
        ),
        ("{country}", "{contry}", "^t.yaml, line 6: .*did you mean 'country'"),
        ("for?", "for in {}?", r"^t.yaml, line 8: \{\} in "),
        ("name: player", "name: players", "^t.yaml, line 1: 'players' is not a column of T.csv; did you mean 'player'"),
        ("name: player\n", "", "^t.yaml: 'name' is not a column"),
        ("answer: club", "answer: shirt", "^t.yaml, line 4: 'shirt' is not a column of T.csv"),
        ("name: player", "name: player\npronoun: gender", "^t.yaml, line 2: 'gender' is not a column"),
    ],
)
def test_a_field_that_the_table_lacks_is_named_with_file_and_line(old, new, message):
    with pytest.raises(ValueError, match=message):
        check_fields(parse_templates(GOOD.replace(old, new), "t.yaml"), COLUMNS, "T.csv")


@pytest.mark.parametrize(
    ("text", "question", "counted"),
    [
        ("{answer} in {contry} at {tim}", "Where does {name} play?", "2 fields in 1 template"),
        ("{answer} in {contry}", "Where in {contry} does {name} play?", "2 fields in 2 templates"),
        ("{answer} in {contry} at {tim}", "Where in {town} does {name} play?", "3 fields in 2 templates"),
        ("{answer} in {contry}, {contry}", "Where in {town} does {name} play?", "2 fields in 2 templates"),
    ],
)
def test_fields_that_the_table_lacks_are_counted_once_a_template_and_the_first_is_named(text, question, counted):
    several = GOOD.replace("{subject} plays for {answer} in {country}.", text)
    several = several.replace("Which team does {name} play for?", question)
    with pytest.raises(ValueError) as error:
        check_fields(parse_templates(several, "t.yaml"), COLUMNS, "T.csv")
    assert str(error.value) == (
        f"{counted} are not columns of T.csv, first {{contry}} in {text!r} (t.yaml, line 6); did you mean 'country'? "
        "there are: player, club, country"
    )


def test_a_field_that_one_template_repeats_is_one_mistake():
    repeated = parse_templates(GOOD.replace("{country}", "{city}, {city}"), "t.yaml")
    with pytest.raises(ValueError, match=r"^t.yaml, line 6: \{city\} in '.*' is not a column of T.csv"):
        check_fields(repeated, COLUMNS, "T.csv")


def test_fields_that_the_table_lacks_are_told_before_a_word_that_is_also_a_column():
    templates = parse_templates(GOOD.replace("play for?", "play for in {city}?"), "t.yaml")
    with pytest.raises(ValueError, match=r"^t.yaml, line 8: \{city\} in '.*' is not a column of T.csv"):
        check_fields(templates, [*COLUMNS, "subject"], "T.csv")


def test_a_word_of_templates_that_is_also_a_column_is_refused():
    templates = parse_templates(GOOD, "t.yaml")
    with pytest.raises(ValueError, match=r"^t.yaml, line 6: \{subject\} is a word of templates, and also a column of"):
        check_fields(templates, [*COLUMNS, "subject"], "T.csv")
    check_fields(templates, [*COLUMNS, "object"], "T.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{subject} plays for {answer}", "{subject} plays for {answer", "^t, line 6: the braces in .* do not match"),
        ("for {answer} in", "in", "^t, line 6: .* does not tell the answer; add {answer}"),
        ("{name} play for", "she play for", "^t, line 8: .* asks about nobody; add {name}"),
        ("{name} play for", "{name} play for {club}", "^t, line 8: .* is a question, which cannot contain {club}"),
        ("{name} play for", "{name} and {subject} play for", "^t, line 8: .* cannot contain {subject}"),
        ('      - "Which team does {name} play for?"\n', "", "^t, line 7: expected a list of templates"),
        ("    questions:\n", "    question:\n", "^t, line 7: 'question' is not a key; did you mean 'questions'"),
        ("name: player\n", "name: player\nname: x\n", "^t, line 2: 'name' is given twice"),
        ("    texts:\n", "    texts: x\n#", "^t, line 5: expected a list of templates"),
        ('"Which team does {name} play for?"', "{name}: x", "^t: this is not YAML|^t, line 8: expected text"),
        ('"Which team does {name} play for?"', '""', "^t, line 8: expected text on one line"),
        ("{subject} plays", "{subject} ⁇ plays", "^t, line 6, character .*special token"),
        ("relations:", "relation:", "^t, line 2: 'relation' is not a key; did you mean 'relations'"),
        (GOOD, "name: x\n", "^t: the key 'relations' is missing"),
        (GOOD, "relations: {}\n", "^t: there are no relations in it"),
        (GOOD, "", "^t: expected a mapping"),
        (GOOD, "relations: {a: {texts: ['{answer}']}}", "^t, line 1: relation a has no questions"),
        (GOOD, "a: [", "^t: this is not YAML: .*needs quotes"),
    ],
)
def test_a_mistake_in_the_templates_is_told_with_file_and_line(old, new, message):
    assert old in GOOD
    with pytest.raises(ValueError, match=message):
        parse_templates(GOOD.replace(old, new), "t")


def test_a_template_that_is_given_twice_is_named_with_both_lines():
    repeated = GOOD.replace("Who is the team of {name}?", "Which team does {name} play for?")
    with pytest.raises(ValueError, match="^t, line 10: 'Which team does {name} play for\\?' repeats line 8$"):
        parse_templates(repeated, "t")


def test_a_file_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="^nowhere.yaml: the templates cannot be read"):
        read_templates("nowhere.yaml")
