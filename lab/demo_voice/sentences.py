"""What the synthesizers are given to say: sentences of novels, WordNet's examples and definitions, templates, lists of words, texts of one to three words.

The sentences give rhythm and the words that people use, the lists the sound of every common word, the short texts what upstream does below ten bytes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain

from lab.demo_voice.sources import Lexicon, glosses, lexicon, novels, words

#: What the model can read. Case is not heard: the corpus is lower case, and the exported vocabulary has the same values for both.
LETTERS = "abcdefghijklmnopqrstuvwxyz"
MARKS = ",.;:!?'-\""
CHARACTERS = f" {LETTERS}{MARKS}"
#: Characters of one text of the corpus.
SHORTEST, LONGEST = 3, 150
#: How many of a hundred texts are of each kind; templates stand in for what has come to its end.
MIX = {"novel": 25, "example": 25, "definition": 8, "template": 24, "words": 10, "short": 8}

_PLAIN = str.maketrans({"\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2014": "-", "_": None})
_TITLES = re.compile(r"\b(Mr|Mrs|Dr|Messrs|St|Esq|Capt|Col)\.", re.IGNORECASE)
_SPOKEN = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "messrs": "messieurs",
    "st": "saint",
    "esq": "esquire",
    "capt": "captain",
    "col": "colonel",
}


def readable(text: str) -> str | None:
    """`text` in the characters of the model, lower case; None when that cannot be done."""
    text = _TITLES.sub(lambda found: _SPOKEN[found[1].lower()], text.translate(_PLAIN))
    text = re.sub(r"\s*--+\s*", ", ", text).lower()
    text = re.sub(r"([.!?;:,]),", r"\1", text)
    text = re.sub(r"\s+", " ", text).strip(" ,;:-")
    return text if text and set(text) <= set(CHARACTERS) and re.search("[a-z]", text) else None


@cache
def novel_sentences() -> tuple[str, ...]:
    """Sentences of the novels that the model can read, each once, in the order of the books."""
    found: dict[str, None] = {}
    for paragraph in novels():
        if paragraph.isupper():  # a heading
            continue
        for sentence in re.split(r"(?<=[.!?])\"?\s+", _TITLES.sub(lambda title: _SPOKEN[title[1].lower()], paragraph)):
            text = readable(sentence)
            if text and 20 <= len(text) <= LONGEST and text[-1] in '.!?"':
                found[text.strip('"') if text.count('"') % 2 else text] = None
    return tuple(found)


@cache
def gloss_sentences() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """WordNet's definitions and examples that the model can read, each once, with a full stop where they have no end."""

    def ended(texts: Iterable[str]) -> tuple[str, ...]:
        found = dict.fromkeys(text for text in map(readable, texts) if text and 8 <= len(text) < LONGEST)
        return tuple(text if text[-1] in ".!?" else f"{text}." for text in found)

    definitions, examples = glosses()
    return ended(definitions), ended(examples)


