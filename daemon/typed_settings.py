"""Settings that people write as text and that are kept as rows: typed, checked, described."""

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

Value = int | float | str


class SettingError(ValueError):
    """A setting does not exist or cannot have this value; says what would be right."""


class TypedSettings(BaseModel):
    """Settings declared as fields with range, description, and the default of what is not set.

    `READ_ONLY` are those that people cannot change.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", coerce_numbers_to_str=True, allow_inf_nan=False
    )
    READ_ONLY: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def usable(cls, rows: Mapping[str, object]) -> tuple[dict[str, Value], list[str]]:
        """The values in stored rows, and in words which of them cannot be used.

        Rows of other programs are left out, those without a value too.
        """
        values: dict[str, Value] = {}
        warnings: list[str] = []
        for key, stored in rows.items():
            if key not in cls.model_fields or stored is None:
                continue
            try:
                values[key] = cls._checked(key, stored)
            except SettingError as error:
                default = cls.model_fields[key].get_default(call_default_factory=True)
                warnings.append(f"{error}; taken instead: {default}")
        return values, warnings

    @classmethod
    def known(cls, key: str) -> str:
        """The stored name of a setting, in which dashes are underscores.

        Raises SettingError with the nearest ones when there is none.
        """
        name = key.strip().replace("-", "_")
        if name in cls.model_fields:
            return name
        nearest = difflib.get_close_matches(name, cls.model_fields, n=2, cutoff=0.5)
        hint = (
            f"did you mean {' or '.join(nearest)}?" if nearest else "without a KEY, all are listed"
        )
        raise SettingError(f"there is no setting {key!r}: {hint}")

    @classmethod
    def writable(cls, key: str) -> str:
        """The stored name of a setting that may be changed; raises SettingError."""
        name = cls.known(key)
        if name in cls.READ_ONLY:
            raise SettingError(f"{name} belongs to the database and cannot be changed")
        return name

    @classmethod
    def parse(cls, key: str, text: str, number: bool = False) -> Value:
        """What is to be stored for the `text` that a user gave for the setting `key`.

        With `number` the text must be a number. Raises SettingError.
        """
        name = cls.writable(key)
        if number:
            try:
                float(text)
            except ValueError:
                raise SettingError(f"{name}: {text!r} is no number") from None
        return cls._checked(name, text.strip())

    @classmethod
    def right(cls, key: str) -> str:
        """Say in words which values the setting `key` takes."""
        schema = cls.model_json_schema()["properties"][key]
        [form] = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
        words = cls.model_fields[key].title
        if words is None and "minimum" in form:
            kind = "a whole number" if form["type"] == "integer" else "a number"
            words = f"{kind} from {form['minimum']} to {form['maximum']}"
        if words is None and "enum" in form:
            words = " or ".join(form["enum"])
        return words or str(form["title"])

    def listed(self, rows: Mapping[str, object]) -> list[dict[str, Any]]:
        """Each setting as people see it: `key`, `value`, `default`, `meaning`, and if it is `set`.

        `rows` are the stored ones that these settings were made from.
        """
        return [
            {
                "key": key,
                "value": getattr(self, key),
                "default": field.get_default(call_default_factory=True),
                "meaning": field.description or "",
                "set": rows.get(key) is not None,
            }
            for key, field in type(self).model_fields.items()
        ]

    @classmethod
    def _checked(cls, key: str, value: object) -> Value:
        try:
            checked: Value = getattr(cls.model_validate({key: value}), key)
        except ValidationError:
            fixed = key in cls.READ_ONLY
            words = "what the database was made with" if fixed else cls.right(key)
            raise SettingError(f"{key} cannot be {value!r}: it must be {words}") from None
        return checked
