"""`python3 -m app.backup VERB`: what each unit of the backup host runs."""

import argparse
import importlib
import sys

from app.backup.settings import load
from app.settings import ConfigurationError, refuse

MODULES = {
    "drill": "drill",
    "receive": "receive",
    "restore": "restore",
    "window": "window",
    "recoveries": "recoveries",
    "fetch": "fetch",
    "init": "keys",
    "backup": "snapshot",
    "base": "base",
    "dump": "dump",
    "maintain": "maintain",
    "copy": "copying",
}
"""Verb to the module of this package whose ``run`` does it."""


def main(arguments: list[str]) -> int:
    """Exit code 0: good; 1: failed; 2: refused."""
    parser = argparse.ArgumentParser(prog="python3 -m app.backup", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("receive", help="receive the log until told to stop")
    verbs.add_parser("restore", help="bring a moment back into scratch/restored; rag-restored.service does it")
    verbs.add_parser("window", help="from when to when any moment can be brought back, as JSON")
    recoveries = verbs.add_parser("recoveries", help="what this host and the repository know of recoveries, as JSON")
    recoveries.add_argument("--anew", action="store_true", help="the repository alone, this host knew of others")
    drill = verbs.add_parser("drill", help="restore the newest backup in a scratch place, and use it")
    drill.add_argument("--weekly", action="store_true", help="also to a random moment, all documents, a damaged copy")
    init = verbs.add_parser("init", help="make the repositories that lack, give keys to who may open them")
    init.add_argument("--offline", action="store_true", help="put in the offline key that comes on standard input")
    init.add_argument("--elsewhere", action="store_true", help="that key into the second repository, made if it lacks")
    init.add_argument(
        "--client", default="", metavar="HOST", help="make what HOST pushes into, its key on standard input"
    )
    verbs.add_parser("backup", help="copy what was received into the repository")
    verbs.add_parser("base", help="take a base backup, from a replica where one can give it")
    verbs.add_parser("dump", help="take a logical copy")
    verbs.add_parser("maintain", help="forget what is too old, read through what is kept")
    verbs.add_parser("copy", help="copy into the second repository")
    fetch = verbs.add_parser("fetch", help="copy what another place holds into the repositories here")
    fetch.add_argument("--place", default="", help="where it is; the second repository without")
    options = vars(parser.parse_args(arguments))
    module = importlib.import_module(f"app.backup.{MODULES[options.pop('verb')]}")
    try:
        return int(module.run(load(), **options))
    except ConfigurationError as error:
        refuse(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
