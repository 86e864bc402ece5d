"""`musicgen model`: model weights on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.errors import UsageError
from musicgen_cli.extras import needs

if TYPE_CHECKING:
    from musicgen_cli.checkpoint.checkpoint import Checkpoint
    from musicgen_cli.cli.output import Output

Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Names alone on stdout, no talk.")]


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|OWNER/REPO|DIR",
            help="small, medium, large, stereo-small, …; a repository of the hub; or a checkpoint's folder.",
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(metavar="R", help="A branch, tag or commit.", show_default=False)
    ] = None,
    precision: options.Precision = None,
    keep_weights: Annotated[
        bool, typer.Option("--keep-weights", help="Keep the weights too, so that any precision can be made later.")
    ] = False,
    json_: options.Json = False,
    quiet: Quiet = False,
) -> None:
    """
    Fetch a model and prepare it.

    What an interrupted pull has fetched whole is kept, and used by the next one.
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
    """Show which models are here, and in which precisions they are ready."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    with needs("local"):
        from musicgen_cli.actions.models.inventory import installed_models
    _show_all(out, list(installed_models(settings.models_dir(), settings.cache_dir(), out.warn)))


def show(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A model's name or folder.")],
    check: Annotated[bool, typer.Option("--check", help="Read every byte again; exit 7 if one is wrong.")] = False,
    json_: options.Json = False,
) -> None:
    """
    Show all that is known of a model.

    How far a precision is from float32 is the mean KL divergence of what comes next, in nats, on one take.
    """
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output, flat

    out = Output(as_json=json_)
    cache = settings.cache_dir()
    with needs("local"):
        from musicgen_cli.actions.models import inventory
        from musicgen_cli.actions.models.fidelity import fidelity_of
        from musicgen_cli.checkpoint.checkpoint import find_checkpoint
    model = find_checkpoint(name, settings.models_dir(), cache)
    if check:
        inventory.check(model, cache)
        out.note("every byte is as it was")
    known = inventory.details(model, cache)
    for precision, values in known["precisions"].items():
        values["mean_kl"] = fidelity_of(model, precision, cache, out.note)
    if json_:
        out.json(known)
    else:
        out.pairs(flat(known))


def rm(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="As `musicgen model list` shows them.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really; without it, what would go is shown.")] = False,
    json_: options.Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove models from this machine."""
    from musicgen_cli import settings
    from musicgen_cli.cli.output import Output
    from musicgen_cli.text import size

    out = Output(as_json=json_, quiet=quiet)
    where = settings.models_dir()
    with needs("local"):
        from musicgen_cli.actions.models.inventory import plan_removal, remove
    would_go = [plan_removal(name, where) for name in dict.fromkeys(names)]
    for model in would_go:
        if yes:
            remove(model.name, where)
        if json_:
            out.json({"name": model.name, "size_bytes": model.size_bytes, "removed": yes})
        elif quiet:
            out.line(model.name)
        else:
            out.line(f"{model.name}\t{size(model.size_bytes)}")
    if not yes:
        models = "1 model" if len(would_go) == 1 else f"{len(would_go)} models"
        raise UsageError(f"{models} would be removed, nothing was", hint="--yes removes")


def _show_all(out: "Output", models: "list[Checkpoint]") -> None:
    """Show models: a table on a terminal, else one a line: name, bytes, precisions, licence, source."""
    from musicgen_cli import settings
    from musicgen_cli.actions.models.inventory import summary
    from musicgen_cli.text import one_line

    known = [summary(model, settings.cache_dir()) for model in models]
    if out.is_table:
        out.models(known)
        return
    for values in known:
        if out.as_json:
            out.json(values)
        elif out.quiet:
            out.line(one_line(str(values["name"])))
        else:
            fields = values | {"precisions": ",".join(values["precisions"]), "license": values["license"] or ""}
            out.line("\t".join(one_line(str(field)) for field in fields.values()))


commands = {"pull": pull, "list": list_, "show": show, "rm": rm}
