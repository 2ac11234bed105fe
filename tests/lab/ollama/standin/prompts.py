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


def fitting(tokens: Sequence[int], context: int, kept: int = 4) -> list[int]:
    """Cut to the context as Ollama does, in silence: the first few stay, the middle goes, the end stays."""
    if len(tokens) < context:
        return list(tokens)
    # The answer needs room as well; Ollama's runner makes it by dropping half of what follows the kept ones.
    room = context - kept
    return [*tokens[:kept], *tokens[len(tokens) - room + room // 2 :]]
