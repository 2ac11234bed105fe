"""The firewall: closed for IPv4 and IPv6, back after a restart, and it undoes rules that lock the controller out."""

import time
from collections.abc import Callable

import pytest

from inventories.settings import Machine, Site
from tasks.firewall import DRAFT, RULES, SECONDS_TO_CONFIRM
from tests.live.fleet import Fleet, deploy
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
def test_a_rule_that_somebody_added_goes_with_the_next_deploy_and_a_restart_is_no_difference(
    site: Site, run: Run
) -> None:
    machine = site.having("inference")[-1]
    changed = {"Firewall | Let in what is declared and nothing else": [machine.name]}
    for harm in ("nft add rule inet rag input accept", "nft insert rule inet rag input tcp dport 9100 drop"):
        before = run(machine, "nft --stateless list table inet rag")
        run(machine, harm)

        assert deploy(site.name, "--limit", machine.name).changed == changed, harm

        assert run(machine, "nft --stateless list table inet rag") == before
    run(machine, "systemctl restart nftables.service")
    assert deploy(site.name, "--limit", machine.name).changed == {}


@pytest.mark.lab
def test_rules_that_lock_the_controller_out_undo_themselves(site: Site, fleet: Fleet, run: Run) -> None:
    # Given: rules that open SSH for somebody else.
    machine = site.having("inference")[-1]
    before = run(machine, f"nft list table inet rag; cat {RULES}")
    began = time.monotonic()

    # When: a deploy brings them.
    done = deploy(site.name, "--limit", machine.name, file="tests/live/deploys/locked_out.py")

    # Then: it fails, nobody gets in, and the machine itself goes back to what it had.
    assert done.rc == 1, done.said
    assert f"a new login on {machine.name} = " in done.said
    assert "put the controller's address into operators" in done.said
    assert "Traceback" not in done.said
    assert fleet.ssh(machine.name, "-o", "ConnectTimeout=2").returncode == 255
    until(
        lambda: fleet.ssh(machine.name, "-o", "ConnectTimeout=2").returncode == 0,
        f"a login on {machine.name}",
        seconds=SECONDS_TO_CONFIRM + 15,
    )
    assert time.monotonic() - began > SECONDS_TO_CONFIRM / 2
    assert run(machine, f"nft list table inet rag; cat {RULES}") == before
    run(machine, f"rm {DRAFT}; systemctl is-active nftables.service; ! systemctl is-active rag-firewall-undo.timer")
