"""From chat messages to the plain text a model reads: ChatML, which SmolLM2 was trained on."""

from collections.abc import Mapping, Sequence

ASSISTANT = "<|im_start|>assistant\n"
# Marks a person or a document may not write, or they could speak as somebody else.
_MARKS = ("<|im_start|>", "<|im_end|>")


def chat(messages: Sequence[Mapping[str, object]]) -> str:
    """The conversation, open where the model is to go on."""
    turns = [turn(str(one.get("role") or "user"), str(one.get("content") or "")) for one in messages]
    return "".join(turns) + ASSISTANT


def turn(role: str, content: str) -> str:
    """One person's words."""
    for mark in _MARKS:
        content = content.replace(mark, "")
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def fitting(tokens: Sequence[int], context: int, answer: int, kept: int = 4) -> list[int]:
    """Cut to the context as Ollama does, in silence: the first few stay, the middle goes, the end stays.

    Ollama shifts the context while it writes; here the answer's room, at most half of it, is kept from the start.
    """
    room = context - min(answer, context // 2)
    if len(tokens) <= room:
        return list(tokens)
    return [*tokens[:kept], *tokens[len(tokens) - room + kept :]]
