"""The container of Office before 2007, which is also what an encrypted Office file comes in: not read, but named."""

from app.ingest.outline import UnreadableError

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

# Names of streams in the container's own list, the telling ones first.
_STREAMS = (
    ("EncryptedPackage", "an encrypted Office file; a copy that opens without a password"),
    ("WordDocument", "a Word file of before 2007; a copy saved as .docx"),
    ("PowerPoint Document", "a PowerPoint file of before 2007; a copy saved as .pptx"),
    ("Workbook", "an Excel file of before 2007; a copy saved as .xlsx"),
    ("__properties_version1.0", "an Outlook message; a copy saved as .eml"),
)


def refused_ole(content: bytes, file_name: str) -> UnreadableError:
    """Why it is not read, and what to do."""
    for stream, says in _STREAMS:
        if stream.encode("utf-16-le") in content:
            return UnreadableError(f"{file_name} = {says}")
    return UnreadableError(f"{file_name} = a file of an old program; a copy saved as .docx, .xlsx, .pptx or .pdf")
