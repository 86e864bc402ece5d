"""Everything that lists the fields of a request is made from the one table."""

from __future__ import annotations

import inspect

import pytest

from musicgen_cli.actions.batch.checked_row import COLUMNS
from musicgen_cli.actions.batch.sweep import Sweep
from musicgen_cli.cli.commands import batch, generate
from musicgen_cli.cli.option_groups import grouped
from musicgen_cli.contract import GenerateRequest
from musicgen_cli.mcp_tools import TOOLS
from musicgen_cli.request_fields import FIELDS, PARAMETERS, RequestField


def test_the_contract_has_the_fields_in_their_order() -> None:
    """The order of the rows is the order on the wire, and their defaults are the request's."""
    assert list(GenerateRequest().model_dump().items()) == [(field.name, field.default) for field in FIELDS]


def test_a_record_keeps_the_parameters_and_no_other_field() -> None:
    """A seed is part of it where one is set."""
    assert list(GenerateRequest(seed=1).params) == [field.name for field in PARAMETERS]


@pytest.mark.parametrize("field", [field for field in FIELDS if field.flags], ids=lambda field: field.name)
def test_a_field_with_flags_is_an_option_of_both_commands(field: RequestField) -> None:
    """It has the type of the row, and no default of its own: a missing option is not sent."""
    for command in (generate.command, batch.command):
        parameter = inspect.signature(grouped(command)).parameters[field.name]
        assert parameter.default is None
        assert field.type in parameter.annotation.__origin__.__args__


def test_every_field_is_a_column_of_a_batch_and_every_parameter_can_be_swept() -> None:
    """A parameter's default is a value like any other."""
    assert {field.name for field in FIELDS} < set(COLUMNS)
    for field in PARAMETERS:
        assert Sweep([f"{field.name}={0 if field.default is None else str(field.default).lower()}"]).size == 1


def test_the_tool_of_assistants_has_every_field_with_its_bounds() -> None:
    """A job has an id of its own, so the client's isn't one of them."""
    properties = TOOLS["musicgen_generate"].properties
    for field in FIELDS:
        if field.name == "client_job_id":
            continue
        schema = properties[field.name]
        assert schema["description"] == f"{field.meaning}."
        assert schema.get("default") == field.default
        if field.range is not None:
            assert (schema["minimum"], schema["maximum"]) == (field.range.low, field.range.high)