class Templates:
    """Draws sentences of plain English grammar from a lexicon."""

    def __init__(self, lexicon: Lexicon, draw: random.Random) -> None:
        self._lexicon = lexicon
        self._draw = draw

    def _common(self, of: tuple[str, ...]) -> str:
        # the commonest more often than the rare, but every one of them
        return of[int(len(of) * self._draw.random() ** 1.5)]

    def _noun(self) -> str:
        return self._common(self._lexicon.nouns)

    def _adjective(self) -> str:
        return self._common(self._lexicon.adjectives)

    def _verb(self) -> str:
        return self._common(self._lexicon.verbs)

    def _past(self) -> str:
        for _ in range(50):
            verb = self._verb()
            made = verb + ("d" if verb.endswith("e") else "ed")
            if made in self._lexicon.known and verb not in self._lexicon.irregular:
                return made
        return "moved"

    def _plural(self) -> str:
        for _ in range(50):
            noun = self._noun()
            made = noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
            if made in self._lexicon.known:
                return made
        return "things"

    def _article(self, word: str) -> str:
        return ("an " if word[0] in "aeiou" else "a ") + word

    def _phrase(self) -> str:
        """A thing: "the old brass key", "two lamps", "her garden"."""
        owner = self._draw.choice(("the", "the", "the", "this", "that", "my", "your", "his", "her", "our", "their", "every"))
        some = self._draw.choice(("the", "some", "these", "those", "two", "three", "four", "six", "ten", "many", "few", "all the"))
        return self._draw.choice(
            (
                lambda: f"{owner} {self._noun()}",
                lambda: f"{owner} {self._adjective()} {self._noun()}",
                lambda: self._article(self._noun()),
                lambda: f"{self._article(self._adjective())} {self._noun()}",
                lambda: f"{some} {self._plural()}",
                lambda: f"{some} {self._adjective()} {self._plural()}",
                lambda: f"{owner} {self._noun()} of {self._noun()}",
            )
        )()

    def _place(self) -> str:
        where = (
            "in",
            "on",
            "at",
            "by",
            "near",
            "with",
            "under",
            "over",
            "for",
            "from",
            "behind",
            "without",
            "into",
            "beside",
            "after",
            "before",
        )
        return f"{self._draw.choice(where)} {self._phrase()}"

    def _person(self) -> str:
        return self._draw.choice(("i", "you", "he", "she", "it", "we", "they", "nobody", "everyone", "the people"))

    def _clause(self) -> str:
        will = self._draw.choice(
            ("will", "can", "could", "should", "must", "may", "might", "would", "did not", "cannot", "won't", "didn't")
        )
        return self._draw.choice(
            (
                lambda: f"{self._phrase()} {self._past()} {self._phrase()}",
                lambda: f"{self._phrase()} {self._past()} {self._place()}",
                lambda: f"{self._person()} {self._past()} {self._phrase()} {self._place()}",
                lambda: f"{self._person()} {will} {self._verb()} {self._phrase()}",
                lambda: f"{self._phrase()} {will} {self._verb()} {self._place()}",
                lambda: f"{self._phrase()} was {self._adjective()} and {self._adjective()}",
                lambda: f"{self._phrase()} is {self._common(self._lexicon.adverbs)} {self._adjective()} {self._place()}",
                lambda: f"there was {self._article(self._noun())} {self._place()}",
                lambda: f"{self._place()} {self._person()} {self._past()} {self._phrase()}",
            )
        )()

    def sentence(self) -> str:
        """One sentence: a statement, an order, a question, an exclamation or a list."""
        link = self._draw.choice((", and", ", but", ", so", ";", " because", " when", " if", " while", " until", ", as"))
        ask = self._draw.choice(("what", "why", "when", "where", "how", "who"))
        do = self._draw.choice(("did", "does", "will", "can", "could", "would", "shall", "should", "must"))
        return self._draw.choice(
            (
                lambda: f"{self._clause()}.",
                lambda: f"{self._clause()}.",
                lambda: f"{self._clause()}.",
                lambda: f"{self._clause()}{link} {self._clause()}.",
                lambda: f"{self._verb()} {self._phrase()} {self._place()}.",
                lambda: f"{self._verb()} {self._phrase()}, and {self._verb()} {self._phrase()}.",
                lambda: f"{do} {self._phrase()} {self._verb()} {self._phrase()}?",
                lambda: f"{ask} {do} {self._person()} {self._verb()} {self._phrase()}?",
                lambda: f"is {self._phrase()} {self._adjective()}, or is it {self._adjective()}?",
                lambda: f"{ask} {self._article(self._adjective())} {self._noun()} it is!",
                lambda: f"{self._person()} {self._past()} {self._phrase()}, {self._phrase()}, {self._phrase()}, and {self._phrase()}.",
                lambda: f'"{self._clause()}," {self._person()} said.',
                lambda: f"{self._noun()}: {self._clause()}!",
            )
        )()

    def short(self) -> str:
        """One to three words, as a person types to hear a voice."""
        mark = self._draw.choice((".", ".", ".", "!", "?"))
        return (
            self._draw.choice(
                (
                    self._noun,
                    lambda: f"{self._adjective()} {self._noun()}",
                    lambda: f"{self._verb()} it",
                    lambda: f"{self._verb()} {self._noun()}",
                    lambda: f"the {self._noun()}",
                    lambda: f"{self._common(self._lexicon.adverbs)} {self._adjective()}",
                    lambda: f"{self._person()} {self._past()}",
                    lambda: f"{self._draw.choice(('good', 'bad', 'new', 'last', 'next', 'one'))} {self._noun()}",
                )
            )()
            + mark
        )


def _word_list(all_words: list[str], draw: random.Random) -> str:
    number = draw.randint(3, 9)
    chosen = [all_words[int(len(all_words) * draw.random() ** 2.2)] for _ in range(number)]
    joints = draw.choices((" ", ", ", " and ", " or "), (12, 3, 1, 1), k=number - 1)
    return "".join(chain.from_iterable(zip(chosen, [*joints, "."], strict=True)))


def corpus_texts(seed: int, *, without: frozenset[str] = frozenset()) -> Iterator[str]:
    """Texts without end, each once, in an order that the seed gives; never one of `without` (the sentences of the evaluation).

    When there are no more sentences of a kind, templates take their share.
    """
    draw = random.Random(f"texts {seed}")
    templates = Templates(lexicon(), draw)
    vocabulary = words()
    prose, (definitions, examples) = novel_sentences(), gloss_sentences()

    def shuffled(texts: tuple[str, ...]) -> Callable[[], str]:
        left = iter(draw.sample(texts, len(texts)))
        return lambda: next(left, "") or templates.sentence()

    make: dict[str, Callable[[], str]] = {
        "novel": shuffled(prose),
        "example": shuffled(examples),
        "definition": shuffled(definitions),
        "template": templates.sentence,
        "words": lambda: _word_list(vocabulary, draw),
        "short": templates.short,
    }
    kinds, shares = list(MIX), list(MIX.values())
    used = {readable(text) or "" for text in without}
    while True:
        text = make[draw.choices(kinds, shares)[0]]()
        if SHORTEST <= len(text) <= LONGEST and text not in used:
            used.add(text)
            yield text
