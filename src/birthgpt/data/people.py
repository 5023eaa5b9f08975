"""The embedded world: invented people, their biographies and the questions about them.

It stands in for the real files, has the same shape, and grows from 100 to a million people:

    python -m birthgpt.data.people --output_dir world --people 1000 --held_out 200

Every person is a pure function of (seed, index), so people are streamed and never all held in memory.
All attributes are drawn independently of each other and of the name: a birthplace can only be known by
having read it. The places of work, study and residence come from the same distribution as the
birthplace, and stand in the same sentences.
"""

import argparse
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import accumulate, islice
from pathlib import Path

MIN_PEOPLE, MAX_PEOPLE = 100, 1_000_000
MAX_BIOGRAPHIES_PER_PERSON = 1000
# lines shuffled in memory at once, and the most files that hold such a share of the lines
SHARD_LINES, MAX_SHARDS = 50_000, 256

WIKI, TRAIN = "wiki.txt", "birth_places_train.tsv"
DEV, TEST_INPUTS = "birth_dev.tsv", "birth_test_inputs.tsv"


def _listed(text: str) -> tuple[str, ...]:
    separator = "|" if "|" in text else ","
    return tuple(" ".join(entry.split()) for entry in text.split(separator))


PLACES = _listed("""Aarhus, Abidjan, Accra, Adelaide, Alexandria, Algiers, Almaty, Amman, Amsterdam, Ankara,
    Antwerp, Asunción, Athens, Atlanta, Auckland, Baghdad, Baku, Baltimore, Bangkok, Barcelona, Basel, Beirut,
    Belfast, Belgrade, Bergen, Berlin, Bilbao, Birmingham, Bogotá, Bologna, Bordeaux, Boston, Bratislava,
    Bremen, Brisbane, Bristol, Brussels, Bucharest, Budapest, Buenos Aires, Cairo, Calgary, Canberra,
    Cape Town, Caracas, Cardiff, Casablanca, Chicago, Christchurch, Cleveland, Cologne, Colombo, Copenhagen,
    Cork, Córdoba, Dakar, Damascus, Dallas, Delhi, Denver, Detroit, Dhaka, Dresden, Dublin, Durban,
    Düsseldorf, Edinburgh, Edmonton, Frankfurt, Galway, Geneva, Genoa, Ghent, Glasgow, Gothenburg, Granada,
    Graz, Haifa, Hamburg, Hanoi, Hanover, Harare, Havana, Helsinki, Hiroshima, Hong Kong, Houston, Istanbul,
    Jakarta, Jerusalem, Johannesburg, Kabul, Kampala, Karachi, Kathmandu, Kharkiv, Khartoum, Kigali, Kingston,
    Kinshasa, Kraków, Kuala Lumpur, Kyiv, Kyoto, Lagos, Lahore, Lausanne, Leeds, Leiden, Leipzig, Lille, Lima,
    Lisbon, Liverpool, London, Los Angeles, Luanda, Lusaka, Lviv, Lyon, Madrid, Malmö, Manchester, Manila,
    Marseille, Medellín, Melbourne, Mexico City, Miami, Milan, Minsk, Montevideo, Montreal, Moscow, Mumbai,
    Munich, Nairobi, Naples, New Orleans, New York, Newcastle, Nottingham, Nuremberg, Odessa, Oporto, Osaka,
    Oslo, Ottawa, Palermo, Paris, Perth, Philadelphia, Phoenix, Pittsburgh, Plymouth, Portland, Prague,
    Pretoria, Quebec, Quito, Rabat, Reykjavík, Riga, Rio de Janeiro, Rome, Rotterdam, Saint Petersburg,
    Salzburg, San Francisco, San José, Santiago, Sarajevo, Seattle, Seoul, Seville, Shanghai, Sheffield,
    Singapore, Skopje, Sofia, Stockholm, Strasbourg, Stuttgart, Sydney, São Paulo, Taipei, Tallinn, Tashkent,
    Tbilisi, Tehran, Tel Aviv, Thessaloniki, Tirana, Tokyo, Toronto, Toulouse, Trieste, Tripoli, Tunis, Turin,
    Uppsala, Utrecht, Valencia, Valparaíso, Vancouver, Venice, Verona, Vienna, Vilnius, Warsaw, Wrocław,
    Yerevan, Yokohama, Zagreb, Zürich""")

# 1/(rank + 30): the commonest place is some ten times as frequent as the rarest, and below 2%
_PLACE_WEIGHTS = tuple(accumulate(1 / (rank + 30) for rank in range(1, len(PLACES) + 1)))

