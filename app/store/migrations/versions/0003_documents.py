"""States, places and versions of documents."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    pass
