"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
# The newest revision that a program must know to work in this schema: what only adds keeps that of the one before.
serves = ${repr(down_revision)}


def upgrade() -> None:
    ${upgrades if upgrades else "op.execute(...)"}