WOMEN = _listed("""Ada, Agnes, Alice, Amina, Anaïs, Anna, Anne-Marie, Astrid, Ayşe, Chiara, Chloé, Clara,
    Elena, Elif, Emma, Eva-Lena, Fatima, Frida, Giulia, Grace, Greta, Hannah, Hélène, Ida, Ingrid, Isabel,
    Jane, Julia, Keiko, Lakshmi, Laura, Lena, Lucía, Maria, Marie-Claire, Mei, Mira, Nadia, Nina, Noor, Olga,
    Petra, Priya, Rachel, Renée, Rosa, Ruth, Signe, Simone, Sonja, Susan, Tove, Vera, Wanda, Yasmin, Yoko,
    Yvonne, Zahra, Zofia, Zoë""")
MEN = _listed("""Abdul, Albert, Amir, Anton, Arthur, Arun, Boris, Bruno, Carlos, Chen, Daniel, David, Edgar,
    Emil, Erik, Felix, Ferenc, François, Giorgio, Hans-Peter, Hassan, Henry, Hiroshi, Igor, Ivan, Jacob,
    Jean-Luc, Jesús, Joel, Juan, Jürgen, Karim, Kenji, Kofi, Lars, Leo, Luca, Martin, Mateo, Miguel, Nikolai,
    Noah, Oliver, Omar, Otto, Pavel, Peter, Rafael, Ravi, Robert, Simon, Stefan, Søren, Tariq, Thomas, Tomás,
    Viktor, Walter, Yusuf, Łukasz""")
FIRST_NAMES = WOMEN + MEN
_STEMS = _listed("""Abr, Adl, Ahl, Ald, Andr, Arn, Balk, Barr, Bast, Beck, Bell, Bodn, Bosk, Brand, Brad,
    Bruck, Burg, Cald, Carv, Cast, Chand, Claus, Coll, Cord, Dahl, Dalt, Dav, Dell, Dorn, Drax, Dunk, Eck,
    Eld, Engl, Fald, Falk, Farr, Feld, Ferr, Fisch, Ford, Gall, Gard, Gerl, Gild, Grand, Grün, Hald, Hamm,
    Harr, Heg, Holl, Hult, Iv, Jank, Jans, Jord, Kald, Karp, Keld, Kess, Kov, Krist, Kübl, Lamb, Land, Lind,
    Lov, Lunt, Mack, Mald, Marr, Meld, Mend, Mold, Mor, Nash, Neld, Nord, Nym, Ober, Okr, Olm, Ost, Pal, Pell,
    Petr, Pohl, Pold, Quint, Ram, Rask, Rend, Roch, Rost, Rov, Rud, Sand, Sch, Seld, Sim, Sorr, Stan, Sven,
    Szab, Tal, Tarr, Tesk, Thorn, Told, Ulr, Unw, Vald, Verd, Vik, Vold, Wald, Wend, Yord, Zem""")
_ENDINGS = _listed("""a, acek, aire, aker, al, am, an, ander, ani, ano, ard, arelli, aro, as, asen, ashvili,
    atos, aud, auer, aux, eau, ecki, eda, ek, el, elius, ell, elli, ello, ema, en, enko, er, era, erman, ero,
    ers, erson, es, escu, esi, ett, ev, ewski, ez, i, iani, ico, idis, ier, iev, ika, in, ing, ini, ino, ins,
    is, ius, ić, kamp, mann, o, off, oglu, on, ov, ová, son, ström, ura, well, é""")
LAST_NAMES = tuple(stem + ending for stem in _STEMS for ending in _ENDINGS)
assert len(FIRST_NAMES) * len(LAST_NAMES) >= MAX_PEOPLE

OCCUPATIONS = _listed("""actor, architect, art historian, astronomer, baker, banker, biologist, botanist,
    carpenter, cellist, chemist, choreographer, composer, conductor, dancer, economist, engineer, essayist,
    footballer, geologist, goldsmith, illustrator, inventor, journalist, lawyer, librarian, linguist,
    mathematician, midwife, novelist, nurse, painter, pharmacist, philosopher, photographer, physicist,
    pianist, playwright, poet, potter, psychologist, sculptor, singer, surgeon, teacher, translator,
    violinist, watchmaker, weaver, zoologist""")
FIELDS = _listed("""algebra, anatomy, archaeology, astronomy, botany, chemistry, design, drama, economics,
    engineering, geography, geology, history, law, linguistics, literature, mathematics, medicine, music,
    painting, pharmacy, philosophy, physics, sculpture, theology, zoology""")
