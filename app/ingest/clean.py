"""The text as it is kept, searched and quoted: what looks the same is written the same."""

import unicodedata

from app.ingest.outline import Parsed, Section

# PostgreSQL's text holds no NUL. The others show nothing, and hide a word from whoever types it.
_UNSEEN = "\0\u00ad\u200b\ufeff"
_LIGATURES = "\ufb00\ufb01\ufb02\ufb03\ufb04\ufb05\ufb06"
_REPLACED = str.maketrans(
    dict.fromkeys(_UNSEEN, "") | {character: unicodedata.normalize("NFKC", character) for character in _LIGATURES}
)
# Headings, titles and places stand beside every passage under them: what is longer was a paragraph that looks like one.
MOST_CHARACTERS = 300
MOST_HEADINGS = 12


def clean(text: str) -> str:
    """The text in Unicode's composed form, without ligatures, unseen characters and what is no UTF-8."""
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return unicodedata.normalize("NFC", whole.translate(_REPLACED))


def cleaned(parsed: Parsed, file_name: str) -> Parsed:
    """The document with its title, headings and paragraphs clean; a title of nothing gives way to the file's name."""
    sections = (_section(section) for section in parsed.sections)
    title = _short(parsed.title)
    return Parsed(title or file_name, tuple(section for section in sections if section.paragraphs))


def _section(section: Section) -> Section:
    headings = (_short(heading) for heading in section.headings[:MOST_HEADINGS])
    paragraphs = [clean(paragraph).strip() for paragraph in section.paragraphs]
    return Section(
        tuple(filter(None, headings)),
        {key: _short(value) if isinstance(value, str) else value for key, value in section.place.items()},
        tuple(filter(None, paragraphs)),
        tuple(row for row, paragraph in zip(section.rows, paragraphs, strict=False) if paragraph),
    )


def _short(text: str) -> str:
    """What a heading, a title or a place says, clean and cut where it goes on for too long."""
    whole = clean(text[: 4 * MOST_CHARACTERS]).strip()
    return whole if len(whole) <= MOST_CHARACTERS else f"{whole[: MOST_CHARACTERS - 1].rstrip()}…"
