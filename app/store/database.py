"""Connections: questions read from any replica, what writes finds the primary, and both outlive a failover."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, InvalidRequestError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.settings import Database, credential
from app.store.freshness import SHOWN
from app.store.patience import no_longer_than
from app.store.servers import Servers, servers_of

Result = TypeVar("Result")
Work = Callable[[Connection], Result]
Target = Literal["prefer-standby", "read-write"]
Role = Literal["user", "owner", "reader"]

# What libpq calls the kinds of server (target_session_attrs), the preferred one first.
KINDS: dict[Target, tuple[str, ...]] = {"prefer-standby": ("standby", "any"), "read-write": ("read-write",)}

# What a server says that ends, begins, or is no primary (any more): another try finds another server.
GONE = frozenset({"57P01", "57P02", "57P03", "25006"})
# What a transaction hears that met another one, or on a replica the replay: the same once more goes through.
MET_ANOTHER = frozenset({"40001", "40P01"})

# How a commit ends whose wait for a replica was cut short: it looks like success, and a crash now would undo it.
UNREPLICATED = "might not have been replicated"

PAUSE_SECONDS = 0.2
# A read that failed is begun again for so long; with two servers without power it takes most of it to find the third.
READ_SECONDS = 5.0
# A server that has not answered by then may be frozen; the second try gets the whole length of a statement.
FIRST_READ_SECONDS = 3.0
PING_SECONDS = 2.0
# Indexing a large document is one long transaction, and has no limit on its statements.
LONGEST_WORK_SECONDS = 300.0


def engine(
    settings: Database,
    target: Target,
    statement_seconds: float | None = None,
    *,
    role: Role = "user",
    at_least: int = 1,
    work_seconds: float = LONGEST_WORK_SECONDS,
) -> Engine:
    """A pool of connections to the kind of server named, on whichever host there is one."""
    servers = servers_of(settings.hosts, settings.port, settings.stale_seconds)
    login = _libpq(settings, statement_seconds, role)
    made = create_engine(
        URL.create("postgresql+psycopg2"),
        creator=lambda: servers.connect(KINDS[target], login),
        pool_size=max(settings.pool_size, at_least),
        max_overflow=0,
        # A failed statement's values are passwords' hashes, questions and documents.
        hide_parameters=True,
        pool_timeout=5,
        # The last one used is the next: after a server is gone one new connection serves all that come one by one,
        # where a turn for each would make each find its way anew.
        pool_use_lifo=True,
        # After a failover connections drift back to where they belong.
        pool_recycle=300,
        execution_options={
            "patience": statement_seconds + PING_SECONDS if statement_seconds else work_seconds,
            "write_seconds": settings.write_seconds,
        },
    )
    if target == "prefer-standby":
        servers.watch(login)
    event.listen(made, "checkout", partial(_pinged, servers))
    event.listen(made, "handle_error", _lost)
    return made


def connecting_to(settings: Database, host: str) -> Callable[[], Any]:
    """What opens a connection to this one server, whatever it is at the moment, for somebody who reads."""
    servers = servers_of((host,), settings.port, settings.stale_seconds)
    login = _libpq(settings, FIRST_READ_SECONDS, "reader")
    return lambda: servers.connect(("any",), login)


def reading(pool: Engine, work: Work[Result], seconds: float = READ_SECONDS) -> Result:
    """Run a read; when its server fails, ends or falls silent, again on another, begun within ``seconds``.

    Each statement is by itself: in a transaction, too, it would see what others committed before it began.
    """
    patience = _option(pool, "patience")
    alone = pool.execution_options(isolation_level="AUTOCOMMIT")

    def attempt(tries: int) -> Result:
        return _run(_connected(alone), work, min(patience, FIRST_READ_SECONDS) if tries == 1 else patience)

    return _repeated(attempt, time.monotonic() + seconds)


def writing(pool: Engine, work: Work[Result], seconds: float | None = None, *, again: bool = False) -> Result:
    """Run ``work`` in one transaction; while no primary takes it, again, begun within ``seconds`` (else the settings').

    A commit may arrive though its answer does not, so ``work`` must lead to the same end when it runs once more.
    ``again``: the caller has tried before and does not know how that ended.
    """
    deadline = time.monotonic() + (_option(pool, "write_seconds") if seconds is None else seconds)
    patience = _option(pool, "patience")

    def attempt(tries: int) -> Result:
        return _run(_connected(pool), lambda connection: _committed(connection, work, tries > 1 or again), patience)

    return _repeated(attempt, deadline)


def shown_by_replicas(connection: Connection) -> None:
    """Let this transaction's commit wait until the replicas that confirm it also show it; without any, as always."""
    connection.execute(text("set local synchronous_commit = remote_apply"))


def passing(error: Exception) -> bool:
    """Whether the failure is a server's or a moment's, so that the same may succeed a little later."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "pgcode", None)
    if state is None:
        # Without a code nobody answered: no server was found, or the one that was is lost.
        return error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
    return error.connection_invalidated or state in GONE | MET_ANOTHER or state.startswith("08")


def _repeated(attempt: Callable[[int], Result], deadline: float) -> Result:
    tries = 0
    while True:
        tries += 1
        try:
            return attempt(tries)
        except (DBAPIError, PoolTimeoutError) as error:
            if not passing(error) or time.monotonic() + PAUSE_SECONDS > deadline:
                raise
        time.sleep(PAUSE_SECONDS)


def _connected(pool: Engine) -> Connection:
    try:
        return pool.connect()
    except InvalidRequestError as error:
        # Its ping failed twice: the server is gone, which is nobody's mistake.
        raise OperationalError("connect", None, ConnectionError(str(error))) from error


def _run(connecting: AbstractContextManager[Connection], work: Work[Result], patience: float) -> Result:
    with connecting as connection, no_longer_than(patience, connection.connection.driver_connection), connection:
        # Closed within the time too: what ends a transaction is asked of the server like everything else.
        return work(connection)


def _committed(connection: Connection, work: Work[Result], again: bool) -> Result:
    notices: list[str] = getattr(connection.connection.driver_connection, "notices", [])
    notices.clear()
    with connection.begin():
        if again:
            # A try that finds its work done writes nothing, and PostgreSQL lets only who wrote wait for a replica: it
            # would acknowledge what a crashed primary had handed to nobody.
            connection.execute(text("select pg_logical_emit_message(true, 'rag', 'again')"))
        result = work(connection)
    if any(UNREPLICATED in notice for notice in notices):
        raise OperationalError("commit", None, ConnectionError("no replica has the write yet"))
    return result


def _pinged(servers: Servers, connection: Any, _record: Any, _proxy: Any) -> None:
    """Find out before the work begins whether the server is there, and shows what it should.

    One dead connection throws away all that are as old, so that nobody waits for one after the other.
    """
    try:
        with no_longer_than(PING_SECONDS, connection):
            # A transaction would begin and end on ways of their own, three times as many.
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(SHOWN)
                shown = cursor.fetchone()[0]
            connection.autocommit = False
    except connection.Error as error:
        raise InvalidatePoolError from error
    if servers.should_be_left(connection.info.host, shown):
        raise InvalidatePoolError


def _lost(context: Any) -> None:
    """A connection to a server that is no primary any more serves nobody: away with it and those beside it."""
    state = getattr(context.original_exception, "pgcode", None) or ""
    if state in GONE or state.startswith("08"):
        context.is_disconnect = True


def _option(pool: Engine, name: str) -> float:
    return float(pool.get_execution_options().get(name, 30.0))


def _libpq(settings: Database, statement_seconds: float | None, role: Role) -> dict[str, Any]:
    user, password = settings.login(role)
    arguments: dict[str, Any] = {
        "dbname": settings.name,
        "user": user,
        "password": credential(password),
        "connect_timeout": settings.connect_timeout_seconds,
        # A host that lost power sends no goodbye: these bound how long its silence is believed, while something
        # is under way to it (the first) and while its answer is awaited (the others).
        "tcp_user_timeout": 3000,
        "keepalives_idle": 2,
        "keepalives_interval": 1,
        "keepalives_count": 2,
        "application_name": "rag",
    }
    if settings.ssl_root_cert:
        arguments |= {"sslmode": "verify-full", "sslrootcert": settings.ssl_root_cert}
    else:
        arguments |= {"sslmode": "disable"}
    if settings.ssl_cert:
        arguments |= {"sslcert": settings.ssl_cert, "sslkey": settings.ssl_key}
    # Who hung up, since it was too slow or died, shall not keep the server at work.
    arguments["options"] = "-c client_connection_check_interval=1000"
    if statement_seconds:
        arguments["options"] += f" -c statement_timeout={int(statement_seconds * 1000)}"
    return arguments
