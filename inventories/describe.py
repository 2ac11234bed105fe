"""The settings reference, from the settings themselves: `make docs` writes docs/settings.md."""

from typing import Any

from inventories.settings import Site
from inventories.sizing import Sizing, promise

SECTIONS = (
    "Machine",
    "Vip",
    "Ssh",
    "Packages",
    "Etcd",
    "Database",
    "Inference",
    "Model",
    "Application",
    "Limits",
    "Quota",
    "Retention",
    "Backup",
    "Oidc",
)
HEAD = """\
# Settings

Written by `make docs` from inventories/settings.py. A site is a file in inventories/; every value is checked before the
first connection, and what does not fit is refused in one line.
"""
KINDS = {
    "ipv4": "IPv4 address",
    "ipv4network": "IPv4 network",
    "ipv6network": "IPv6 network",
    "path": "Path",
    "password": "secret",
    "string": "text",
    "integer": "number",
    "boolean": "True or False",
    "null": "None",
    "object": "names and values",
}
TABLE = "| setting | type | default | limits | reason |\n|---|---|---|---|---|\n"


def reference() -> str:
    """All settings as Markdown tables: name, type, default, limits, reason."""
    schema = Site.model_json_schema()
    sections = (_section(name, schema["$defs"].get(name, schema)) for name in ("Site", *SECTIONS))
    return HEAD + "".join(sections) + _sizes() + _shares()


SIZES = ((1, 1, "none"), (2, 1, "quorum"), (2, 3, "quorum"), (3, 3, "quorum"), (3, 3, "asynchronous"))


def _sizes() -> str:
    rows = "".join(f"- `{replication}`: {promise(count, etcds, replication)}.\n" for count, etcds, replication in SIZES)
    return f"\n## What each size survives\n\nBy the replication that the settings choose for it:\n\n{rows}"


def _shares() -> str:
    small, large = Sizing(2048, 2, 150), Sizing(16384, 8, 350)
    rows = "".join(
        f"| {name} | {getattr(small, name)} | {getattr(large, name)} | {' '.join((value.__doc__ or '').split())} |\n"
        for name, value in vars(Sizing).items()
        if isinstance(value, property)
    )
    return (
        "\n## What PostgreSQL gets of a machine\n\nFrom its share of the memory and from the cores; two examples: "
        f"2 GB, 2 cores, 150 sessions, and 16 GB, 8 cores, 350 sessions.\n\n| setting | small | large | source |\n"
        f"|---|---|---|---|\n{rows}"
    )


def _section(name: str, described: dict[str, Any]) -> str:
    rows = "".join(_row(setting, field) for setting, field in described["properties"].items())
    return f"\n## {name}\n\n{described['description']}\n\n{TABLE}{rows}"


def _row(name: str, field: dict[str, Any]) -> str:
    cells = (name, _kind(field), _default(field), _limits(field), field["description"])
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(map(_kind, field["anyOf"]))
    if "enum" in field:
        return ", ".join(f'`"{value}"`' for value in field["enum"])
    if field["type"] == "array":
        return f"{'set' if field.get('uniqueItems') else 'tuple'} of {_kind(field['items'])}"
    return KINDS[field.get("format", field["type"])]


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "needed"
    if "$ref" in field:
        named = field["default"].get("name")
        return f"`{named}`" if named else "its own defaults"
    return f"`{field['default']}`" if field["default"] not in ("", [], {}) else "none"


def _limits(field: dict[str, Any]) -> str:
    said = {"minimum": "≥ {}", "maximum": "≤ {}", "minItems": "at least {}", "pattern": "`{}`"}
    parts = [field, *field.get("anyOf", ())]
    return ", ".join(text.format(part[limit]) for part in parts for limit, text in said.items() if limit in part)


if __name__ == "__main__":
    print(reference(), end="")
