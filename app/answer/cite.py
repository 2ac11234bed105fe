"""Citations: what the model says is kept only where a retrieved passage says it too, and that passage is quoted."""

import itertools
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from app.retrieve.weights import Weights
from app.sentences import content_words, figures, parts, sentences, stem, vocabulary
from app.settings import Answering
from app.store.passages import Passage

REFUSAL = "not found in the documents"

# Round brackets belong to the text, as in varchar(255), unless they say what they are.
_MARKER = re.compile(r"\s*(?:\[(?:passages?\s*)?|\(passages?\s*)(\d+(?:\s*,\s*\d+)*)[\])]", re.IGNORECASE)
# What stands before a claim without being part of it: a list's mark, and the short answer to a question of yes or no.
_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")
_YES_OR_NO = re.compile(r"^(?:yes|no|ja|nein|doch)\b[,:;.!\s]*", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:not|never|no|none|nor|cannot|nicht|nie|niemals|kein\w*)\b|n['’]t\b", re.IGNORECASE)
# A question's own words are an answer only where they are nearly all that the quote says: "the default port" is none.
_WHOLE = 0.75


@dataclass(frozen=True)
class Citation:
    number: int
    passage: Passage
    quote: str


@dataclass(frozen=True)
class Checked:
    """An answer of supported sentences only; ``unsupported`` keeps what the model said beyond them."""

    answer: str
    supported: bool
    citations: tuple[Citation, ...]
    unsupported: tuple[str, ...]


@dataclass(frozen=True)
class _Support:
    passage: Passage
    quote: str


def check(
    asked: Weights, said: str, passages: Sequence[Passage], settings: Answering, near: Set[str] = frozenset()
) -> Checked:
    """The answer with a verified citation behind every sentence; a refusal when no sentence has one.

    ``asked`` are the question's words and how much each tells; ``near`` are passages about it whatever their words.
    """
    shared = _relevant(asked, passages, settings.min_relevance)
    relevant = [passage for passage in passages if passage.id in near or passage in shared]
    stems = frozenset(stem(word) for word in asked)
    citations: list[Citation] = []
    kept: list[str] = []
    unsupported: list[str] = []
    for sentence, marked in _marked_sentences(said):
        named = [passages[number - 1] for number in marked if number <= len(passages)]
        support = _support(stems, sentence, named, relevant, settings)
        if support is None:
            unsupported.append(sentence)
            continue
        number = _number(citations, support)
        text = f"{sentence.rstrip('.')} [{number}]." if sentence.endswith(".") else f"{sentence} [{number}]"
        if text not in kept:
            kept.append(text)
    if not citations:
        return Checked(REFUSAL, False, (), tuple(unsupported))
    return Checked(" ".join(kept), True, tuple(citations), tuple(unsupported))


def _marked_sentences(said: str) -> list[tuple[str, list[int]]]:
    """Each sentence without its markers, with the passages they name; a marker behind the full stop belongs to it."""
    joined = re.sub(r"([.!?])((?:\s*\[\d+(?:\s*,\s*\d+)*\])+)", r"\2\1", said)
    result: list[tuple[str, list[int]]] = []
    for sentence in sentences(joined):
        marked = [int(n) for found in _MARKER.findall(sentence) for n in found.split(",")]
        plain = _MARKER.sub("", sentence).strip()
        if content_words(_claim(plain)):
            result.append((plain, [n for n in marked if n > 0]))
    return result


def _relevant(asked: Weights, passages: Sequence[Passage], least: float) -> list[Passage]:
    """Passages without what the question is about cannot answer it, however well an answer repeats them."""
    whole = sum(asked.values())
    if not whole:
        return list(passages)
    relevant: list[Passage] = []
    for passage in passages:
        present = vocabulary((passage.text, passage.section, passage.title))
        if sum(weight for word, weight in asked.items() if stem(word) in present) >= least * whole:
            relevant.append(passage)
    return relevant


def _support(
    asked: frozenset[str], sentence: str, marked: Sequence[Passage], relevant: Sequence[Passage], settings: Answering
) -> _Support | None:
    """The best sentence of a passage that says this; passages the model named itself win a tie."""
    claim = _claim(sentence)
    said = content_words(claim)
    if not said or REFUSAL in claim.lower():
        return None
    new = [word for word in said if stem(word) not in asked]
    best: tuple[tuple[float, bool, int], _Support] | None = None
    for passage in relevant:
        for quote in _quotes(passage):
            present, context = vocabulary((quote,)), vocabulary((quote, passage.section, passage.title))
            share = _share(said, context)
            if share < settings.min_support or not figures(claim) <= figures(quote):
                continue
            if _share(new, present) < 0.5 if new else not _restates(claim, quote):
                continue
            score = (share, passage in marked, len(asked & context))
            if best is None or score > best[0]:
                best = (score, _Support(passage, quote))
    return best[1] if best else None


def _claim(sentence: str) -> str:
    return _YES_OR_NO.sub("", _LIST_MARK.sub("", sentence))


def _share(words: Sequence[str], known: frozenset[str]) -> float:
    """How many of the words are known, a compound also by its parts."""
    found = [word for word in words if stem(word) in known or {stem(part) for part in parts(word)} <= known]
    return len(found) / len(words)


def _restates(claim: str, quote: str) -> bool:
    """Whether the claim, made of the question's own words, says what the quote says and not its contrary."""
    if bool(_NEGATION.search(claim)) != bool(_NEGATION.search(quote)):
        return False
    words = content_words(quote)
    return bool(words) and _share(words, vocabulary((claim,))) >= _WHOLE


def _quotes(passage: Passage) -> list[str]:
    """The passage's sentences and its neighbouring pairs, each verbatim."""
    single = sentences(passage.text)
    pairs: list[str] = []
    start = 0
    for first, second in itertools.pairwise(single):
        start = passage.text.index(first, start)
        end = passage.text.index(second, start + len(first)) + len(second)
        pairs.append(passage.text[start:end])
    return single + pairs


def _number(citations: list[Citation], support: _Support) -> int:
    for citation in citations:
        # A passage begins with the end of the one before it: the same words of the same document are one citation.
        same = citation.passage.document_id == support.passage.document_id
        if same and support.quote in citation.quote:
            return citation.number
    citations.append(Citation(len(citations) + 1, support.passage, support.quote))
    return len(citations)
