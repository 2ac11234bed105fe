"""Names and subnets of labs: two clones never meet, and nothing in use is taken."""

import ipaddress
from pathlib import Path

import pytest

from tests.lab import plan
from tests.lab.host import RefusalError


def test_two_clones_have_different_names_interfaces_and_subnets() -> None:
    one, other = plan.lab_name(Path("/home/ada/rag")), plan.lab_name(Path("/home/ada/rag2"))

    assert one != other
    assert plan.bridge(one) != plan.bridge(other)
    assert plan.choose_subnet(one, []) != plan.choose_subnet(other, [])


def test_every_interface_name_fits_into_what_the_kernel_takes() -> None:
    tag = plan.tag("rag-0123456789abcdef")

    assert all(len(f"vb-{tag}-{machine}") <= 15 for machine in plan.KNOWN)


def test_addresses_are_the_ones_that_the_inventory_expects() -> None:
    names = ("db1", "db3", "app2", "gpu1", "ops1", "solo1", "box1", "box99")

    assert [plan.address("10.70.1.0/24", name).rpartition(".")[2] for name in names] == [
        "11", "13", "22", "31", "41", "51", "101", "199",
    ]  # fmt: skip
    assert plan.numbered("10.70.1.0/24", plan.VIP) == "10.70.1.100"


def test_a_subnet_in_use_is_passed_over() -> None:
    first = plan.choose_subnet("lab", [])

    second = plan.choose_subnet("lab", [first])
    third = plan.choose_subnet("lab", [first, second])

    assert len({first, second, third}) == 3


def test_a_wider_route_over_the_first_choice_is_passed_over() -> None:
    chosen = plan.choose_subnet("lab", ["10.64.0.0/11"])

    assert ipaddress.IPv4Network(chosen).subnet_of(ipaddress.IPv4Network("10.96.0.0/11"))


@pytest.mark.parametrize("wanted", ["10.70.1.0/25", "10.70.1.7/24", "here"])
def test_a_wrong_subnet_is_refused_with_an_example(wanted: str) -> None:
    with pytest.raises(RefusalError, match=r"RAG_LAB_SUBNET = .*RAG_LAB_SUBNET=10\.99\.7\.0/24"):
        plan.choose_subnet("lab", [], wanted)


def test_a_wanted_subnet_in_use_is_refused() -> None:
    with pytest.raises(RefusalError, match=r"10\.70\.0\.0/16 is in use"):
        plan.choose_subnet("lab", ["10.70.0.0/16"], "10.70.1.0/24")


def test_when_everything_is_taken_a_setting_helps() -> None:
    with pytest.raises(RefusalError, match="RAG_LAB_SUBNET="):
        plan.choose_subnet("lab", ["10.0.0.0/8"])


def test_no_names_mean_the_fleet() -> None:
    assert plan.checked_machines([]) == plan.FLEET
    assert plan.checked_machines(["solo1", "solo1"]) == ("solo1",)


def test_an_unknown_machine_is_refused_by_name() -> None:
    with pytest.raises(RefusalError, match="machine = db9;"):
        plan.checked_machines(["db1", "db9"])


@pytest.mark.parametrize("name", ["Lab", "../lab", "lab one", "", "a" * 33])
def test_a_lab_name_that_no_folder_or_link_could_bear_is_refused(name: str) -> None:
    with pytest.raises(RefusalError, match="RAG_LAB_NAME ="):
        plan.checked_name(name)
