"""What a specification says when it is wrong: one line."""

from typing import Any

from pydantic import ValidationError

from stability.names import unknown


def _choices(error: Any) -> list[Any]:
    """What a literal field may hold, read from pydantic's own words."""
    words = str(error["ctx"]["expected"]).replace(" or ", ", ").split(", ")
    return [word[1:-1] if word[:1] == "'" else int(word) for word in words]


def one_line(name: str, error: ValidationError) -> str:
    """The first mistake of a validation in one line: where, what, what was given."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "union_tag_invalid":
        known = [kind.strip("' ") for kind in first["ctx"]["expected_tags"].split(",")]
        return f"{where}: {unknown('kind', first['ctx']['tag'], known)}"
    if first["type"] == "union_tag_not_found":
        return f"{where} must be a mapping with a key 'kind', got {first['input']!r}; see docs/spec.md"
    if first["type"] in ("tuple_type", "model_type", "model_attributes_type", "dict_type"):
        wanted = "a list" if first["type"] == "tuple_type" else "a mapping"
        return f"{where} must be {wanted}, got {first['input']!r}; see docs/spec.md"
    if first["type"] == "literal_error" and all(isinstance(one, str) for one in _choices(first)):
        return f"{name}.{where}: {unknown('the value', first['input'], _choices(first))}"
    if first["type"] == "value_error":
        return f"{where or name}: {message}" if where else message
    if first["type"] == "too_short":
        least = first["ctx"]["min_length"]
        entries = f"{least} entr{'y' if least == 1 else 'ies'}"
        return f"{name}.{where} must have {entries} or more, got {first['input']!r}; see docs/spec.md"
    if first["type"] == "missing":
        return f"{name}.{where} must be given; see docs/spec.md"
    wanted = message.removeprefix("Input should be ")
    if first["type"] in ("float_parsing", "int_parsing", "int_from_float"):
        wanted = wanted.partition(",")[0]  # what pydantic tried in vain
    if wanted == message:
        return f"{name}.{where} must be valid, got {first['input']!r}: {message}; see docs/spec.md"
    return f"{name}.{where} must be {wanted}, got {first['input']!r}; see docs/spec.md"
