"""Who gets into PostgreSQL: each role to its own work, with TLS, a certificate of the site and its password."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inventories.certificates import LIFE, Certificate
from inventories.settings import Machine, Site
from tasks.pki import Authority, authority_of, signed
from tests.live.fleet import Fleet
from tests.live.test_database import PSQL, leader
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]
# Tries to get in and to do something, and tells what PostgreSQL said.
TRY = """
import sys, tempfile, os
sys.path.insert(0, "/opt/rag/current/lib")
import psycopg2
told, folder = [], tempfile.mkdtemp(prefix="rag-test-")
os.chmod(folder, 0o700)
for number, each in enumerate(values["tries"]):
    how = {"sslmode": "verify-full", "sslrootcert": "/etc/rag/pki/ca.crt", "sslcert": "/etc/rag/pki/app.crt",
           "sslkey": "/etc/rag/pki/app.key", "dbname": "rag", "connect_timeout": 5} | each["how"]
    for kind in ("sslcert", "sslkey"):
        if how[kind].startswith("-----BEGIN"):
            path = f"{folder}/{number}.{kind}"
            with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(how[kind])
            how[kind] = path
    try:
        link = psycopg2.connect(**how)
        link.autocommit = True
        cursor = link.cursor()
        cursor.execute(each["ask"])
        told.append("well")
        link.close()
    except psycopg2.Error as error:
        told.append(" ".join(str(error).split()))
    finally:
        for kind in ("sslcert", "sslkey"):
            if how[kind].startswith(folder):
                os.unlink(how[kind])
os.rmdir(folder)
print(json.dumps(told))
"""


@pytest.fixture
def told(site: Site, fleet: Fleet, run: Run) -> Callable[..., list[str]]:
    """What the primary says to tries from an app host: pairs of how to connect and what to ask."""

    def ask(*tries: tuple[dict[str, str], str]) -> list[str]:
        host = {"host": leader(site, run)}
        asked = [{"how": host | how, "ask": question} for how, question in tries]
        answers: list[str] = fleet.python(site.having("app")[0].name, TRY, tries=asked)
        return answers

    return ask


def login(site: Site, user: str, secret: str, **how: str) -> dict[str, str]:
    return {"user": user, "password": site.secret(secret), **how}


def test_each_role_may_do_its_own_work_and_nothing_else(site: Site, told: Callable[..., list[str]]) -> None:
    owner, program, reader = (
        login(site, user, secret)
        for user, secret in (
            ("rag_owner", "database-owner-password"),
            ("rag", "database-password"),
            ("rag_read", "database-read-password"),
        )
    )

    well = told(
        (owner, "create table probe (n int); drop table probe"),
        (program, "select count(*) from users"),
        (program, "begin; insert into collections (id, name) values (gen_random_uuid(), 'role-probe'); rollback"),
        (reader, "select count(*) from passages"),
    )
    refused = told(
        (program, "create table probe (n int)"),
        (program, "drop table questions"),
        (program, "set role rag_owner"),
        (program, "delete from audit"),
        (program, "update audit set actor = 'nobody'"),
        (reader, "delete from questions"),
        (reader, "insert into collections (id, name) values (gen_random_uuid(), 'role-probe')"),
        (owner, "select * from pg_authid"),
        (owner, "select pg_read_file('/etc/hostname')"),
        (owner, "create role another"),
        (program, "copy (select 1) to program 'true'"),
    )

    assert well == ["well"] * 4
    assert [answer for answer in refused if "permission denied" not in answer and "must be owner" not in answer] == []


def test_a_statement_that_fails_is_not_written_down_with_what_it_holds(
    site: Site, run: Run, told: Callable[..., list[str]]
) -> None:
    word = f"word{uuid4().hex}"

    assert "division by zero" in told((login(site, "rag", "database-password"), f"select 1 / 0, '{word}'"))[0]

    written = "journalctl --sync; journalctl --since -5min --output cat; cat /var/log/postgresql/* 2>/dev/null; true"
    said = "".join(run(machine, written) for machine in site.having("database"))
    assert "division by zero" in said
    assert word not in said


def test_no_role_has_more_rights_than_its_work_needs(site: Site, run: Run) -> None:
    said = run(
        leader(site, run),
        PSQL + '"select rolname, rolsuper, rolcreatedb or rolcreaterole or rolbypassrls, rolreplication from pg_roles '
        "where rolcanlogin order by 1; select bool_and(rolpassword like 'SCRAM-SHA-256%') from pg_authid "
        "where rolcanlogin; select pg_get_userbyid(datdba) from pg_database where datname = 'rag'\"",
    )

    assert said.splitlines() == [
        "postgres|t|t|t",
        "rag|f|f|f",
        "rag_backup|f|f|t",
        "rag_monitor|f|f|f",
        "rag_owner|f|f|f",
        "rag_read|f|f|f",
        "replicator|f|f|t",
        "rewinder|f|f|f",
        "t",
        "rag_owner",
    ]


def key_pair() -> tuple[ec.EllipticCurvePrivateKey, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key, key.private_bytes(*form).decode()


def certificate(key: ec.EllipticCurvePrivateKey, authority: Authority, moment: datetime) -> str:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    return signed(Certificate("app", "rag", ("app1",), ()), "app1", pem, authority, moment).decode()


def stranger() -> Authority:
    """A CA of the same name as nobody's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else's authority")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(made, key)


