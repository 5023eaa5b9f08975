"""Names: how text is normalised, where the name of a line ends, and which names of a corpus a question contains."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

# no text needs them: they allow a line break, or stand where files were joined
_BREAKS = re.compile("[\u200b\u2060\ufeff]")
# soft hyphens, marks of direction, invisible operators, and those above
_MARKS = "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
_JOINERS = re.compile("[\u200c\u200d]+")
# letters without case and the marks on them, as in Persian and Hindi, and emoji
_JOINED_CATEGORIES = ("Lo", "Lm", "Mn", "Mc", "So", "Sk")

_BEFORE_A_NAME = {"St", "Dr", "Mr", "Mrs", "Ms", "Prof", "Rev"}
_AFTER_A_NAME = {"Jr", "Sr", "Esq"}
_SMALL_WORDS = set(
    "af al av ben bin da das de del della den der di do dos du e el i ibn la le of ten ter the van von y zu".split()
)
_FULL_STOP = re.compile(rf"\.(?={_MARKS}*\s)")
_BRACKETS = re.compile(r"\([^()]*\)")
_ACCENTS = re.compile("[\u0300-\u036f]+")
_APOSTROPHES = re.compile("['\u2018\u2019\u02bc`]")
# Unicode does not decompose these letters
_PLAIN_LETTERS = str.maketrans(
    dict(zip("øłđðıħŧæœþ", ("o", "l", "d", "d", "i", "h", "t", "ae", "oe", "th"), strict=True))
)
_LONGEST_NAME = 256
_MANY_WORDS = 8


def normalize_text(text: str) -> str:
    """Text in Unicode's form NFC, without zero-width spaces, byte order marks and outer white space."""
    return unicodedata.normalize("NFC", _BREAKS.sub("", text)).strip()


