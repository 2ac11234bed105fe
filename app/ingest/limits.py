"""How much one document may cost; the parser's own process knows nothing else of the site's settings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    seconds: int
    memory_mb: int
    pages: int
    members: int
    unpacked_mb: int
    sheets: int
    rows: int

    @property
    def unpacked_bytes(self) -> int:
        return self.unpacked_mb * 1024 * 1024
