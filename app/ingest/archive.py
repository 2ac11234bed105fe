"""Office files are zip archives: unpacked here and within the limits, never by the libraries that read them."""

import io
import re
import zipfile
import zlib
from typing import Literal

from app.ingest.limits import Limits
from app.ingest.outline import UnreadableError

Kind = Literal["docx", "pptx", "xlsx"]

CONTENT_TYPES = "[Content_Types].xml"
# What the list of contents calls the main part, without and with macros, of files and of templates.
_MAIN = {
    "docx": re.compile(
        rb"wordprocessingml\.(document|template)\.main|ms-word\.(document|template)\.macroEnabled\S*main"
    ),
    "pptx": re.compile(
        rb"presentationml\.(presentation|slideshow|template)\.main|ms-powerpoint\.\w+\.macroEnabled\S*main"
    ),
    "xlsx": re.compile(rb"spreadsheetml\.(sheet|template)\.main|ms-excel\.(sheet|template)\.macroEnabled\S*main"),
}
_READ = (".xml", ".rels")
# The formats know no others, and with these alone a piece swells no further than it was asked for.
_PACKED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_CHUNK = 64 * 1024
_DOCTYPE = tuple("<!DOCTYPE".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))
# Office's XML shrinks to a tenth or a fiftieth; only what was made to swell shrinks to less than this.
_MOST_RATIO = 250
_ANY_RATIO_BYTES = 16 * 1024 * 1024


def office(content: bytes, file_name: str, limits: Limits) -> tuple[Kind, bytes]:
    """What kind of Office file it is, and the same with its XML unpacked and all else (pictures, fonts) left empty."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _refuse_bombs(members, len(content), file_name, limits)
            kind = _kind(archive, file_name, limits)
            return kind, _unpacked(archive, members, file_name, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise UnreadableError(f"{file_name} = a damaged file ({error}); a copy that its program opens") from None


def _refuse_bombs(members: list[zipfile.ZipInfo], size: int, file_name: str, limits: Limits) -> None:
    if len(members) > limits.members:
        raise UnreadableError(f"{file_name} = {len(members)} files in one; at most {limits.members}")
    if any(member.flag_bits & 1 for member in members):
        raise UnreadableError(f"{file_name} = an encrypted archive; a copy that opens without a password")
    if any(member.compress_type not in _PACKED for member in members):
        raise UnreadableError(f"{file_name} = an archive packed in a rare way; a copy saved anew by its program")
    # Whatever is not read need not be unpacked either, but who lies about one size lies about others.
    unpacked = sum(member.file_size for member in members)
    wanted = sum(member.file_size for member in members if _is_read(member))
    if wanted > limits.unpacked_bytes or unpacked > max(_ANY_RATIO_BYTES, _MOST_RATIO * size):
        raise UnreadableError(f"{file_name} = {unpacked} bytes when unpacked; a simpler or smaller file")


def _kind(archive: zipfile.ZipFile, file_name: str, limits: Limits) -> Kind:
    names = archive.NameToInfo
    if CONTENT_TYPES not in names:
        if "mimetype" in names and "content.xml" in names:
            raise UnreadableError(f"{file_name} = an OpenDocument file; a copy saved as .docx, .xlsx, .pptx or .pdf")
        raise UnreadableError(f"{file_name} = an archive; the documents in it, one by one")
    contents = _read(archive, names[CONTENT_TYPES], limits.unpacked_bytes, file_name)
    kinds: tuple[Kind, ...] = ("docx", "pptx", "xlsx")
    for kind in kinds:
        if _MAIN[kind].search(contents):
            return kind
    raise UnreadableError(f"{file_name} = an Office file of another kind; a copy saved as .docx, .xlsx, .pptx or .pdf")


def _unpacked(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], file_name: str, limits: Limits) -> bytes:
    left = limits.unpacked_bytes
    plain = io.BytesIO()
    with zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as written:
        for member in {member.filename: member for member in members}.values():
            content = _read(archive, member, left, file_name) if _is_read(member) else b""
            left -= len(content)
            written.writestr(member.filename, content)
    return plain.getvalue()


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int, file_name: str) -> bytes:
    """The member's bytes, in pieces: its size in the directory may be a lie, and one piece at a time swells little."""
    pieces = bytearray()
    with archive.open(member) as source:
        while piece := source.read(_CHUNK):
            pieces += piece
            if len(pieces) > most:
                raise UnreadableError(f"{file_name} = over {most} bytes when unpacked; a simpler or smaller file")
    if any(mark in pieces for mark in _DOCTYPE):
        # The formats forbid it, and it is how a file makes its reader fetch others.
        raise UnreadableError(f"{file_name} = XML with a document type; a copy saved anew by its program")
    return bytes(pieces)


def _is_read(member: zipfile.ZipInfo) -> bool:
    return member.filename.lower().endswith(_READ)
