"""`make restore` and the other verbs that bring something back: exit 0 done, 1 stopped, 2 refused."""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from pyinfra.api.exceptions import PyinfraError

from inventories.settings import SettingsError, Site
from tasks import documents, in_place, rebuild, restored
from tasks.cluster import site_of
from tasks.in_place import Order, Phases
from tasks.lock import recovering
from tasks.members import RefusedError
from tasks.moments import moment_of, shown, stamp


def arguments(words: list[str]) -> argparse.Namespace:
    """What the Makefile passes on."""
    parser = argparse.ArgumentParser(prog="make restore", description=__doc__)
    parser.add_argument("site")
    verbs = parser.add_subparsers(dest="verb", required=True)
    restore = verbs.add_parser("restore")
    restore.add_argument("--to", default="")
    restore.add_argument("--in-place", nargs="?", const="1", default="")
    restore.add_argument("--confirm", default="")
    verbs.add_parser("end")
    rebuilding = verbs.add_parser("rebuild")
    rebuilding.add_argument("--from", dest="place", default="")
    rebuilding.add_argument("--to", default="")
    rebuilding.add_argument("--confirm", default="")
    fetching = verbs.add_parser("fetch")
    fetching.add_argument("--from", dest="place", default="")
    document = verbs.add_parser("document")
    for name in ("to", "document", "collection", "into"):
        document.add_argument(f"--{name}", default="")
    return parser.parse_args(words)


def guard(site: Site, given: str) -> Callable[[list[str]], None]:
    """Say what will be lost, and go on only when the site's name is given or typed."""

    def agreed(lines: list[str]) -> None:
        print("\n".join(f"  {line}" for line in lines), flush=True)
        typed = given
        if not typed and sys.stdin.isatty():
            typed = input(f"  the site's name, if that is wanted ({site.name}): ").strip()
        if typed != site.name:
            raise RefusedError(
                f"CONFIRM = {typed or '(nothing)'}; {site.name} is needed, nothing was changed; CONFIRM={site.name}"
            )

    return agreed


def beside(site: Site, to: str, phases: Phases) -> None:
    """A copy of that moment on the backup host; production is not touched."""
    keeper = restored.keeper_of(site)
    moment = moment_of(to, datetime.now(UTC))
    with recovering(site, "restore", keeper, whole=False):
        restored.refuse_outside(restored.window(site, keeper), moment)
        request = {"to": moment.isoformat() if moment else None}
        copy = restored.make(site, keeper, request, phases.say)
    rows = ", ".join(f"{count} {name}" for name, count in copy.rows.items())
    print(f"restored beside production: {shown(moment)}; its newest canary is of {copy.reached or '(none)'}; {rows}")
    print("\n".join(restored.look_into(site, keeper)))


def one_back(site: Site, wanted: argparse.Namespace, phases: Phases) -> None:
    """A document or a collection of that moment, up again through the API; nothing else is touched."""
    if not (wanted.document or wanted.collection):
        raise RefusedError("DOCUMENT = (nothing); an id, a title or a file name is needed, or COLLECTION=name")
    keeper, now = restored.keeper_of(site), datetime.now(UTC)
    moment = moment_of(wanted.to, now)
    with recovering(site, "restore-document", keeper, whole=False):
        restored.refuse_outside(restored.window(site, keeper), moment)
        restored.make(site, keeper, {"to": moment.isoformat() if moment else None}, phases.say)
        try:
            found = documents.listed(site, keeper, wanted.document, wanted.collection)
            those = documents.chosen(found, wanted.document, wanted.collection)
            into = documents.place(those, wanted.document, wanted.into, stamp(moment or now))
            documents.bring_back(site, keeper, those, into, phases.say)
        finally:
            restored.end(site, keeper)
    print(f"{len(those)} of {shown(moment)} are in {into}")


def wants_in_place(text: str) -> bool:
    """What IN_PLACE says; nothing and a plain no are beside production, and what is neither is asked again."""
    if text.lower() in {"", "0", "no", "false"}:
        return False
    if text.lower() in {"1", "yes", "true"}:
        return True
    raise RefusedError(f"IN_PLACE = {text}; 1 or nothing is needed; IN_PLACE=1 takes the site itself back")


def back(site: Site, wanted: argparse.Namespace, phases: Phases) -> None:
    """The whole site as it was at that moment."""
    keeper, before = restored.keeper_of(site), wanted.to == "before"
    to = None if before else moment_of(wanted.to, datetime.now(UTC))
    with recovering(site, "restore in place", keeper) as lock:
        phases.locks.append(lock)
        in_place.recover(site, Order(to, before), guard(site, wanted.confirm), phases)
    print(phases.table())
    print(f"old data: /var/lib/postgresql/*/rag.before-* on each database machine; remove them when all is well; "
          f"the way back: make restore SITE={site.name} TO=before IN_PLACE=1")  # fmt: skip


def act(site: Site, wanted: argparse.Namespace, phases: Phases) -> None:
    """Do what the verb says."""
    if wanted.verb == "end":
        keeper = restored.keeper_of(site)
        with recovering(site, "restored-end", keeper, whole=False):
            in_place.end(site, keeper, phases.say)
    elif wanted.verb == "fetch":
        keeper, place = restored.keeper_of(site), wanted.place or site.backup.second_repository
        rebuild.locations(place)
        with recovering(site, "fetch-repositories", keeper, whole=False):
            phases.say(rebuild.fetch(site, keeper, place))
    elif wanted.verb == "document":
        one_back(site, wanted, phases)
    elif wants_in_place(wanted.in_place):
        back(site, wanted, phases)
    else:
        beside(site, wanted.to, phases)


def main(words: list[str]) -> int:
    """SITE VERB …"""
    wanted = arguments(words)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {text}", flush=True)

    try:
        phases = Phases(say, time.monotonic)
        if wanted.verb == "rebuild":
            # Before its state is fetched there may be no file of the site.
            to = moment_of(wanted.to or "latest", datetime.now(UTC))
            confirmed = bool(wanted.confirm) and wanted.confirm == wanted.site
            rebuild.rebuild(wanted.site, wanted.place, to, confirmed, site_of, phases)
            print(phases.table())
        else:
            act(site_of(wanted.site), wanted, phases)
    except (RefusedError, SettingsError) as refused:
        print(refused, file=sys.stderr)
        return 2
    except PyinfraError as stopped:
        print(stopped, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # One that was interrupted when something stood still already is a stop, which says what stands where.
        print(f"{wanted.verb} = interrupted; no data were exchanged; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
