"""What every group of settings has in common: it cannot be changed, and what does not fit is refused in one line."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pyinfra.api.exceptions import PyinfraError


class SettingsError(PyinfraError):
    """A site asks for something that cannot be deployed; the text is one line."""


class Frozen(BaseModel):
    """A group of settings: unknown names and values out of bounds are refused in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as refused:
            raise SettingsError(_one_line(type(self).__name__, refused)) from None

    def to_json(self) -> object:
        """Let ``pyinfra debug-inventory`` show the settings; secrets appear as asterisks."""
        return json.loads(self.model_dump_json())


def _one_line(model: str, refused: ValidationError) -> str:
    problem = refused.errors()[0]
    # Where a setting may be of two types pydantic names the type too, at length.
    place = [str(part) for part in problem["loc"] if str(part).replace("_", "").isalnum()]
    setting = ".".join([model.lower(), *place])
    if problem["type"] == "missing":
        return f"{setting} = (nothing); a value is needed; see docs/settings.md"
    if problem["type"] == "extra_forbidden":
        return f"{setting} = {problem['input']!r}; no setting has this name; see docs/settings.md"
    if problem["type"] in {"ip_v4_network", "ip_v6_network"}:
        return f"{setting} = {problem['input']!r}; a network is needed, as in 198.51.100.0/24; see docs/settings.md"
    need = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        # Said by a group's own rule, which names the setting itself.
        return f"{setting}.{need}; see docs/settings.md"
    shown = f" = {problem['input']!r}"
    return f"{setting}{shown}; {need[0].lower()}{need[1:]}; see docs/settings.md"
