"""Search: the best passages for some words, and how each of its halves came to them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from app.answer.ask import described
from app.api.context import Here, Me, readable
from app.api.limits import a_search
from app.ingest.clean import clean
from app.retrieve.search import Hit, Mode, Standing, Wanted, search
from app.store.matching import Only, Scope

router = APIRouter(prefix="/api/v1", tags=["search"])

MOST_CHARACTERS = 4000

# PostgreSQL's text holds every character but one; the others are written as in the documents.
Text = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS, pattern=r"^[^\x00]*$"), AfterValidator(clean)]
Short = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]


def _listed(value: Any) -> Any:
    return value if value is None or isinstance(value, (list, tuple)) else [value]


Several = BeforeValidator(_listed)


class Narrowed(BaseModel):
    """Limits on the documents that may be found."""

    document: Annotated[list[UUID], Several, Field(max_length=100, description="These documents only.")] = []
    media_type: Annotated[
        list[Short], Several, Field(max_length=20, description="Documents of these media types only.")
    ] = []
    since: datetime | None = Field(
        default=None, description="Documents that came at this moment or later; without a zone it is UTC."
    )
    until: datetime | None = Field(default=None, description="Documents that came before this moment.")

    @model_validator(mode="after")
    def _a_span_of_time(self) -> Self:
        if self.since and self.until and _utc(self.since) >= _utc(self.until):
            raise ValueError(f"since = {self.since.isoformat()}; a moment before until is needed")
        return self

    def only(self) -> Only:
        """The same for the search."""
        since, until = (_utc(moment) if moment else None for moment in (self.since, self.until))
        return Only(tuple(self.document), tuple(self.media_type), since, until)


class Search(Narrowed):
    model_config = ConfigDict(extra="forbid")
    collection: Annotated[
        list[Short], Several, Field(min_length=1, max_length=20, description="Where to search; may be repeated.")
    ]
    q: Text = Field(description="What to look for, in words or as a question.")
    limit: int = Field(default=10, ge=1, le=50, description="Most results.")
    mode: Mode = Field(
        default="hybrid", description="Both halves fused, the nearest vectors alone, or the full text alone."
    )


class VectorStanding(BaseModel):
    """Where the passage stood among the nearest vectors."""

    rank: int
    distance: float = Field(description="Cosine distance: 0 is the same direction, 1 unrelated.")


class LexicalStanding(BaseModel):
    """Where the passage stood in the full text."""

    rank: int
    score: float = Field(description="Share of the question's words in the passage, weighed by rarity.")


class Result(BaseModel):
    """A passage found."""

    document_id: UUID
    passage: int = Field(description="Its number in the document, from 0.")
    title: str
    section: str = Field(description="The headings above it in one line.")
    headings: list[str]
    page: int | None
    place: dict[str, Any] = Field(description="Where it stands: page, slide, sheet and rows, as the format has them.")
    url: str = Field(description="The page that shows it, below the platform's address.")
    text: str
    score: float = Field(description="Both halves, heading and document, weighed; comparable within one answer only.")
    vector: VectorStanding | None = Field(description="Null where it was not among the nearest vectors.")
    lexical: LexicalStanding | None = Field(description="Null where the full text did not find it.")


class SearchAnswer(BaseModel):
    """Results, best first."""

    results: list[Result]
    degraded: Literal["index", "inference"] | None = Field(
        description="The half of the search that could not take part, so that words alone were compared."
    )
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "results": [
                    {
                        "document_id": "6f1c1d6e-8b1f-4a53-9a57-6f0f5a3f0c11",
                        "passage": 3,
                        "title": "Halden contract",
                        "section": "Termination",
                        "headings": ["Termination"],
                        "page": 2,
                        "place": {"page": 2},
                        "url": "/documents/6f1c1d6e-8b1f-4a53-9a57-6f0f5a3f0c11/passages/3",
                        "text": "The notice period is 90 days.",
                        "score": 0.61,
                        "vector": {"rank": 1, "distance": 0.31},
                        "lexical": {"rank": 2, "score": 0.64},
                    }
                ],
                "degraded": None,
            }
        }
    )


@router.get("/search", dependencies=[Depends(a_search)])
async def find(me: Me, here: Here, wanted: Annotated[Search, Query()]) -> SearchAnswer:
    """The best passages for the words, from one collection or several."""
    names = dict.fromkeys(wanted.collection)
    collections = [await run_in_threadpool(readable, here, me, name) for name in names]
    here.asked(wanted.q)
    scope = Scope(tuple(one.id for one in collections), wanted.only())
    found = await search(here.searcher, Wanted(scope, wanted.q, wanted.limit, wanted.mode))
    return SearchAnswer.model_validate({"results": [_result(hit) for hit in found.hits], "degraded": found.missing})


def _result(hit: Hit) -> dict[str, Any]:
    return {
        **described(hit.passage),
        "text": hit.passage.text,
        "score": hit.score,
        "vector": _standing(hit.vector, "distance"),
        "lexical": _standing(hit.lexical, "score"),
    }


def _standing(standing: Standing | None, measure: str) -> dict[str, float] | None:
    return {"rank": standing.rank, measure: standing.measure} if standing else None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
