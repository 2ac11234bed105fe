"""Help for a very small model with a question about passages: it drafts, and what it then says is quoted from them.

A model of 135 million parameters loses itself in a page and invents numbers. So it reads only the sentences nearest to
the question, drafts an answer, and its answer proper is held to the one sentence that its draft and the question point
to. Messages of any other shape reach the model as they are.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

REFUSAL = "not found in the documents"
# Texts to a likeness with the question, between -1 and 1.
Likeness = Callable[[Sequence[str]], Sequence[float]]

_MARKED = re.compile(r"<passage (\d+)[^\n]*>\n(.*?)\n</passage[^\n]*>", re.DOTALL)
_NUMBERED = re.compile(r"^\[(\d+)\] [^\n]*\n(.*?)(?=^\[\d+\] |\Z)", re.DOTALL | re.MULTILINE)
_QUESTION = re.compile(r"^Question:\s*(.+)$", re.MULTILINE)
# A line that goes on in lower case is a wrapped one, and "31. März" is a day.
_MONTH = r"(?:Jan|Feb|M[aä]r|Apr|Ma[iy]|Jun|Jul|Aug|Sep|O[ck]t|Nov|De[cz])"
_SENTENCE_END = re.compile(rf"(?<=[.!?])(?!(?<=\d\.)\s+{_MONTH})\s+(?=[\"'“(\[]?[A-ZÀ-ÖØ-Þ0-9])|\n+(?![a-z])")
_WORD = re.compile(r"\w+(?:[._-]\w+)*")
_STOP = frozenset(
    """a about an and any are as at be by can could do does for from had has have how i if in into is it its may my no
    not of on or s should that the their then there this to was we what when where which who whose why will with you
    your""".split()  # noqa: SIM905 - sixty quoted words read worse
)

_LEAST_WORDS, _LONGEST = 4, 500
# How many sentences are compared by meaning, and how many the model reads.
_COMPARED, _READ = 16, 5
# What words shared with the question, and with the draft, weigh beside meaning; 0.2 to 0.5 do equally well.
_OF_WORDS, _OF_DRAFT = 0.4, 0.3
# Below this nothing said in the passages has to do with the question: unrelated sentences measure 0.1 to 0.2.
_LEAST_LIKENESS = 0.3


@dataclass(frozen=True)
class Task:
    """A question and what it is asked about."""

    question: str
    passages: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A sentence, with the words before it that tell what it is about."""

    sentence: str
    context: str
    score: float = 0.0
    likeness: float = 0.0


def task(message: str) -> Task | None:
    """Passages and a question, when the message has both; as `<passage 1: title>` blocks or `[1] title` ones."""
    asked = list(_QUESTION.finditer(message))
    if not asked:
        return None
    before = message[: asked[-1].start()]
    passages = [text.strip() for _, text in _MARKED.findall(before) or _NUMBERED.findall(before)]
    return Task(asked[-1][1].strip(), tuple(passages)) if passages else None


def nearest(wanted: Task, likeness: Likeness) -> list[Candidate]:
    """The sentences most likely to answer, best first; none when the passages are about something else."""
    every = [one for passage in wanted.passages for one in _candidates(passage)]
    asked = _words(wanted.question)
    worth = {
        word: math.log(1 + len(every) / (0.5 + sum(word in _words(one.context) for one in every))) for word in asked
    }
    total = sum(worth.values()) or 1.0
    shared = {one: sum(worth[word] for word in asked & _words(one.context)) / total for one in every}
    compared = sorted(shared, key=lambda one: -shared[one])[:_COMPARED]
    alone = likeness([one.sentence for one in compared])
    placed = likeness([one.context for one in compared])
    ranked = [
        Candidate(
            one.sentence,
            one.context,
            0.5 * by_itself + 0.5 * in_place + _OF_WORDS * shared[one],
            max(by_itself, in_place),
        )
        for one, by_itself, in_place in zip(compared, alone, placed, strict=True)
    ]
    ranked.sort(key=lambda one: -one.score)
    if not any(one.likeness >= _LEAST_LIKENESS for one in ranked[:_READ]):
        return []
    return ranked[:_READ]


def draft_message(question: str, candidates: Sequence[Candidate]) -> str:
    """What the model reads for its draft; the best comes last, since small models remember the end best."""
    text = "\n".join(one.context for one in reversed(candidates))
    return f"{text}\n\nAnswer the question in one sentence, using only the text above.\nQuestion: {question}"


def quoted(question: str, draft: str, candidates: Sequence[Candidate]) -> str:
    """The sentence that says what the draft adds to the question."""
    said = _words(draft) - _words(question)

    def worth(one: Candidate) -> float:
        return one.score + _OF_DRAFT * (len(said & _words(one.sentence)) / len(said) if said else 0.0)

    return max(candidates, key=worth).sentence


def grammar(sentence: str) -> str:
    """llama.cpp's grammar of exactly this sentence."""
    escaped = sentence.replace("\\", "\\\\").replace('"', '\\"')
    return f'root ::= "{escaped}"'


def _candidates(passage: str) -> list[Candidate]:
    sentences = [" ".join(piece.split()) for piece in _SENTENCE_END.split(passage) if piece.strip()]
    found: list[Candidate] = []
    for before, sentence in zip(["", *sentences], sentences, strict=False):
        if len(sentence.split()) >= _LEAST_WORDS and len(sentence) <= _LONGEST:
            found.append(Candidate(sentence, f"{before[-160:]} {sentence}".strip()))
    return found


def _words(text: str) -> frozenset[str]:
    # Plain words lose their endings; names such as pg_hba.conf and numbers stay whole.
    found = (word.lower() for word in _WORD.findall(text))
    return frozenset(word[:6] if word.isalpha() else word for word in found if word not in _STOP)
