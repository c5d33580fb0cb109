"""Where the words of the corpus come from: Debian packages with free texts and word lists, read as they are installed.

Each is named with its licence in `SOURCES`; the model card repeats them. Of `r-cran-janeaustenr` only the texts are needed, not R: `dpkg -x` puts them there
without what it depends on.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lab.demo_voice.tools import tool
from lab.errors import LabError


class SourceError(LabError):
    """A package with texts or a synthesizer is not there."""


@dataclass(frozen=True)
class Source:
    """One Debian package that the corpus is made of."""

    package: str
    gives: str
    licence: str
    path: str  # what has to be there

    @property
    def there(self) -> bool:
        """Whether the package is installed."""
        return Path(self.path).exists()

    def file(self) -> Path:
        """The source's file or folder.

        Raises:
            SourceError: the package is not installed.
        """
        path = Path(self.path)
        if not self.there:
            raise SourceError(f"{path} is not there. On Debian or Ubuntu: {INSTALL}")
        return path


NOVELS = Source(
    "r-cran-janeaustenr",
    "sentences of Jane Austen's six novels",
    "public domain (text, from Project Gutenberg); MIT (package)",
    "/usr/lib/R/site-library/janeaustenr/data",
)
WORDS = Source("scowl", "English words by how common they are", "SCOWL licence (free, with notice)", "/usr/share/dict/scowl")
WORDNET = Source(
    "wordnet-base",
    "which words are nouns, verbs, adjectives; definitions and examples",
    "WordNet 3.0 licence (free, with notice)",
    "/usr/share/wordnet",
)
FESTIVAL = Source("festival", "the female voice's synthesizer", "festival licence (MIT-like), GPL-2+ (packaging)", "/usr/bin/festival")
SLT = Source(
    "festvox-us-slt-hts",
    "the female voice, cmu_us_slt_arctic_hts",
    "HTS voice licence (Carnegie Mellon and the HTS group, BSD-like)",
    "/usr/share/festival/voices/us/cmu_us_slt_arctic_hts",
)
CMU_LEXICON = Source("festlex-cmu", "its pronunciations", "CMU dictionary licence (BSD-like)", "/usr/share/festival/dicts/cmu")
PART_OF_SPEECH = Source(
    "festlex-poslex", "its parts of speech", "festival licence (MIT-like)", "/usr/share/festival/dicts/wsj.wp39.poslexR"
)
FLITE = Source("flite", "the male voice, cmu_us_rms, and its synthesizer", "flite licence (Carnegie Mellon, BSD-like)", "/usr/bin/flite")
SOURCES = (NOVELS, WORDS, WORDNET, FESTIVAL, SLT, CMU_LEXICON, PART_OF_SPEECH, FLITE)
#: The command that puts all of them there; R itself, on which the package with the novels depends, is left out.
INSTALL = (
    f"apt-get install {' '.join(source.package for source in SOURCES if source is not NOVELS)}"
    f" && apt-get download {NOVELS.package} && dpkg -x {NOVELS.package}_*.deb /"
)


@cache
def novels() -> tuple[str, ...]:
    """Paragraphs of the novels, one line each, as they were typed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rdata does not know the ending of R's lazy-load index
        rdata = tool("rdata")
        index = NOVELS.file() / "Rdata.rdx"
        places = rdata.conversion.convert(rdata.parser.parse_file(index))["variables"]
        data = index.with_suffix(".rdb").read_bytes()
        paragraphs: list[str] = []
        for name in sorted(places):
            start, length = (int(number) for number in places[name])
            packed = zlib.decompress(data[start + 4 : start + length])  # four bytes say how long it will be
            lines = rdata.conversion.convert(rdata.parser.parse_data(packed))
            paragraphs += [" ".join(block.split()) for block in "\n".join(map(str, lines)).split("\n\n")]
    return tuple(filter(None, paragraphs))


@cache
def glosses() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """WordNet's definitions and its examples, as they were typed."""
    definitions: list[str] = []
    examples: list[str] = []
    for kind in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET.file() / f"data.{kind}").read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):  # the licence
                gloss = line.partition("| ")[2]
                definitions += [part.strip() for part in gloss.partition(' "')[0].split(";")]
                examples += re.findall('"([^"]*)"', gloss)
    return tuple(definitions), tuple(examples)


def words(size: int = 35) -> list[str]:
    """Words of lower-case letters, the commonest list first; `size` as SCOWL counts (10: 4,000 words, 35: 48,000)."""
    folder = WORDS.file()
    found: dict[str, None] = {}
    for file in sorted(folder.glob("english-words.[0-9]*"), key=lambda path: int(path.suffix[1:])):
        if int(file.suffix[1:]) <= size:
            lines = file.read_text(encoding="latin-1").split()
            found.update(dict.fromkeys(word for word in lines if re.fullmatch("[a-z]+", word)))
    return list(found)


@dataclass(frozen=True)
class Lexicon:
    """Common words by what they can be in a sentence, the commonest first; verbs in their base form."""

    nouns: tuple[str, ...]
    verbs: tuple[str, ...]
    adjectives: tuple[str, ...]
    adverbs: tuple[str, ...]
    known: frozenset[str]  # every word of SCOWL 35: what a rule makes of a word is used if it is here
    irregular: frozenset[str]  # verbs whose past is not made by the rule


@cache
def lexicon() -> Lexicon:
    """WordNet's words by how often they were met as a noun, verb, adjective or adverb, as far as they are among SCOWL's common ones."""
    folder = WORDNET.file()
    common = frozenset(words(20))
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in "1234"}
    for line in (folder / "cntlist.rev").read_text(encoding="ascii").splitlines():
        key, _, count = line.split()
        lemma, _, sense = key.partition("%")
        if lemma in common and len(lemma) > 2:
            counts["3" if sense[0] == "5" else sense[0]][lemma] += int(count)

    def commonest(kind: str, number: int) -> tuple[str, ...]:
        # a word belongs where it is met most: "be" is a noun too, once
        mine = {word: count for word, count in counts[kind].items() if count >= max(other[word] for other in counts.values())}
        return tuple(sorted(mine, key=lambda word: (-mine[word], word))[:number])

    exceptions = (folder / "verb.exc").read_text(encoding="ascii").splitlines()
    return Lexicon(
        nouns=commonest("1", 2500),
        verbs=commonest("2", 900),
        adjectives=commonest("3", 900),
        adverbs=commonest("4", 250),
        known=frozenset(words()),
        irregular=frozenset(line.split()[-1] for line in exceptions),
    )