@pytest.mark.lab
def test_who_lacks_one_of_the_three_is_refused_logged_and_counted(
    site: Site, run: Run, told: Callable[..., list[str]]
) -> None:
    # Given
    first = leader(site, run)
    key, pem = key_pair()
    now = datetime.now(UTC)
    expired = certificate(key, authority_of(site, "authority"), now - LIFE - timedelta(days=1))
    foreign = certificate(key, stranger(), now)
    program = login(site, "rag", "database-password")
    before = counts(run, first)

    # When
    answers = told(
        (program | {"sslcert": expired, "sslkey": pem}, "select 1"),
        (program | {"sslcert": foreign, "sslkey": pem}, "select 1"),
        (program | {"sslcert": "/nonexistent", "sslkey": "/nonexistent"}, "select 1"),
        (program | {"password": "wrong"}, "select 1"),
        (program | {"sslmode": "disable"}, "select 1"),
        (login(site, "postgres", "postgres-password", dbname="postgres"), "select 1"),
        (login(site, "rag_backup", "backup-password", dbname="postgres"), "select 1"),
        (program | {"dbname": "postgres"}, "select 1"),
    )

    # Then
    words = (
        ("certificate expired", "alert certificate", "connection to server"),
        ("unknown ca", "connection to server"),
        ("requires a valid client certificate",),
        ("password authentication failed",),
        ("no encryption",),
        ("no pg_hba.conf entry",),
        ("no pg_hba.conf entry",),
        ("no pg_hba.conf entry",),
    )
    for answer, any_of in zip(answers, words, strict=True):
        assert answer != "well"
        assert any(word in answer for word in any_of), answer
    least = {"certificate": 3, "password": 1, "tls": 1, "address": 3}

    def counted() -> bool:
        after = counts(run, first)
        assert {name: after[name] - before[name] >= more for name, more in least.items()} == dict.fromkeys(least, True)
        return True

    until(counted, "every refusal in the machine's figures", 30)
    logged = run(first, "journalctl --unit patroni --since -2min --output cat --no-pager")
    assert 'password authentication failed for user "rag"' in logged
    assert site.secret("database-password") not in logged


def counts(run: Run, name: str) -> dict[str, int]:
    said = run(name, "cat /var/lib/prometheus/node-exporter/rag_refusals.prom")
    lines = [line.split() for line in said.splitlines() if not line.startswith("#")]
    return {words[0].split('"')[1]: int(words[1]) for words in lines}


def test_the_replicas_too_show_a_certificate(site: Site, run: Run) -> None:
    said = run(
        leader(site, run),
        PSQL + '"select bool_and(ssl and client_dn is not null) from pg_stat_ssl join pg_stat_replication using (pid)"',
    )

    assert said == ("t" if len(site.having("database")) > 1 else "")