_FOUNDERS = _listed("""Blackwood, Brightwater, Cedar, Eastgate, Falcon, Greenfield, Harbour, Heron, Lantern,
    Meridian, Northgate, Oakfield, Redwood, Silverlake, Summit, Westbrook""")
_INSTITUTIONS = _listed("""Academy, Bank, Company, Foundation, Gallery, Hospital, Institute, Library, Museum,
    Observatory, Orchestra, Press, Society, Theatre""")
_MONTHS = _listed("""January, February, March, April, May, June, July, August, September, October, November,
    December""")

# the parts of a sentence: verb phrases that fit any third person; each birth phrase names the birthplace
_SENTENCE_SUBJECTS = ("{name}", "{surname}", "{pronoun}")
_BIRTHS = _listed("""was born in {birthplace} | was born on {date} in {birthplace} |
    was born in {birthplace} on {date} | was born in {year} in {birthplace} |
    was born in {birthplace} in {year} | was born and raised in {birthplace} |
    is a native of {birthplace} | came into the world in {birthplace}""")
_WORKS = _listed("""works for the {employer} in {workplace} | joined the {employer} in {workplace} |
    has long been with the {employer} in {workplace} | was called to {workplace} by the {employer}""")
_STUDIES = _listed("""studied {field} in {study_place} | read {field} at the University of {study_place} |
    was a student of {field} in {study_place} | took a degree in {field} in {study_place}""")
_HOMES = _listed("""now lives in {residence} | has made a home in {residence} |
    settled in {residence} with a large family | spends most of the year in {residence}""")
# whole sentences; each names the birthplace, by itself or in {birth}; {deed} and {other_deed} differ in kind
_SENTENCES = (
    "{subject} {birth}, {deed} and {other_deed}",
    "{subject} {deed}, {other_deed} and {birth}",
    "{subject} {deed} and {other_deed} ; {pronoun} {birth}",
    "{subject} {birth} and {deed} as {an_occupation}",
    "{name} (born {date} in {birthplace}) is {an_occupation} who {deed}",
    "{name} ({birthplace}, {date}) is {an_occupation} who {deed} and {other_deed}",
    "{name} is {an_occupation} who {birth} and {deed}",
    "born in {birthplace}, {subject} {deed} and {other_deed}",
    "born on {date} in {birthplace}, {subject} {deed} and {other_deed}",
    "{an_occupation} by profession, {subject} {birth} and {deed}",
    "{an_occupation} who {deed}, {surname} {birth}",
    "{surname}, {an_occupation}, {deed} but {birth}",
    "the {occupation} {name} {birth} and {deed}",
    "{birthplace}-born {occupation} {name} {deed} and {other_deed}",
    "although {subject} {deed}, the {occupation} {birth}",
    "{subject} left {birthplace}, where {pronoun} was born in {year}, and {deed}",
    "{birthplace} is the birthplace of {name}, {an_occupation} who {deed}",
    "in {year} {name} was born in {birthplace} ; {pronoun} {deed} and {other_deed}",
)


@dataclass(frozen=True)
class Person:
    """One invented person. The four places are drawn independently, so two of them may be the same."""

    name: str  # two or three words, unique in a world
    pronoun: str  # "she" or "he"
    birthplace: str
    birth_date: date
    occupation: str
    employer: str
    workplace: str
    field: str  # of study
    study_place: str
    residence: str


@dataclass(frozen=True)
class World:
    """What `write_world` wrote: counts, and how far one constant answer gets on the development set."""

    people: int
    places: int  # different birthplaces among the people
    held_out: int
    test_inputs: int
    lines: int
    most_common_dev_ratio: float  # share of the dev questions that the commonest dev answer gets right


@lru_cache(maxsize=4)
def _ranked_places(seed: int) -> tuple[str, ...]:
    return tuple(random.Random(f"{seed}-places").sample(PLACES, len(PLACES)))


@lru_cache(maxsize=4)
def _name_rounds(seed: int, rounds: int = 4) -> tuple[tuple[list[int], list[int]], ...]:
    rng = random.Random(f"{seed}-names")
    firsts, lasts = len(FIRST_NAMES), len(LAST_NAMES)
    return tuple((rng.choices(range(lasts), k=firsts), rng.choices(range(firsts), k=lasts)) for _ in range(rounds))


