"""What every table of the configuration has in common: it cannot be changed, and knows no other keys than its own."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# The text search configurations that PostgreSQL brings along.
# fmt: off
Language = Literal[
    "simple", "arabic", "armenian", "basque", "catalan", "danish", "dutch", "english", "finnish", "french", "german",
    "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian", "nepali", "norwegian", "portuguese",
    "romanian", "russian", "serbian", "spanish", "swedish", "tamil", "turkish", "yiddish",
]
# fmt: on
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)
