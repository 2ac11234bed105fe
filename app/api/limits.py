"""What a route asks of a person's number of requests before it does anything."""

from app.api.context import Here, Me


async def a_question(me: Me, here: Here) -> None:
    """Raise 429 for who asks too often."""
    await here.rates.take(me.id, "questions")


async def a_search(me: Me, here: Here) -> None:
    """Raise 429 for who searches too often."""
    await here.rates.take(me.id, "searches")


async def an_upload(me: Me, here: Here) -> None:
    """Raise 429 for who uploads too often."""
    await here.rates.take(me.id, "uploads")
