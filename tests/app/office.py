"""Office files and messages made by the libraries that people's programs are close to, and hostile ones by hand."""

import io
import zipfile
from email.message import EmailMessage
from typing import Any

import docx
import openpyxl
import pptx
from pptx.util import Inches

MAIN = "word/document.xml"


def word(blocks: list[tuple[str, str]], title: str = "", table: list[list[str]] | None = None) -> bytes:
    """Paragraphs of a style each, then a table."""
    document = docx.Document()
    document.core_properties.title = title
    for style, text in blocks:
        document.add_paragraph(text, style)
    if table:
        rows = document.add_table(len(table), len(table[0])).rows
        for row, texts in zip(rows, table, strict=True):
            for cell, text in zip(row.cells, texts, strict=True):
                cell.text = text
    return saved(document)


def slides(texts: list[tuple[str, str, str]]) -> bytes:
    """A slide each with title, text and notes."""
    presentation = pptx.Presentation()
    for title, text, notes in texts:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = text
        if notes:
            slide.notes_slide.notes_text_frame.text = notes
    return saved(presentation)


def slide_with_table(rows: list[list[str]]) -> bytes:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    slide.shapes.title.text = "Prices"
    size = (Inches(1), Inches(1), Inches(5), Inches(2))
    table = slide.shapes.add_table(len(rows), len(rows[0]), *size).table
    for y, row in enumerate(rows):
        for x, text in enumerate(row):
            table.cell(y, x).text = text
    return saved(presentation)


def workbook(sheets: dict[str, list[list[Any]]], percent: str = "") -> bytes:
    """Sheets of rows; the cell named ``percent`` is shown as a percentage."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
        if percent:
            sheet[percent].number_format = "0.0%"
    return saved(book)


def saved(document: Any) -> bytes:
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def message(
    subject: str, text: str = "", html: str = "", attached: list[tuple[str, bytes]] | None = None
) -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = subject, "Ada Lovelace <ada@rag.test>", "crew@rag.test"
    mail["Date"] = "Fri, 06 Nov 2026 09:00:00 +0000"
    if text:
        mail.set_content(text)
    if html:
        mail.add_alternative(html, subtype="html") if text else mail.set_content(html, subtype="html")
    for name, content in attached or []:
        mail.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
    return mail


def with_member(content: bytes, name: str, member: bytes) -> bytes:
    """The same archive with one member put in, or in another's place."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            if info.filename != name:
                new.writestr(info, old.read(info))
        new.writestr(name, member)
    return written.getvalue()


def main_part(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return archive.read(MAIN)


def ole(stream: str) -> bytes:
    """As much of the old container as tells what it holds."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + stream.encode("utf-16-le") + bytes(512)
