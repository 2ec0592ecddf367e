"""The operations on a folder's settings and parameters, as `db-config` asks for them."""

import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daemon import parameters
from daemon.context_python import check_python
from daemon.control import ServiceError
from daemon.sandbox import Interpreter
from daemon.sandbox_check import check_sandbox
from daemon.settings import Settings
from daemon.typed_settings import SettingError

if TYPE_CHECKING:
    from daemon.service import Service


class SettingOperations:
    """What can be asked of a service about its settings."""

    def __init__(self, service: "Service") -> None:
        """Answer for `service`."""
        self._service = service

    async def settings(self) -> dict[str, Any]:
        """All settings with value, default and meaning, and the rows as they are stored.

        With them the parameters that are set or, as far as the context is known, declared.
        """
        rows = await self._service.table.setting_rows()
        declared = self._service.context.parameters or []
        return {
            "rows": rows,
            "settings": [
                *Settings.from_rows(rows).listed(rows),
                *parameters.listed(rows, declared),
            ],
        }

    async def set(self, key: str, value: str, number: bool = False) -> dict[str, Any]:
        """Set the setting `key`; refuses unknown keys and impossible values.

        `note` in the answer says that the context file has no such parameter.
        """
        if parameters.is_key(key):
            return await self._set_parameter(key, value, number)
        try:
            name = Settings.writable(key)
            parsed = Settings.parse(key, value, number)
        except SettingError as error:
            raise ServiceError(str(error)) from error
        if name in ("context_python", "source"):
            await self._check_python(name, str(parsed))
        elif name == "sandbox_args":
            await self._check_sandbox(str(parsed))
        await self._service.table.set_setting(name, parsed)
        await self._service.settings_changed()
        return {"key": name, "value": parsed}

    async def _check_python(self, key: str, value: str) -> None:
        """Refuse a Python that cannot run the context file, and a source that it does not have."""
        service = self._service
        interpreter = service.processing.interpreter()
        if key == "context_python":
            interpreter = replace(interpreter, python=value)
        source = value if key == "source" else service.settings.source
        trouble = await check_python(interpreter, service.library, source)
        if trouble is not None:
            raise ServiceError(f"{key}: {trouble}")

    async def _check_sandbox(self, value: str) -> None:
        """Refuse a sandbox in which jobs cannot run."""
        service = self._service
        python = service.processing.interpreter().python
        interpreter = Interpreter.of(python, value, service.folder, {})
        trouble = await check_sandbox(interpreter, service.folder, service.library)
        if trouble is not None:
            raise ServiceError(f"sandbox_args: {trouble}")

    async def _set_parameter(self, key: str, value: str, number: bool) -> dict[str, Any]:
        try:
            name = parameters.name_of(key)
            row = parameters.stored(name, value, number)
        except parameters.ParameterError as error:
            raise ServiceError(str(error)) from error
        await self._service.table.set_setting(parameters.PREFIX + name, row)
        await self._service.settings_changed()
        answer = {"key": parameters.PREFIX + name, "value": parameters.value_of(row)}
        trouble = self.unknown([name])
        return answer if trouble is None else {**answer, "note": trouble}

    def unknown(self, names: Iterable[str]) -> str | None:
        """Which of `names` the context file has no parameter for; None if that is not known."""
        declared = self._service.context.parameters
        if declared is None:
            return None
        return parameters.unknown(names, [item["name"] for item in declared])

    async def delete(self, key: str) -> dict[str, Any]:
        """Take the setting `key` back to its default."""
        try:
            if parameters.is_key(key):
                name = parameters.PREFIX + parameters.name_of(key)
            else:
                name = Settings.writable(key)
        except (SettingError, parameters.ParameterError) as error:
            raise ServiceError(str(error)) from error
        await self._service.table.delete_setting(name)
        await self._service.settings_changed()
        return {"key": name}

    async def new_id(self) -> dict[str, Any]:
        """Give the database a new random id, as a copy needs that goes its own way."""
        was = (await self._service.table.setting_rows()).get("db_id")
        db_id = secrets.token_hex(20)
        await self._service.table.set_setting("db_id", db_id)
        return {"db_id": db_id, "was": was}

    async def create(self, proposal: int) -> dict[str, Any]:
        """Make the database for `proposal` when it is missing, or set its proposal."""
        return await self.set("proposal", str(proposal))
