"""What a conversation so far tells about the next question: to find passages for it, and to read it by."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.sentences import content_words, tokens

# A question with fewer words that mean something stands on the one before: "and for the others?"
_ENOUGH_WORDS = 3
# How far back a question is looked for that stands by itself.
_BACK = 3


@dataclass(frozen=True)
class Turn:
    """A question with the answer that was shown, citations' numbers and all."""

    question: str
    answer: str


def recalled(turns: Sequence[Turn], most_tokens: int) -> list[Turn]:
    """The latest turns that fit, in their order."""
    kept: list[Turn] = []
    left = most_tokens
    for turn in reversed(turns):
        left -= tokens(turn.question) + tokens(turn.answer)
        if left < 0:
            break
        kept.append(turn)
    return kept[::-1]


def retrieved_by(question: str, turns: Sequence[Turn]) -> str:
    """The words to search with: a question's own, or, where it has too few, those of the questions before it too.

    Having the model write the question anew would find more, and cost a second call of what there is least of.
    """
    # Its own words first: of many words the last are left out.
    words = [question]
    for turn in reversed(turns[-_BACK:]):
        if len(set(content_words(words[-1]))) >= _ENOUGH_WORDS:
            break
        words.append(turn.question)
    return "\n".join(words)
