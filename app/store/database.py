"""Connections: questions read from any replica, everything that writes finds the primary."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from app.settings import Database, credential

Result = TypeVar("Result")
Work = Callable[[Connection], Result]
Target = Literal["prefer-standby", "read-write"]


def engine(settings: Database, target: Target, statement_seconds: float | None = None, *, at_least: int = 1) -> Engine:
    """A pool of connections to the kind of server named; libpq tries the hosts until one fits."""
    return create_engine(
        URL.create("postgresql+psycopg2"),
        connect_args=_libpq(settings, target, statement_seconds),
        pool_size=max(settings.pool_size, at_least),
        max_overflow=0,
        pool_timeout=5,
        # A server that went away costs one ping here instead of one failed request.
        pool_pre_ping=True,
        # After a failover connections drift back to where they belong.
        pool_recycle=300,
    )


def reading(pool: Engine, work: Work[Result]) -> Result:
    """Run a read; once more, on another server, when the first one ended in the middle."""
    try:
        return _read(pool, work)
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
    return _read(pool, work)


def writing(pool: Engine, work: Work[Result]) -> Result:
    """Run ``work`` in one transaction."""
    with pool.begin() as connection:
        return work(connection)


def _read(pool: Engine, work: Work[Result]) -> Result:
    with pool.connect() as connection:
        return work(connection)


def _libpq(settings: Database, target: Target, statement_seconds: float | None) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "host": ",".join(settings.hosts),
        "port": settings.port,
        "dbname": settings.name,
        "user": settings.user,
        "password": credential("database-password"),
        "target_session_attrs": target,
        "load_balance_hosts": "random",
        "connect_timeout": settings.connect_timeout_seconds,
        # A host that lost power sends no goodbye: these bound how long its silence is believed.
        "tcp_user_timeout": 5000,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "application_name": "rag",
    }
    if settings.ssl_root_cert:
        arguments |= {"sslmode": "verify-full", "sslrootcert": settings.ssl_root_cert}
    else:
        arguments |= {"sslmode": "disable"}
    if settings.ssl_cert:
        arguments |= {"sslcert": settings.ssl_cert, "sslkey": settings.ssl_key}
    if statement_seconds:
        arguments["options"] = f"-c statement_timeout={int(statement_seconds * 1000)}"
    return arguments