def normalize(text: str) -> str:
    """A name, a question or an answer in one form: as `normalize_text`, and with one space for each white space.

    Soft hyphens and marks of direction are left out. Joiners (U+200C, U+200D) stay only between letters that have no
    case, and in emoji.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", re.sub(_MARKS, "", text))
        text = unicodedata.normalize("NFC", _JOINERS.sub(_needed_joiner, text))
    return " ".join(text.split())


def name_key(name: str) -> str:
    """What names are compared by: the normalised name without joiners and without a full stop at its end."""
    return _JOINERS.sub("", normalize(name)).rstrip(". ")


def fold(text: str) -> str:
    """What spellings of a name have in common: small letters without accents, and words without punctuation.

    `Émilie du Châtelet`, `EMILIE DU CHATELET` → `emilie du chatelet`; `J.-J. O’Brien` → `j j obrien`. Marks of scripts
    other than Latin, Greek and Cyrillic stay, because they are vowels there.
    """
    text = unicodedata.normalize("NFKD", normalize(text).casefold())
    text = _APOSTROPHES.sub("", _ACCENTS.sub("", text).translate(_PLAIN_LETTERS))
    kept = (character if unicodedata.category(character)[0] in "LMN" else " " for character in text)
    return unicodedata.normalize("NFC", " ".join("".join(kept).split()))


def read_name(line: str) -> str | None:
    """The name at the start of a biography, normalised: the text before the full stop that ends the name.

    - A full stop before white space ends the name, except in brackets (`John Smith (b. 1950). Born …`).
    - The second of two full stops always ends it (`Sammy Davis Jr.. Born …`).
    - `St.`, `Dr.`, `Mr.`, `Mrs.`, `Ms.`, `Prof.` and `Rev.` never end it.
    - After one letter, a number below 100 or an abbreviation (`Jr.`, `Ph.D.`), the name goes on if the words up to the
      next full stop could be a part of it (`Daniel M. Hausman. Born …`): no word except `van`, `of` and the like begins
      with a small letter. Otherwise it ends (`Malcolm X. Born in Omaha. …`). The full stop of an abbreviation belongs
      to the name.

    A line whose first 256 characters contain no such full stop has no name.
    """
    return split_name(line)[0] or None


def split_name(line: str) -> tuple[str, str]:
    """The name of a line ("" if it has none), and the line with this name in its normalised form: `Name. Born …`."""
    end = _name_end(line)
    name = "" if end is None else normalize(line[:end])
    if not name:
        return "", line
    full_stop = "." if line.startswith(".", end) else ""
    rest = line[end:].removeprefix(full_stop).lstrip()
    return name, f"{name}{full_stop} {rest}"


def with_name(line: str, name: str) -> str:
    """The line with `name` in this form at its start, if it starts with the same name in another form."""
    start = line[: 2 * len(name) + 20]
    if start.startswith(name) or not normalize(start).startswith(name):
        return line
    # the line may have other spaces, and marks and joiners between any two characters
    characters = (r"\s+" if character == " " else re.escape(character) for character in name)
    between = f"{_MARKS[:-1]}\u200c\u200d]*"
    match = re.match(between + between.join(characters), line)
    return name + line[match.end() :] if match else line


def text_after_name(text: str, name: str) -> str:
    """The text without the name at its start and the full stop behind it.

    A name that is only the beginning of a longer word stays (`Li` in `Lima is …`, `Ann` in `Ann-Marie is …`).
    """
    if not name or not text.startswith(name) or not _ends_word(text, len(name)):
        return text
    return text[len(name) :].removeprefix(".")


def odd_names(names: Iterable[str]) -> dict[str, list[str]]:
    """The names that may be misread, by what looks odd."""
    names = list(names)
    kinds = {
        f"names_longer_than_{_MANY_WORDS}_words": _has_many_words,
        "names_repeated_in_themselves": _repeats_itself,
        "names_ending_in_one_letter": _ends_in_one_letter,
    }
    return {kind: list(filter(looks_odd, names)) for kind, looks_odd in kinds.items()}


def looks_like_sentence(name: str) -> bool:
    """Whether a name has more than eight words or repeats itself, as in `Ada Byron Ada Byron was born in London`."""
    return _has_many_words(name) or _repeats_itself(name)


class Mention(NamedTuple):
    """A name in a normalised question, as the corpus writes it, and its place: characters `start` to `end`."""

    name: str
    start: int
    end: int


class NameFinder:
    """Finds the names of a corpus in questions of any form, up to 256 characters long.

    Args:
        names: the names of the corpus; names with the same `name_key` are one name.
    """

    def __init__(self, names: Iterable[str]):
        self.names: dict[str, str] = {}
        for name in names:
            if key := name_key(name):
                self.names.setdefault(key, name)
        self._first_words = {key[: _first_end(key)] for key in self.names}
        self._longest = min(_LONGEST_NAME, max(map(len, self.names), default=0))

    def spelled(self, name: str) -> str:
        """The name as the corpus writes it; unchanged if the corpus does not contain it."""
        return self.names.get(name_key(name), name)

    def find(self, question: str) -> list[Mention]:
        """The names in a question, in order, at the boundaries of words; the longer of two that overlap."""
        question = normalize(question)
        found = sorted(self._candidates(question), key=lambda mention: mention.start - mention.end)
        chosen: list[Mention] = []
        for mention in found:
            if all(mention.end <= other.start or other.end <= mention.start for other in chosen):
                chosen.append(mention)
        return sorted(chosen, key=lambda mention: mention.start)

    def longer_names(self, names: Iterable[str]) -> dict[str, str]:
        """Those of the given names that are whole words of another name, each with the first such other name."""
        given = {name_key(name): name for name in names}
        found: dict[str, str] = {}
        for key, other in self.names.items():
            words = key.split()
            for start in range(len(words)):
                for end in range(start + 1, len(words) + 1):
                    part = " ".join(words[start:end])
                    if part in given and part != key:
                        found.setdefault(given[part], other)
        return found

    def _candidates(self, question: str) -> Iterator[Mention]:
        """The longest name at each start of a word."""
        ends = [index for index in range(1, len(question) + 1) if _ends_word(question, index)]
        for start in range(len(question)):
            if not _starts_word(question, start):
                continue
            # joiners and a full stop are not in keys
            near = ends[bisect_right(ends, start) : bisect_right(ends, start + 2 * self._longest + 2)]
            if not near or _key_of(question[start : near[0]]) not in self._first_words:
                continue
            for end in reversed(near):
                name = self.names.get(_key_of(question[start:end]))
                if name is not None:
                    yield Mention(name, start, end)
                    break


# reports compare every question with several others
@lru_cache(maxsize=100_000)
def relation_of(question: str, name: str) -> str:
    """The normalised question with `{name}` in place of the name: what is asked about the person."""
    question = normalize(question)
    mentions = NameFinder([name]).find(question)
    for mention in reversed(mentions):
        question = question[: mention.start] + "{name}" + question[mention.end :]
    return question


def _words(name: str) -> list[str]:
    return [word.strip(".,()") for word in name.split()]


def _has_many_words(name: str) -> bool:
    return len(name.split()) > _MANY_WORDS


def _repeats_itself(name: str) -> bool:
    words = _words(name)
    pairs = list(zip(words, words[1:], strict=False))
    return len(set(pairs)) < len(pairs) or (len(words) == 2 and words[0] == words[1])


def _ends_in_one_letter(name: str) -> bool:
    last = (_words(name) or [""])[-1]
    return len(last) == 1 and last.lower() != last.upper()


def _key_of(text: str) -> str:
    return _JOINERS.sub("", text).rstrip(". ")


def _first_end(key: str) -> int:
    return next(index for index in range(1, len(key) + 1) if _ends_word(key, index))


def _needed_joiner(match: re.Match[str]) -> str:
    text, start, end = match.string, match.start(), match.end()
    neighbours = text[start - 1 : start], text[end : end + 1]
    are_joined = all(character and unicodedata.category(character) in _JOINED_CATEGORIES for character in neighbours)
    return match[0][0] if are_joined else ""


def _is_word(text: str, index: int) -> bool:
    """Whether the character at this index is a letter, a mark on a letter, a digit or a joiner."""
    if not 0 <= index < len(text):
        return False
    return unicodedata.category(text[index])[0] in "LMN" or text[index] in "\u200c\u200d"


def _ends_word(text: str, index: int) -> bool:
    """Whether a word or a single other character ends before this index; a hyphen in a word does not end it."""
    if text[index - 1].isspace() or (_is_word(text, index - 1) and _is_word(text, index)):
        return False
    return not (text.startswith("-", index) and _is_word(text, index + 1))


def _starts_word(text: str, index: int) -> bool:
    """Whether a word or a single other character starts at this index."""
    if text[index].isspace() or (_is_word(text, index - 1) and _is_word(text, index)):
        return False
    return not (index > 1 and text[index - 1] == "-" and _is_word(text, index - 2))


def _name_end(line: str) -> int | None:
    """The index behind the name at the start of a line, or None; see `read_name`."""
    line = line[:_LONGEST_NAME]
    first = _FULL_STOP.search(line)
    # most names end at the first full stop: this is fast
    if first is None:
        return None
    name = line[: first.start()]
    if "(" not in name and name.strip() and _ending(name.split()[-1]) == "full stop":
        return first.start()
    # full stops in brackets do not count
    line = _BRACKETS.sub(lambda match: match[0].replace(".", "_"), line)
    stops = [match.start() for match in _FULL_STOP.finditer(line)]
    for stop, following in zip(stops, [*stops[1:], None], strict=False):
        name = line[:stop]
        if name.endswith("."):
            return stop
        words = name.split()
        if not words:
            continue
        ending = _ending(words[-1])
        if ending == "full stop":
            return stop
        goes_on = ending == "title" or (
            following is not None and _may_be_part_of_name(line[stop + 1 : following], name)
        )
        if not goes_on:
            return stop + 1 if ending == "abbreviation" else stop
    return None


def _ending(word: str) -> str:
    """What a full stop behind this word is: of a title, an abbreviation, an initial, or the end of a name."""
    last = word.split(".")[-1]
    letters, digits = sum(map(str.isalpha, last)), sum(map(str.isdigit, last))
    if last in _BEFORE_A_NAME:
        return "title"
    if last in _AFTER_A_NAME or ("." in word and 0 < letters <= 3 and last.isalpha()):
        return "abbreviation"
    return "initial" if letters <= 1 and digits <= 2 else "full stop"


def _may_be_part_of_name(text: str, before: str) -> bool:
    """Whether a text between two full stops looks like a part of a name, and not like a sentence."""
    words = text.split()
    if not 0 < len(words) <= 6:
        return False
    before = before.strip()
    # the sentence begins with the name again
    if len(before.split()) > 1 and text.strip().startswith(before):
        return False
    if not any(map(str.isupper, before)) and len(words) == 1:
        return True
    return all(not word[0].islower() or word in _SMALL_WORDS or any(map(str.isupper, word)) for word in words)
