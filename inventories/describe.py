"""The settings reference, from the settings themselves: `make docs` writes docs/settings.md."""

from annotated_types import Ge, Le, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from inventories import settings

GROUPS: tuple[type[BaseModel], ...] = (
    settings.Site,
    settings.Machine,
    settings.Vip,
    settings.Ssh,
    settings.Packages,
    settings.Etcd,
    settings.Database,
    settings.Inference,
    settings.Model,
    settings.Application,
)


def reference() -> str:
    """All settings as Markdown tables: name, type, default, limits, reason."""
    head = (
        "# Settings\n\nWritten by `make docs` from inventories/settings.py. A site is a file in inventories/; "
        "every value is checked before the first connection.\n"
    )
    return head + "".join(_table(group) for group in GROUPS)


def _table(group: type[BaseModel]) -> str:
    rows = "".join(_row(name, field) for name, field in group.model_fields.items())
    title = (group.__doc__ or "").strip().splitlines()[0]
    head = "| setting | type | default | limits | reason |\n|---|---|---|---|---|\n"
    return f"\n## {group.__name__}\n\n{title}\n\n{head}{rows}"


def _row(name: str, field: FieldInfo) -> str:
    kind = getattr(field.annotation, "__name__", str(field.annotation)) if field.annotation else ""
    kind = str(field.annotation) if "[" in str(field.annotation) else kind
    for long in ("inventories.settings.", "ipaddress.", "typing.", "pathlib."):
        kind = kind.replace(long, "")
    default = "needed" if field.is_required() else f"`{field.default}`"
    if isinstance(field.default, BaseModel):
        default = "its own"
    return f"| {name} | {kind.replace('|', 'or')} | {default} | {_limits(field)} | {field.description} |\n"


def _limits(field: FieldInfo) -> str:
    said = []
    for limit in field.metadata:
        if isinstance(limit, Ge):
            said.append(f"≥ {limit.ge}")
        elif isinstance(limit, Le):
            said.append(f"≤ {limit.le}")
        elif isinstance(limit, MinLen):
            said.append(f"at least {limit.min_length}")
        elif pattern := getattr(limit, "pattern", None):
            said.append(f"`{pattern}`".replace("|", "\\|"))
    return ", ".join(said)


if __name__ == "__main__":
    print(reference(), end="")