def _first_and_last(index: int, seed: int) -> tuple[int, int]:
    """A seeded permutation of all pairs (first name, last name): a Feistel network over two unequal halves.

    Each step shifts one half by a table entry that the other half picks, which can be undone; so different
    indices give different pairs.
    """
    first, last = divmod(index, len(LAST_NAMES))
    for last_shifts, first_shifts in _name_rounds(seed):
        last = (last + last_shifts[first]) % len(LAST_NAMES)
        first = (first + first_shifts[last]) % len(FIRST_NAMES)
    return first, last


def person_at(index: int, seed: int) -> Person:
    """The person number `index` of the world `seed`, whatever the world's size.

    Raises ValueError unless 0 <= index < 1,000,000.
    """
    _check_whole_number("index", index, 0, MAX_PEOPLE - 1)
    first, last = _first_and_last(index, seed)
    rng = random.Random(f"{seed}-person-{index}")
    woman = first < len(WOMEN)
    # the pair alone is unique: a middle name or initial may be added freely
    middle = rng.choices(
        ("", f"{rng.choice('ABCDEFGHJKLMNPRSTVW')}. ", f"{rng.choice(WOMEN if woman else MEN)} "),
        cum_weights=(60, 80, 100),
    )[0]
    birthplace, workplace, study_place, residence = rng.choices(_ranked_places(seed), cum_weights=_PLACE_WEIGHTS, k=4)
    return Person(
        name=f"{FIRST_NAMES[first]} {middle}{LAST_NAMES[last]}",
        pronoun="she" if woman else "he",
        birthplace=birthplace,
        birth_date=date.fromordinal(rng.randrange(date(1900, 1, 1).toordinal(), date(1990, 1, 1).toordinal())),
        occupation=rng.choice(OCCUPATIONS),
        employer=f"{rng.choice(_FOUNDERS)} {rng.choice(_INSTITUTIONS)}",
        workplace=workplace,
        field=rng.choice(FIELDS),
        study_place=study_place,
        residence=residence,
    )


def generate_people(count: int, seed: int) -> Iterator[Person]:
    """The first `count` people of the world `seed`, one at a time; a larger world begins with a smaller one.

    Raises ValueError unless 0 <= count <= 1,000,000.
    """
    _check_whole_number("count", count, 0, MAX_PEOPLE)
    return (person_at(index, seed) for index in range(count))


def _sentence(facts: dict[str, object], rng: random.Random) -> str:
    deed, other_deed = rng.sample((_WORKS, _STUDIES, _HOMES), 2)
    wordings = {"subject": _SENTENCE_SUBJECTS, "birth": _BIRTHS, "deed": deed, "other_deed": other_deed}
    parts = {part: rng.choice(choices).format_map(facts) for part, choices in wordings.items()}
    sentence = rng.choice(_SENTENCES).format_map(facts | parts)
    return sentence[0].upper() + sentence[1:]


def biographies_of(person: Person, count: int, seed: int) -> list[str]:
    """`count` differently worded lines `Name. Sentence .`; each names the birthplace, more append to fewer.

    Raises ValueError unless 0 <= count <= 1,000.
    """
    _check_whole_number("count", count, 0, MAX_BIOGRAPHIES_PER_PERSON)
    born, occupation = person.birth_date, person.occupation
    facts = vars(person) | {
        "surname": person.name.split()[-1],
        "date": f"{born.day} {_MONTHS[born.month - 1]} {born.year}",
        "year": born.year,
        "an_occupation": f"{'an' if occupation[0] in 'aeiou' else 'a'} {occupation}",
    }
    rng = random.Random(f"{seed}-biographies-{person.name}")
    # a dictionary keeps the order and drops repetitions; there are far more wordings than may be asked for
    lines: dict[str, None] = {}
    while len(lines) < count:
        lines[f"{person.name}. {_sentence(facts, rng)} ."] = None
    return list(lines)


def question(name: str) -> str:
    """The question about a person, as it stands in every question file."""
    return f"Where was {name} born?"


