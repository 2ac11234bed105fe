"""From a document's text to its passages: where they end, what neighbours share, and what is refused."""

import itertools

import pytest

from app.ingest.formats import parse
from app.ingest.outline import Parsed, Section, UnreadableError
from app.ingest.split import Size, split
from app.sentences import sentences, tokens
from app.settings import Ingest

LIMITS = Ingest().limits


def pairs(items: list[list[str]]) -> list[tuple[list[str], list[str]]]:
    return list(itertools.pairwise(items))


def test_passages_end_at_sentences_and_never_cross_a_section_or_page() -> None:
    paragraphs = tuple(" ".join(f"Sentence {n} of paragraph {p} says a little." for n in range(20)) for p in range(5))
    sections = (
        Section(("A",), {"page": 1}, paragraphs),
        Section(("A",), {"page": 2}, ("The next page.",)),
        Section(("B",), {"page": 2}, ("Other.",)),
    )

    pieces = split(Parsed("t", sections), Size(200)).pieces

    assert [(piece.section, piece.place, piece.text) for piece in pieces[-2:]] == [
        ("A", {"page": 2}, "The next page."),
        ("B", {"page": 2}, "Other."),
    ]
    assert all(tokens(piece.text) <= 200 and piece.text.endswith(".") for piece in pieces)
    assert all(line in "\n".join(paragraphs) for piece in pieces[:-2] for line in piece.text.split("\n"))


def test_neighbouring_passages_of_a_section_share_about_a_sentence() -> None:
    paragraphs = tuple(" ".join(f"Sentence {n} of paragraph {p} says a little." for n in range(20)) for p in range(5))
    sections = (Section(("A",), {}, paragraphs), Section(("B",), {}, ("Other.",)))

    pieces = split(Parsed("t", sections), Size(200, 30)).pieces

    assert all(tokens(piece.text) <= 200 for piece in pieces)
    *of_a, last = [sentences(piece.text) for piece in pieces]
    assert last == ["Other."]
    shared = [len(set(before) & set(after)) for before, after in pairs(of_a)]
    assert set(shared) <= {1, 2, 3}
    assert all(before[-number:] == after[:number] for number, (before, after) in zip(shared, pairs(of_a), strict=True))
    once = [sentence for number, piece in zip([0, *shared], of_a, strict=True) for sentence in piece[number:]]
    assert once == [sentence for paragraph in paragraphs for sentence in sentences(paragraph)]


def test_a_long_sentence_is_not_repeated_and_a_table_has_no_row_twice() -> None:
    long = " ".join(f"word{n}" for n in range(60)) + "."
    prose = split(Parsed("t", (Section((), {}, (" ".join([long.capitalize()] * 9),)),)), Size(200, 30)).pieces
    rows = tuple(f"name: crane {n} | lifts: {n} tonnes" for n in range(60))
    table = split(Parsed("t", (Section((), {}, rows, tuple(range(1, 61))),)), Size(200, 30)).pieces

    assert sum(piece.text.count("Word0") for piece in prose) == 9
    assert "\n".join(piece.text for piece in table) == "\n".join(rows)


def test_a_table_in_markdown_is_read_row_by_row() -> None:
    table = b"# Prices\n\nPer piece:\n| item | price |\n|:---|---:|\n| Widget A | 12 euros |\n| Widget B | 19 euros |\n"

    parsed = parse(table, "prices.md", LIMITS)

    assert parsed.sections[0].paragraphs == ("Per piece:", "item | price", "Widget A | 12 euros", "Widget B | 19 euros")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_is_read_in_whatever_encoding_a_windows_program_wrote_it(encoding: str) -> None:
    parsed = parse("Die Kündigungsfrist beträgt drei Monate.".encode(encoding), "frist.txt", LIMITS)

    assert parsed.sections[0].paragraphs == ("Die Kündigungsfrist beträgt drei Monate.",)


def test_a_text_beyond_all_measure_is_refused_by_its_length() -> None:
    with pytest.raises(UnreadableError, match=r"shelf\.txt = 20000002 characters; at most 20000000"):
        parse(b"x " * 10_000_001, "shelf.txt", LIMITS)


def test_a_text_without_full_stops_is_cut_all_the_same() -> None:
    pieces = split(Parsed("t", (Section((), {}, ("word " * 5000,)),)), Size(200)).pieces

    assert len(pieces) > 10
    assert all(tokens(piece.text) <= 400 for piece in pieces)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("See e.g. Section 2. It is 3.5 m.", ["See e.g. Section 2.", "It is 3.5 m."]),
        ("Set wal_level to replica. 100 is fine.", ["Set wal_level to replica.", "100 is fine."]),
        ("Line one\nline two", ["Line one", "line two"]),
        ("Der Vertrag endet am 31. März 2027. Er ruht.", ["Der Vertrag endet am 31. März 2027.", "Er ruht."]),
        ("There are 31. Most are new.", ["There are 31.", "Most are new."]),
        ("Tiere, z. B. Hunde, sind erlaubt. Katzen auch.", ["Tiere, z. B. Hunde, sind erlaubt.", "Katzen auch."]),
        ("1. Open the valve. 2. Close it.", ["1. Open the valve.", "2. Close it."]),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, parts: list[str]) -> None:
    assert sentences(text) == parts


def test_a_text_full_of_abbreviations_is_split_at_once() -> None:
    # At each of them only its own letters are looked at; otherwise this takes minutes, and the test its time limit.
    assert len(sentences("A. Meier; No. 5 and Dr. Mr. " * 20_000)) == 1
