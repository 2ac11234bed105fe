"""Bytes as text: UTF-8, what Windows programs call Unicode, and old Western European exports."""

import codecs


def decoded(content: bytes) -> str | None:
    """The text; None when the bytes are none."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("utf-8-sig", errors="replace")
    # Where most of what is not ASCII is whole, the rest is damage.
    damaged, beyond_ascii = text.count("\ufffd"), len(text) - len(text.encode("ascii", "ignore"))
    if damaged <= beyond_ascii / 2:
        return text
    # What else it might be cannot be told from the bytes.
    return content.decode("cp1252", errors="replace")
