"""The firewall: closed for IPv4 and IPv6, back after a restart, and it undoes rules that lock the controller out."""

from collections.abc import Callable

import pytest

from inventories.settings import Machine, Site
from tasks.firewall import DRAFT, RULES, SECONDS_TO_CONFIRM, TRY
from tests.live.waiting import until

Run = Callable[[Machine | str, str], str]
LISTEN = (
    "systemd-run --quiet --collect --unit=rag-test-listener --property=RuntimeMaxSec=120 "
    "python3 -m http.server --bind :: 7777"
)


@pytest.mark.lab
def test_an_undeclared_port_does_not_answer_on_ipv4_nor_ipv6(site: Site, run: Run) -> None:
    target, source = site.having("inference")[0], site.having("app")[0]
    run(target, LISTEN)
    try:
        until(lambda: run(target, "curl -fsS -o /dev/null http://[::1]:7777/ && echo yes"), "listener")
        six = run(target, f"ip -6 -br address show dev {target.interface} scope link | grep -oE 'fe80[^/]*' | head -1")
        asked = "curl -sS --max-time 2 -o /dev/null http://{}:7777/ 2>&1 && echo ANSWERED; true"
        assert "ANSWERED" not in run(source, asked.format(target.address))
        assert "ANSWERED" not in run(source, asked.format(f"[{six}%25{source.interface}]"))
        # The test can fail: without the rules both addresses answer.
        run(target, "nft delete table inet rag")
        try:
            assert "ANSWERED" in run(source, asked.format(target.address))
            assert "ANSWERED" in run(source, asked.format(f"[{six}%25{source.interface}]"))
        finally:
            run(target, "systemctl restart nftables.service")
        assert "ANSWERED" not in run(source, asked.format(target.address))
    finally:
        run(target, "systemctl stop rag-test-listener; true")


@pytest.mark.lab
def test_rules_that_lock_the_controller_out_undo_themselves(site: Site, run: Run) -> None:
    # Given: rules without any opening, tried as the deploy tries them, by a controller that never confirms.
    machine = site.having("inference")[1]
    run(machine, f"sed 's/tcp dport 22 accept/tcp dport 2222 accept/' {RULES} > {DRAFT}")
    run(machine, TRY)
    assert "dport 2222" in run(machine, "nft list table inet rag")

    # Then: the machine itself goes back.
    until(
        lambda: "dport 22 accept" in run(machine, "nft list table inet rag"),
        "the old rules",
        seconds=SECONDS_TO_CONFIRM + 30,
    )
    assert "dport 2222" not in run(machine, "nft list table inet rag")
    run(machine, f"rm {DRAFT}; systemctl is-active nftables.service; ! systemctl is-active rag-firewall-undo.timer")
