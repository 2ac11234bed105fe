"""What a deploy wants of a machine, without the machine: deploy.py runs, and its operations are written down."""

import importlib
import inspect
import pkgutil
import runpy
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pyinfra.api import FactBase
from pyinfra.context import ctx_host

import tasks
from inventories.settings import Machine, Site
from tasks.wants import File
from tests.unit.sites import ROOT


@dataclass
class Plan:
    """The operations of one machine, in deploy.py's order, and the templates that they used."""

    operations: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    templates: dict[str, str] = field(default_factory=dict)
    """Template to the task module that used it."""

    @property
    def files(self) -> dict[str, File]:
        """Every file that the machine shall hold, by path."""
        return {file.path: file for _, wants in self.operations for file in wants.get("files", ())}

    def called(self, operation: str) -> list[dict[str, Any]]:
        """The arguments of each call of that operation."""
        return [wants for name, wants in self.operations if name == operation]


class Bare:
    """A machine that has nothing."""

    def __init__(self, site: Site, machine: Machine, present: tuple[str, ...]) -> None:
        self.name = machine.name
        hosts = [SimpleNamespace(name=name) for name in present]
        self.state = SimpleNamespace(active_hosts=hosts, is_host_in_limit=lambda _: True)
        self.data = SimpleNamespace(site=site, machine=machine)

    def get_fact(self, fact: type[FactBase[Any]], **_: object) -> Any:
        return fact.default()


def plan(site: Site, machine: Machine, *present: str) -> Plan:
    """What deploy.py wants of ``machine`` in a run of the ``present`` machines, or of all."""
    made = Plan()
    with (
        pytest.MonkeyPatch.context() as patch,
        ctx_host.use(Bare(site, machine, present or tuple(peer.name for peer in site.machines))),
    ):
        for module in modules():
            for name, value in [*vars(module).items()]:
                inner = getattr(value, "_inner", None)
                if name in {"rendered", "verbatim"}:
                    patch.setattr(module, name, _noted(made, module.__name__, value))
                elif inspect.isgeneratorfunction(inner):
                    patch.setattr(module, name, _recorded(made, name, inner))
                elif inner:
                    patch.setattr(module, name, inner)
        runpy.run_path(str(ROOT / "deploy.py"))
    return made


def modules() -> list[Any]:
    """Every module of tasks/."""
    return [importlib.import_module(f"tasks.{found.name}") for found in pkgutil.iter_modules(tasks.__path__)]


def _recorded(made: Plan, name: str, inner: Callable[..., Any]) -> Callable[..., None]:
    def record(**wants: Any) -> None:
        title = wants.pop("name")
        # As pyinfra would refuse them: an argument too many or too few.
        inspect.signature(inner).bind(**{key: value for key, value in wants.items() if not key.startswith("_")})
        made.operations.append((name, wants | {"title": title}))

    return record


def _noted(made: Plan, module: str, render: Callable[..., bytes]) -> Callable[..., bytes]:
    def note(template: str, **values: object) -> bytes:
        made.templates[template] = module
        return render(template, **values)

    return note
