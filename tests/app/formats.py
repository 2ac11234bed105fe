"""One contract in each format the platform reads, and files it must refuse."""

import io
from collections.abc import Callable

from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from tests.app import office

INTRODUCTION = "This agreement is between Halden and the harbour office. It covers the crane."
TERMINATION = "The notice period of the Halden contract is 90 days. Notice is given in writing."
TEXT = f"{INTRODUCTION} {TERMINATION}"


HEADINGS = ("Heading 1", "Halden contract"), ("Heading 2", "Termination")
PAGE = (
    "<!doctype html><html><head><title>Halden contract</title><script>let a = 1</script></head><body>"
    '<div class="navheader"><a>notice period navigation</a></div>'
    f"<h1>Halden contract</h1><p>{INTRODUCTION}</p><h2>Termination</h2><p>{TERMINATION}</p></body></html>"
)


def contract(name: str) -> bytes:
    """The contract in the format of the name; in the PDF the termination stands on page 2, in slides on the second."""
    made: dict[str, Callable[[], bytes]] = {
        "pdf": lambda: pdf([INTRODUCTION, TERMINATION]),
        "html": PAGE.encode,
        "docx": lambda: office.word([HEADINGS[0], ("Normal", INTRODUCTION), HEADINGS[1], ("Normal", TERMINATION)]),
        "pptx": lambda: office.slides([("Halden contract", INTRODUCTION, ""), ("Termination", TERMINATION, "")]),
        "xlsx": lambda: office.workbook({"Contracts": [["part", "text"], ["a", INTRODUCTION], ["b", TERMINATION]]}),
        "csv": f'part;text\na;"{INTRODUCTION}"\nb;"{TERMINATION}"\n'.encode,
        "eml": office.message("Halden contract", f"{INTRODUCTION}\n\n{TERMINATION}\n").as_bytes,
        "md": f"# Halden contract\n\n{INTRODUCTION}\n\n## Termination\n\n{TERMINATION}\n".encode,
        "txt": f"{INTRODUCTION}\n\n{TERMINATION}\n".encode,
    }
    return made[name.rpartition(".")[2]]()


def pdf(pages: list[str], password: str = "", unicode_map: dict[int, str] | None = None) -> bytes:
    """A PDF with one line of text on each page; the map says in hex what a character code means."""
    writer = PdfWriter()
    name = NameObject
    font = DictionaryObject(
        {name("/Type"): name("/Font"), name("/Subtype"): name("/Type1"), name("/BaseFont"): name("/Helvetica")}
    )
    if unicode_map:
        codes = "".join(f"<{code:02x}> <{meaning}>\n" for code, meaning in unicode_map.items())
        map_ = DecodedStreamObject()
        map_.set_data(f"{len(unicode_map)} beginbfchar\n{codes}endbfchar\n".encode())
        font[name("/ToUnicode")] = writer._add_object(map_)
    for line in pages:
        page = writer.add_blank_page(width=900, height=200)
        content = DecodedStreamObject()
        content.set_data(f"BT /F1 12 Tf 20 100 Td ({line}) Tj ET".encode("latin-1"))
        page[name("/Contents")] = writer._add_object(content)
        page[name("/Resources")] = DictionaryObject({name("/Font"): DictionaryObject({name("/F1"): font})})
    if password:
        writer.encrypt(password, algorithm="AES-256")
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()
