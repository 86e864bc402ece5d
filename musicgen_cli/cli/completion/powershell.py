"""Writes the completion script for PowerShell 5.1 and newer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from musicgen_cli.cli.completion.tree import Command, Value

# PowerShell has read the line already, so the words come from its syntax tree. What `musicgen` prints is only compared
# and quoted. Where there are no results, PowerShell itself completes files.
_ENGINE = r"""
    $string = [System.Management.Automation.Language.StringConstantExpressionAst]
    $texts = @($ast.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object {
        if ($_ -is $string) { $_.Value } else { $_.Extent.Text }
    })
    $words = @($texts | Select-Object -Skip 1)
    $typed = $word.TrimStart("'", '"')

    $command = ''
    $option = ''
    $onlyArguments = $false
    $argument = 0
    foreach ($each in $words) {
        if ($option) {
            $option = ''
        } elseif (-not $onlyArguments -and $each -eq '--') {
            $onlyArguments = $true
        } elseif (-not $onlyArguments -and $each -like '-?*') {
            if ($values.ContainsKey("$command $each")) { $option = $each }
        } elseif ($options.ContainsKey("$command $each".Trim())) {
            $command = "$command $each".Trim()
        } else {
            $argument++
        }
    }

    $prefix = ''
    $value = $null
    $offered = @()
    if ($option) {
        $value = $values["$command $option"]
    } elseif (-not $onlyArguments -and $typed -match '^(--[a-z-]+)=') {
        $prefix = $Matches[0]
        $value = $values["$command $($Matches[1])"]
        $typed = $typed.Substring($prefix.Length).TrimStart("'", '"')
    } elseif (-not $onlyArguments -and $typed.StartsWith('-')) {
        $offered = $options[$command]
    } elseif ($commands.ContainsKey($command)) {
        $offered = $commands[$command]
    } else {
        $value = $values["$command @$argument"]
        if (-not $value) { $value = $values["$command @*"] }
        if (-not $value -and -not $onlyArguments) { $offered = $options[$command] }
    }

    $stored = @()
    if ($value -and $value[0]) {
        $program = if ($texts[0] -match '[\\/]') { $texts[0] } else { 'musicgen' }
        # Before 7.3, PowerShell leaves out an empty argument.
        $last = if ($typed -or $PSVersionTable.PSVersion -ge [version]'7.3') { $typed } else { '""' }
        $encoding = [Console]::OutputEncoding
        try {
            [Console]::OutputEncoding = [System.Text.Encoding]::UTF8
            $env:_MUSICGEN_COMPLETE = $value[0]
            $stored = @(& $program @words $last 2>$null)
        } catch {
            $stored = @()
        } finally {
            Remove-Item Env:_MUSICGEN_COMPLETE
            [Console]::OutputEncoding = $encoding
        }
    }
    if ($value -and $value[1]) { $offered = -split $value[1] }

    $pairs = @($offered | ForEach-Object { , ($_ -split ' ', 2) })
    $pairs += @($stored | ForEach-Object { , ($_ -split "`t", 2) })
    foreach ($pair in $pairs) {
        $text = $pair[0]
        if (-not $text -or -not $text.StartsWith($typed, [System.StringComparison]::Ordinal)) { continue }
        $hint = if ($pair.Count -gt 1 -and $pair[1]) { $pair[1] } else { $text }
        $quoted = $text
        if ($text -notmatch '^[A-Za-z0-9_-]+$') {
            $quoted = "'" + ($text -replace "(['\u2018-\u201b])", '$1$1') + "'"  # typographic quotes end a string, too
        }
        [System.Management.Automation.CompletionResult]::new("$prefix$quoted", $text, 'ParameterValue', $hint)
    }
}
"""


def script(musicgen: Command) -> str:
    """Write the script; it is ASCII alone, as PowerShell 5.1 reads a file in the system's code page."""
    commands = {
        command.name: [f"{inner.path[-1]} {inner.help}".rstrip() for inner in command.commands]
        for command in musicgen.walk()
        if command.commands
    }
    options = {
        command.name: [f"{flag} {option.help}".rstrip() for option in command.options for flag in option.flags]
        for command in musicgen.walk()
    }
    return "\n".join(
        [
            "# Completes musicgen in PowerShell; made by `musicgen --show-completion powershell`.",
            "",
            "Register-ArgumentCompleter -Native -CommandName musicgen -ScriptBlock {",
            "    param($word, $ast, $cursor)",
            "",
            "    # The commands that may follow a command, with their help.",
            *_table("commands", commands),
            "",
            "    # The options of a command, with their help.",
            *_table("options", options),
            "",
            "    # What completes the value of an option or argument: kinds of stored values, and fixed choices.",
            *_table("values", _values(musicgen)),
            _ENGINE,
        ]
    )


def _values(musicgen: Command) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for command in musicgen.walk():
        for option in command.options:
            if option.value:
                values |= {f"{command.name} {flag}": _completed_by(option.value) for flag in option.flags}
        for i, argument in enumerate(command.arguments):
            is_many = command.is_last_repeatable and i == len(command.arguments) - 1
            values[f"{command.name} @{'*' if is_many else i}"] = _completed_by(argument)
    return values


def _completed_by(value: Value) -> list[str]:
    return [value.stored, " ".join(value.choices)]


def _table(name: str, rows: Mapping[str, Iterable[str]]) -> list[str]:
    """Write a hash table of arrays; its keys are told apart by case."""
    lines = [f"    ${name} = [System.Collections.Hashtable]::new([System.StringComparer]::Ordinal)"]
    for key, texts in rows.items():
        lines.append(f"    ${name}[{_quote(key)}] = @({', '.join(map(_quote, texts))})")
    return lines


def _quote(text: str) -> str:
    escaped = text.encode("ascii", "replace").decode().replace("'", "''")
    return f"'{escaped}'"
