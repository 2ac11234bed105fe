"""
The programs that run on the machines: writers, readers and probers, one JSON line per success.

Each is sent as the first line of standard input, the values as the second: no password is in an argument list. Standard
input stays open, and its end ends the program, whether the bench is through with it or died.
"""

import json

STARTER = 'import sys, json; exec(compile(json.loads(sys.stdin.readline()), "bench", "exec"))'

# "now" is CLOCK_MONOTONIC: the machines of a lab share their kernel's, so their times compare.
COMMON = """
import json, os, sys, threading, time, uuid
sys.path[:0] = [place for place in ("/opt/rag/current", "/opt/rag/current/lib") if os.path.isdir(place)]
import psycopg2

values = json.loads(sys.stdin.readline())
now, over, told = time.monotonic, threading.Event(), threading.Lock()

def tell(**said):
    with told:
        print(json.dumps(said), flush=True)

def login():
    links = {
        "user": "rag", "dbname": "rag", "password": values["password"], "connect_timeout": 2,
        "tcp_user_timeout": 3000, "keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 3,
        "application_name": "rag-bench",
    }
    if os.path.exists("/etc/rag/pki/app.crt"):
        links |= {"sslmode": "verify-full", "sslrootcert": "/etc/rag/pki/ca.crt"}
        links |= {"sslcert": "/etc/rag/pki/app.crt", "sslkey": "/etc/rag/pki/app.key"}
    return links

def of_itself(link):
    link.autocommit = True
    return link

# Once per id, however often it is tried; the effect follows the first try only. A retry writes too: PostgreSQL makes
# only what wrote wait for a replica, and what an earlier try left behind may be on none.
WRITE = '''
with tried as (
  insert into bench.ledger (id) values (%s) on conflict (id) do update set tries = bench.ledger.tries + 1
  returning id, tries
), effect as (insert into bench.effect select id from tried where tries = 1)
select host(inet_server_addr()), substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) from tried
'''

def write(link, name, kind, began):
    link.notices.clear()
    cursor = link.cursor()
    cursor.execute(WRITE, (name,))
    address, timeline = cursor.fetchone()
    # A wait for the replicas that was cancelled is answered as a success, with this warning.
    if any("might not have been replicated" in notice for notice in link.notices):
        raise psycopg2.OperationalError("acknowledged without a replica")
    tell(kind=kind, id=name, started=began, ended=now(), member=values["names"].get(address, values["here"]),
         timeline=int(timeline, 16))

# Writers and readers find their server as the application does, with its own code.
def anywhere(*kinds):
    from app.store.servers import servers_of
    return of_itself(servers_of(tuple(values["hosts"].split(",")), 5432).connect(kinds, login()))

def writer():
    link = None
    while not over.is_set():
        name = str(uuid.uuid4())
        while not over.is_set():
            try:
                link = link or anywhere("read-write")
                write(link, name, "write", now())
                break
            except psycopg2.Error as error:
                tell(kind="failed", at=now(), why=str(error).strip().splitlines()[-1:])
                try:
                    link and link.close()
                except psycopg2.Error:
                    pass
                link = None
                over.wait(0.05)
        over.wait(0.05)

def reader():
    link = None
    while not over.is_set():
        try:
            link = link or anywhere("standby", "any")
            link.cursor().execute("select count(*) from (select from bench.ledger limit 1) one")
            tell(kind="read", at=now())
        except psycopg2.Error:
            link = None
        over.wait(0.1)

def prober(host):
    link = None
    while not over.is_set():
        try:
            link = link or of_itself(psycopg2.connect(host=host, **login()))
            cursor = link.cursor()
            cursor.execute("select pg_is_in_recovery()")
            if not cursor.fetchone()[0]:
                write(link, str(uuid.uuid4()), "probe", now())
        except psycopg2.Error:
            link = None
        over.wait(0.2)

def run(*works):
    for work in works:
        threading.Thread(target=work, daemon=True).start()
    tell(kind="ready")
    sys.stdin.read()
    over.set()
    # Not an end of the interpreter: a thread may wait for a server that never answers.
    time.sleep(0.1)
    with told:
        os._exit(0)
"""

ON_AN_APP_HOST = (
    COMMON
    + """
run(writer, writer, reader, *(lambda host=host: prober(host) for host in values["hosts"].split(",")))
"""
)

# On the machine itself and past its network: a primary that nobody else reaches is seen too.
ON_A_DATABASE_MACHINE = (
    COMMON
    + """
run(lambda: prober("/var/run/postgresql"))
"""
)

# As rag-worker asks: so many texts a call, two calls at a time.
EMBEDDER = """
import json, sys, time, urllib.request
from concurrent.futures import ThreadPoolExecutor

values = json.loads(sys.stdin.readline())
texts, size = values["texts"], 16

def embed(start):
    asked = {"model": values["model"], "input": texts[start : start + size], "keep_alive": -1}
    request = urllib.request.Request("http://127.0.0.1:11435/api/embed", json.dumps(asked).encode())
    urllib.request.urlopen(request, timeout=120).read()

began = time.monotonic()
with ThreadPoolExecutor(2) as pool:
    list(pool.map(embed, range(0, len(texts), size)))
print(time.monotonic() - began)
"""


def spoken(program: str, **values: object) -> str:
    """The two lines that start a program."""
    return f"{json.dumps(program)}\n{json.dumps(values)}\n"
