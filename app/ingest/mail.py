"""E-mail: who wrote what to whom and when, the text, and the attachments that are documents themselves."""

import email
import email.policy
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import EmailMessage, MIMEPart

from app.ingest import html, markdown
from app.ingest.limits import Limits
from app.ingest.outline import Parsed, Section, UnreadableError

# As people read them, the subject first.
_HEADERS = ("Subject", "From", "To", "Cc", "Date")

Attached = Callable[[bytes, str], Parsed]
"""Reads one attachment by its bytes and name."""


def parse(content: bytes, file_name: str, limits: Limits, attached: Attached) -> Parsed:
    """The message and what is attached to it; the title is the subject, else the file's name."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    if not isinstance(message, EmailMessage) or not any(_header(message, name) for name in _HEADERS):
        raise UnreadableError(f"{file_name} = no e-mail in spite of its name; a message saved as .eml")
    head = tuple(f"{name}: {value}" for name in _HEADERS if (value := _header(message, name)))
    sections = [Section((), {}, head), *_body(message, file_name)]
    for number, part in enumerate(message.iter_attachments(), start=1):
        if number > limits.members:
            raise UnreadableError(f"{file_name} = over {limits.members} attachments; at most so many")
        sections += _attachment(part, number, attached)
    return Parsed(_header(message, "Subject") or file_name, tuple(sections))


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message[name] or "").split())
    except (ValueError, IndexError, LookupError, AttributeError):
        # What the sender's program wrote there is no address or date.
        return ""


def _body(message: EmailMessage, file_name: str) -> tuple[Section, ...]:
    body = message.get_body(("plain", "html"))
    if body is None:
        return ()
    text = _text(body)
    if body.get_content_subtype() == "html":
        return html.parse(text, file_name).sections
    return markdown.parse_text(text, file_name).sections


def _text(part: MIMEPart) -> str:
    content = _bytes(part)
    try:
        return content.decode(part.get_content_charset() or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return content.decode("utf-8", "replace")


def _bytes(part: MIMEPart) -> bytes:
    if part.get_content_type() == "message/rfc822":
        return b"".join(message.as_bytes() for message in part.iter_parts())
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _attachment(part: MIMEPart, number: int, attached: Attached) -> Iterator[Section]:
    name = " ".join((part.get_filename() or "").split()) or f"attachment {number}"
    if part.get_content_type() == "message/rfc822" and not name.endswith(".eml"):
        name = f"{name}.eml"
    try:
        parsed = attached(_bytes(part), name)
    except UnreadableError as error:
        reason = str(error).removeprefix(f"{name} = ").partition(";")[0]
        yield Section((name,), {}, (f"Attachment {name}: not read ({reason}).",))
        return
    for section in parsed.sections:
        yield replace(section, headings=(name, *section.headings))
