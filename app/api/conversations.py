"""What one asked before: questions, conversations, and what one thinks of the answers."""

from dataclasses import dataclass
from uuid import UUID

from fastapi import APIRouter
from sqlalchemy import Connection

from app import metrics
from app.answer.ask import described
from app.api import shapes
from app.api.context import By, Here, Me
from app.api.paging import After, Limit, Page, page, time_and_id
from app.api.problems import Problem, not_found
from app.store import audit, collections, conversations, passages, questions
from app.store.conversations import Conversation
from app.store.passages import Passage
from app.store.questions import Entry
from app.store.users import User

router = APIRouter(prefix="/api/v1", tags=["conversations"])

MOST_TURNS = 200


@router.get("/questions")
def list_questions(me: Me, here: Here, after: After = "", limit: Limit = 50) -> Page[shapes.Turn]:
    """One's own questions with their answers, the latest first; each is written down shortly after its answer."""
    behind = time_and_id(after)
    place = questions.Place(*behind) if behind else None

    def work(connection: Connection) -> list[_Told]:
        return _told(connection, me, questions.of_user(connection, me.id, limit + 1, place))

    return page(here.fresh(work), limit, lambda told: (told.entry.asked_at.isoformat(), str(told.entry.id)), _turn)


@router.put("/questions/{question_id}/feedback")
async def judge(me: Me, here: Here, question_id: UUID, wanted: shapes.Verdict) -> shapes.Feedback:
    """Say what one thinks of an answer; the last word counts."""
    kept = await here.write(
        lambda connection: questions.judge(connection, me.id, question_id, wanted.verdict, wanted.comment)
    )
    if kept is None:
        help_ = "GET /api/v1/questions lists yours; one is written down shortly after its answer"
        raise Problem(404, f"question = {question_id}; one of yours", help_)
    metrics.FEEDBACK.labels(wanted.verdict).inc()
    return shapes.Feedback(**kept.__dict__)


@router.get("/conversations")
def list_conversations(me: Me, here: Here, after: After = "", limit: Limit = 50) -> Page[shapes.Conversation]:
    """One's own conversations, the last one asked in first."""
    behind = time_and_id(after)
    place = conversations.Place(*behind) if behind else None
    found = here.fresh(lambda connection: conversations.of_user(connection, me.id, limit + 1, place))
    return page(
        found,
        limit,
        lambda conversation: (conversation.changed_at.isoformat(), str(conversation.id)),
        lambda conversation: shapes.Conversation(**conversation.__dict__),
    )


@router.get("/conversations/{conversation_id}")
def show(me: Me, here: Here, conversation_id: UUID) -> shapes.Talk:
    """A conversation with its turns, the latest two hundred."""

    def work(connection: Connection) -> tuple[Conversation | None, list[_Told]]:
        found = conversations.find(connection, me.id, conversation_id)
        entries = questions.of_conversation(connection, conversation_id, MOST_TURNS) if found else []
        return found, _told(connection, me, entries)

    conversation, told = here.fresh(work)
    if conversation is None:
        raise not_found("conversation", conversation_id, "conversations")
    return shapes.Talk(**conversation.__dict__, turns=[_turn(one) for one in told])


@router.delete("/conversations/{conversation_id}", status_code=204)
async def delete(me: Me, by: By, here: Here, conversation_id: UUID) -> None:
    """Take the conversation away with its questions, answers and feedback, everywhere and for good."""

    def work(connection: Connection) -> bool:
        deleted = conversations.delete(connection, me.id, conversation_id)
        if deleted:
            audit.note(connection, by, "conversation.delete", f"conversations/{conversation_id}")
        return deleted

    if not await here.write(work):
        raise not_found("conversation", conversation_id, "conversations")


@dataclass(frozen=True)
class _Told:
    """A turn, and of the passages that it came close to those that its asker may read now."""

    entry: Entry
    closest: list[Passage]


def _told(connection: Connection, me: User, entries: list[Entry]) -> list[_Told]:
    wanted = [one for entry in entries for one in entry.closest]
    asked = {entry.collection_id for entry in entries if entry.closest}
    readable = [one for one in asked if collections.holding(connection, me, one)]
    there = {one.id: one for one in passages.by_ids(connection, readable, wanted)} if wanted else {}
    return [_Told(entry, [there[one] for one in entry.closest if one in there]) for entry in entries]


def _turn(told: _Told) -> shapes.Turn:
    entry = told.entry
    return shapes.Turn.model_validate(
        {
            **entry.__dict__,
            "closest": [described(passage) for passage in told.closest],
            "closest_gone": len(entry.closest) - len(told.closest),
            "conversation": entry.conversation_id,
            "feedback": entry.feedback and entry.feedback.__dict__,
        }
    )
