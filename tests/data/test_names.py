"""Names: one form of every text, where the name of a line ends, and which names a question contains."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birthgpt.data.names import (
    NameFinder,
    looks_like_sentence,
    name_key,
    normalize,
    normalize_text,
    odd_names,
    read_name,
    relation_of,
    split_name,
    text_after_name,
)

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# the characters that normalisation is about, next to each other
ODD_TEXT = st.text(st.sampled_from("aé\u0301 \u00a0\t\u200b\u200c\u200d\ufeff\u00ad\u200eم👩क\u094d."))


@settings(deadline=None, derandomize=True)
@given(text=st.one_of(ANY_TEXT, ODD_TEXT))
def test_a_normalised_text_stays_the_same(text):
    for form in (normalize, normalize_text):
        assert form(form(text)) == form(text)
        assert form(unicodedata.normalize("NFD", text)) == form(text)
    assert normalize(normalize_text(text)) == normalize(text)
    assert normalize(text).split() == normalize(text).split(" ") or not normalize(text)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("Ada Lovelace. Ada Lovelace was born in London .", "Ada Lovelace"),
        ("Daniel M. Hausman. Born .", "Daniel M. Hausman"),
        ("J.R.R. Tolkien. Born .", "J.R.R. Tolkien"),
        ("J. K. Rowling. Born .", "J. K. Rowling"),
        ("k.d. lang. Born .", "k.d. lang"),
        ("Theodore J. van den Broek. Born .", "Theodore J. van den Broek"),
        ("Dr. St. John Sr. Smith. Born .", "Dr. St. John Sr. Smith"),
        ("Sammy Davis, Jr.. Born .", "Sammy Davis, Jr."),
        ("No I.D.. Born .", "No I.D."),
        ("Henry IV. Born .", "Henry IV"),
        ("Abeill%C3%A9. Born .", "Abeill%C3%A9"),
        ("Żółć Ω漢字. Born .", "Żółć Ω漢字"),
        ("First Last. Second One. Born .", "First Last"),
        # the sentence is not a part of the name
        ("Sammy Davis Jr. Born in Harlem. He sang .", "Sammy Davis Jr."),
        ("Sammy Davis Jr. Sammy Davis Jr. was born in Harlem. He sang .", "Sammy Davis Jr."),
        ("Jane Doe Ph.D. Born in Paris. She taught .", "Jane Doe Ph.D."),
        ("Jane Doe M.Sc. Born in Paris. She taught .", "Jane Doe M.Sc."),
        ("M.I.A. Born in London. She sings .", "M.I.A."),
        ("John Smith (b. 1950). Born in Leeds. He ran .", "John Smith (b. 1950)"),
        ("Malcolm X. Born in Omaha. He spoke .", "Malcolm X"),
        ("Malcolm X. Malcolm X. was born in Omaha .", "Malcolm X"),
        ("Anastasius I. Pope Saint Anastasius I, born in Rome, was pope to 401 .", "Anastasius I"),
        ("Q. Born in Bath. He died .", "Q"),
        ("Ada Lovelace.\u00a0Born in London. She wrote .", "Ada Lovelace"),
        ("Ada Lovelace.\tBorn in London. She wrote .", "Ada Lovelace"),
        ("A sentence without a name .", None),
        ("Ends here.", None),
        ("a " * 200 + "b. Born .", None),
        ("", None),
    ],
)
def test_the_name_is_the_text_before_the_full_stop_that_ends_it(line, name):
    assert read_name(line) == name


def test_a_name_is_read_from_a_long_line_at_once():
    started = time.perf_counter()
    for line in ("A. " * 50_000, "(" * 100_000, "A.. (" * 50_000, "a" * 100_000 + ". b"):
        split_name(line)
    assert time.perf_counter() - started < 0.5


@settings(deadline=None, derandomize=True)
@given(line=st.one_of(ANY_TEXT, ODD_TEXT))
def test_a_line_starts_with_its_name_and_is_read_again_alike(line):
    name, text = split_name(normalize_text(line))
    assert text.startswith(name) and normalize(name) == name
    assert split_name(text) == (name, text)


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("Ada Byron. Born .", "Ada Byron", " Born ."),
        ("Sammy Davis Jr.. Born .", "Sammy Davis Jr.", " Born ."),
        ("Sammy Davis Jr. Born .", "Sammy Davis Jr.", " Born ."),
        ("Ada Byron (1815) was", "Ada Byron", " (1815) was"),
        ("Ada Byron's mother", "Ada Byron", "'s mother"),
        ("Lima is a city", "Li", "Lima is a city"),
        ("Li\u0301ma is a city", "Li", "Li\u0301ma is a city"),
        ("Ann-Marie is", "Ann", "Ann-Marie is"),
        ("She was Ann", "Ann", "She was Ann"),
        ("Born .", "", "Born ."),
    ],
)
def test_a_name_is_cut_off_at_the_end_of_a_word(text, name, rest):
    assert text_after_name(text, name) == rest


NAMES = ["Ada Byron", "Ada", "Li", "Paul", "Sammy Davis Jr.", "'s-Hertog", "Zoë Fan", "किरण देवी", "Malcolm X"]


@pytest.mark.parametrize(
    ("question", "names"),
    [
        ("Where was Ada Byron born?", ["Ada Byron"]),
        ("Ada?", ["Ada"]),
        ("What is Ada's birthplace?", ["Ada"]),
        ("Is Ada older than Ada Byron?", ["Ada", "Ada Byron"]),
        ("Was Sammy Davis Jr born before Malcolm X?", ["Sammy Davis Jr.", "Malcolm X"]),
        ("Who was Sammy Davis Jr.?", ["Sammy Davis Jr."]),
        ("Where is Lima?", []),
        ("Was Jean-Paul born here, or Paul-Henri?", []),
        ("Where was Adam Byron born?", []),
        ("Where is 's-Hertog?", ["'s-Hertog"]),
        ("Where was Zoe\u0308\u00a0F\u200ban born?", ["Zoë Fan"]),
        ("किरण देवी कहाँ", ["किरण देवी"]),
        ("", []),
    ],
)
def test_the_names_of_a_corpus_are_found_in_a_question(question, names):
    assert [mention.name for mention in NameFinder(NAMES).find(question)] == names


def test_long_questions_are_searched_in_linear_time():
    finder = NameFinder(NAMES)
    started = time.perf_counter()
    assert len(finder.find("Is Ada Byron here? " * 2_000)) == 2_000
    assert time.perf_counter() - started < 5


def test_the_relation_is_the_question_without_its_name():
    assert relation_of("Where was  Ada Byron born?", "Ada Byron") == "Where was {name} born?"
    assert relation_of("Is Li from Lima?", "Li") == "Is {name} from Lima?"
    assert relation_of("Who?", "Ada") == "Who?"


def test_names_are_compared_without_their_last_full_stop_and_joiners():
    assert name_key("Sammy Davis Jr.") == name_key("Sammy\u00a0Davis Jr") != name_key("Sammy Davis")
    assert name_key("علی\u200cرضا") == name_key("علیرضا")


def test_odd_names_are_listed_by_what_is_odd():
    names = [
        "Ada Byron",
        "One Two Three Four Five Six Seven Eight Nine",
        "Ada Byron Ada Byron was",
        "Yang Yang",
        "Daniel M",
    ]
    assert list(odd_names(names).values()) == [names[1:2], names[2:4], names[4:]]
    assert [name for name in names if looks_like_sentence(name)] == names[1:4]


def test_a_name_as_long_as_a_file_does_not_take_for_ever():
    name = "Ada " + "x " * 100_000
    start = time.monotonic()
    assert relation_of(f"Where was {name}born?", name).startswith("Where was Ada x")
    assert time.monotonic() - start < 20
