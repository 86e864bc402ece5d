"""`musicgen model`: pull, list, show, check and remove models."""

from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import engine_options, options
from musicgen_cli.errors import ModelAbsentError
from musicgen_cli.extras import needs
from musicgen_cli.text import plural

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.checkpoint import Checkpoint
    from musicgen_cli.cli.output import Output

Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print names only, and no notes.")]


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|OWNER/REPO|DIR",
            help="small, medium, large, stereo-small and others; a Hugging Face repository; or a checkpoint's folder.",
        ),
    ],
    revision: Annotated[
        str | None,
        typer.Option(metavar="R", help="A branch, tag or commit of the repository. [main]", show_default=False),
    ] = None,
    precision: engine_options.Precision = None,
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Keep the weights, so that other precisions can be prepared later.")
    ] = False,
    json_: options.Json = False,
    quiet: Quiet = False,
) -> None:
    """
    Download a model and prepare it.

    If a pull is interrupted, the next one downloads only what is missing.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    with needs("local"):
        from musicgen_cli.actions.models.pull import pull as pull_model
    with out.transfer(f"pulling {name}") as listener:
        model = pull_model(
            name,
            settings.models_dir(),
            listener,
            revision=revision,
            precision=precision,
            keep_weights=keep_weights,
        )
    _show_all(out, [model])


def list_(json_: options.Json = False, quiet: Quiet = False) -> None:
    """List the models on this machine, and the precisions that are prepared."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    with needs("local"):
        from musicgen_cli.actions.models.inventory import installed_models
    _show_all(out, list(installed_models(settings.models_dir(), settings.cache_dir(), out.warn)))


def show(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A model's name or folder.")],
    check: Annotated[bool, typer.Option("--check", help="Check every file first; exit 7 if one is damaged.")] = False,
    json_: options.Json = False,
) -> None:
    """
    Show a model's licence, origin, sizes, files and precisions.

    mean_kl is how far a precision is from float32: the mean KL divergence of the next code, in nats, over one take. Of
    a published model that isn't on this machine, what a pull downloads and what it then needs of disk and memory.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.forms import flat
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_)
    cache = settings.cache_dir()
    with needs("local"):
        from musicgen_cli.actions.models import inventory
        from musicgen_cli.actions.models.fidelity import fidelity_of
        from musicgen_cli.checkpoint.checkpoint import find_checkpoint
    try:
        model = find_checkpoint(name, settings.models_dir(), cache)
    except ModelAbsentError:
        figures = inventory.figures(name)
        if figures is None or check:
            raise
        details = figures
        out.note_always(f"{details['name']} is not on this machine; `musicgen model pull {name}` downloads it")
    else:
        if check:
            inventory.check(model, cache)
            out.note("no file is damaged")
        details = inventory.details(model, cache)
        for precision, values in details["precisions"].items():
            values["mean_kl"] = fidelity_of(model, precision, cache, out.note)
    if json_:
        out.json(details)
    else:
        out.pairs(flat(details))


def check(
    name: Annotated[str, typer.Argument(metavar="[NAME|PATH]", help="A model's name or folder.")] = "auto",
    json_: options.Json = False,
) -> None:
    """
    Check that a model is complete and makes what it should; exit 1 if not.

    Files, tokenizer, tensors, a take of 2 s, and how near each precision is to float32. The published small and
    stereo-small are also compared with what transformers is known to make of them; that needs --keep-weights when they
    are pulled. The last line is a summary to paste into a report.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.errors import ProblemsFoundError

    out = Output(as_json=json_)
    cache = settings.cache_dir()
    with needs("local"):
        from musicgen_cli.actions.models.examine import OK, WRONG, examine, summary
        from musicgen_cli.actions.models.published import clips_of
        from musicgen_cli.checkpoint.checkpoint import find_checkpoint
    model = find_checkpoint(name, settings.models_dir(), cache)
    findings = []
    for finding in examine(model, clips_of(model), cache, out.note):
        findings.append(finding)
        if json_:
            out.json({"name": finding.name, "state": finding.state, "text": finding.text})
        else:
            out.pairs({finding.name: finding.text if finding.state == OK else f"{finding.state}: {finding.text}"})
    report = summary(model, findings)
    if json_:
        out.json({"summary": report})
    else:
        out.line(report)
    problems = sum(finding.state == WRONG for finding in findings)
    if problems:
        raise ProblemsFoundError(problems, hint="the summary says which; send it along if you report them")


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As `musicgen model list` shows them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Remove; otherwise only list what would be removed.")] = False,
    json_: options.Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove models from this machine."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.text import size

    out = Output(as_json=json_, quiet=quiet)
    models_dir = settings.models_dir()
    with needs("local"):
        from musicgen_cli.actions.models.inventory import plan_removal, remove
    removals = [plan_removal(name, models_dir) for name in dict.fromkeys(names)]
    for removal in removals:
        if yes:
            remove(removal.name, models_dir)
        if json_:
            out.json({"name": removal.name, "size_bytes": removal.size_bytes, "removed": yes})
        elif quiet:
            out.line(removal.name)
        else:
            out.line(f"{removal.name}\t{size(removal.size_bytes)}")
    if not yes:
        out.note_always(f"{plural(len(removals), 'model')} would be removed: `--yes` removes")


def _show_all(out: "Output", models: "list[Checkpoint]") -> None:
    """Show models as a table on a terminal, else one per line: name, bytes, precisions, licence, source."""
    from musicgen_cli import settings
    from musicgen_cli.actions.models.inventory import summary
    from musicgen_cli.text import one_line

    summaries = [summary(model, settings.cache_dir()) for model in models]
    if out.is_table:
        out.models(summaries)
        return
    for values in summaries:
        if out.as_json:
            out.json(values)
        elif out.quiet:
            out.line(one_line(str(values["name"])))
        else:
            fields = values | {"precisions": ",".join(values["precisions"]), "license": values["license"] or ""}
            out.line("\t".join(one_line(str(field)) for field in fields.values()))


commands = {"pull": pull, "list": list_, "show": show, "check": check, "rm": rm}
