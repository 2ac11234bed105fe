"""Text as data: what would speak to the model as somebody else is made to say nothing."""

import re

# What chat templates say turns and roles with. Ollama turns them into the model's own signs wherever they stand.
_TEMPLATE = re.compile(
    r"<(?=[|｜][^<>\s]{1,60}[|｜]>)"
    r"|<(?=/?(?:start_of_turn|end_of_turn|start_of_image|s|bos|eos|sop|eop|think|thinking|tool_call|tool_response"
    r"|im_start|im_end|unused\d+)>)"
    r"|<(?=</?SYS>>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|gMASK|BOS|EOS)\])",
    re.IGNORECASE,
)
# Marks of our own; those of a prompt carry a word besides that stands in none of its texts.
_OURS = re.compile(r"<(?=\s*/?\s*(?:passage|earlier)\b)", re.IGNORECASE)


def inert(text: str) -> str:
    """The text with a space in every mark that a chat template or our prompt has a meaning for."""
    return _OURS.sub("< ", _TEMPLATE.sub(lambda found: f"{found.group()} ", text))