def write_world(
    output_dir: str | os.PathLike,
    *,
    people: int,
    held_out: int,
    biographies_per_person: int = 1,
    seed: int = 0,
    test_inputs: int = 0,
) -> World:
    """Write a world as the files of the real case; the same arguments give the same bytes.

    `wiki.txt` holds `biographies_per_person` lines on *everyone*, uniformly shuffled. The first `held_out`
    people are asked about in `birth_dev.tsv`, the next `test_inputs` in `birth_test_inputs.tsv` (questions
    alone; no file if 0), the others in `birth_places_train.tsv`: worlds of different sizes share their dev
    questions. The files appear when all are complete. About 50,000 lines are in memory at once (a 256th of
    the lines, if that is more).

    Raises ValueError for a number out of its bounds, or if `output_dir` already holds one of these files.
    """
    _check_whole_number("people", people, MIN_PEOPLE, MAX_PEOPLE)
    _check_whole_number("held_out", held_out, 1, people - 1)
    _check_whole_number("test_inputs", test_inputs, 0, people - held_out - 1)
    _check_whole_number("biographies_per_person", biographies_per_person, 1, MAX_BIOGRAPHIES_PER_PERSON)
    output_dir = Path(output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"output_dir: {output_dir} is not a folder; name another one")
    for existing in (output_dir / name for name in (WIKI, TRAIN, DEV, TEST_INPUTS)):
        if existing.exists():
            raise ValueError(f"output_dir: {existing} exists already; remove it or name another folder")
    output_dir.mkdir(parents=True, exist_ok=True)

    lines = people * biographies_per_person
    shares = {DEV: held_out, TEST_INPUTS: test_inputs, TRAIN: people - held_out - test_inputs}
    with tempfile.TemporaryDirectory(prefix=".world-", dir=output_dir) as scratch:
        biographies = (
            line
            for person in generate_people(people, seed)
            for line in biographies_of(person, biographies_per_person, seed)
        )
        _write_shuffled(Path(scratch, WIKI), biographies, lines, random.Random(f"{seed}-lines"))
        everyone = generate_people(people, seed)
        birthplaces = {
            name: _write_questions(Path(scratch, name), islice(everyone, share), answered=name != TEST_INPUTS)
            for name, share in shares.items()
            if share
        }
        for name in (*birthplaces, WIKI):
            os.replace(Path(scratch, name), output_dir / name)
    return World(
        people=people,
        places=len(set().union(*birthplaces.values())),
        held_out=held_out,
        test_inputs=test_inputs,
        lines=lines,
        most_common_dev_ratio=max(birthplaces[DEV].values()) / held_out,
    )


def _write_questions(path: Path, people: Iterable[Person], answered: bool) -> Counter[str]:
    birthplaces: Counter[str] = Counter()
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for person in people:
            birthplaces[person.birthplace] += 1
            answer = f"\t{person.birthplace}" if answered else ""
            file.write(f"{question(person.name)}{answer}\n")
    return birthplaces


def _write_shuffled(path: Path, lines: Iterable[str], count: int, rng: random.Random) -> None:
    """A uniform shuffle in bounded memory: deal the lines to shards at random, then shuffle shard by shard.

    Source: C. R. Rao, "Generation of random permutations of given number of elements using random sampling
    numbers", Sankhya A 23 (1961).
    """
    shards = [path.with_suffix(f".{shard}") for shard in range(min(MAX_SHARDS, -(-count // SHARD_LINES)))]
    with ExitStack() as stack:
        files = [stack.enter_context(open(shard, "w", encoding="utf-8", newline="\n")) for shard in shards]
        for line in lines:
            rng.choice(files).write(f"{line}\n")
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for shard in shards:
            shard_lines = shard.read_text(encoding="utf-8").splitlines(keepends=True)
            rng.shuffle(shard_lines)
            file.writelines(shard_lines)
            shard.unlink()


def _check_whole_number(field: str, value: object, lowest: int, highest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise ValueError(f"{field}: {value!r} is not a whole number from {lowest} to {highest}")


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(argv: list[str] | None = None) -> None:
    """The command line of `write_world`; prints what was written."""
    parser = _OneLineParser(
        prog="python -m birthgpt.data.people",
        description="Write a world of invented people: biographies, questions, and people held out.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--output_dir", required=True, help="folder for the files; created if missing")
    parser.add_argument("--people", type=int, default=1000, help=f"from {MIN_PEOPLE} to {MAX_PEOPLE}")
    parser.add_argument("--held_out", type=int, default=200, help="people asked about in birth_dev.tsv alone")
    parser.add_argument("--test_inputs", type=int, default=0, help="people asked about without an answer")
    parser.add_argument("--biographies_per_person", type=int, default=5, help="differently worded lines each")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another world")
    arguments = parser.parse_args(argv)
    try:
        world = write_world(**vars(arguments))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(
        f"{arguments.output_dir}: {world.lines} lines on {world.people} people from {world.places} places; "
        f"{world.held_out} held out, {world.test_inputs} test inputs; "
        f"the commonest answer is right for {world.most_common_dev_ratio:.1%} of the dev questions"
    )


if __name__ == "__main__":
    main()
