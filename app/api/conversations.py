"""What one asked before: questions, conversations, and what one thinks of the answers."""

from uuid import UUID

from fastapi import APIRouter
from sqlalchemy import Connection

from app import metrics
from app.api import shapes
from app.api.context import Here, Me
from app.api.paging import After, Limit, Page, page, time_and_id
from app.api.problems import Problem, not_found
from app.store import conversations, questions
from app.store.conversations import Conversation
from app.store.questions import Entry

router = APIRouter(prefix="/api/v1", tags=["conversations"])

MOST_TURNS = 200


@router.get("/questions")
def list_questions(me: Me, here: Here, after: After = "", limit: Limit = 50) -> Page[shapes.Turn]:
    """One's own questions with their answers, the latest first; each is written down shortly after its answer."""
    behind = time_and_id(after)
    place = questions.Place(*behind) if behind else None
    found = here.fresh(lambda connection: questions.of_user(connection, me.id, limit + 1, place))
    return page(found, limit, lambda entry: (entry.asked_at.isoformat(), str(entry.id)), _turn)


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

    def work(connection: Connection) -> tuple[Conversation | None, list[Entry]]:
        found = conversations.find(connection, me.id, conversation_id)
        return found, questions.of_conversation(connection, conversation_id, MOST_TURNS) if found else []

    conversation, entries = here.fresh(work)
    if conversation is None:
        raise not_found("conversation", conversation_id, "conversations")
    return shapes.Talk(**conversation.__dict__, turns=[_turn(entry) for entry in entries])


@router.delete("/conversations/{conversation_id}", status_code=204)
async def delete(me: Me, here: Here, conversation_id: UUID) -> None:
    """Take the conversation away with its questions, answers and feedback, everywhere and for good."""
    if not await here.write(lambda connection: conversations.delete(connection, me.id, conversation_id)):
        raise not_found("conversation", conversation_id, "conversations")


def _turn(entry: Entry) -> shapes.Turn:
    return shapes.Turn.model_validate(
        {
            **entry.__dict__,
            "conversation": entry.conversation_id,
            "feedback": entry.feedback and entry.feedback.__dict__,
        }
    )
