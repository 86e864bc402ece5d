"""`musicgen export`: copies stored takes to files."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musicgen_cli.cli import options
from musicgen_cli.cli.option_groups import OptionGroup
from musicgen_cli.cli.stores import TakeIds, open_store
from musicgen_cli.errors import UsageError

if TYPE_CHECKING:
    from musicgen_cli.actions.library.loops import LoopOptions


@dataclass(frozen=True)
class FileOptions(OptionGroup):
    """Where the files go, and what they are."""

    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Write to this file or folder, or to stdout if -. [current folder]",
            show_default=False,
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Template of file names in a folder. [{prompt_slug}-{seed}-{id}]",
            show_default=False,
        ),
    ] = None
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="wav|flac|ogg|mp3",
            help="Format of the files; all but wav need the extra audio or ffmpeg. [by the suffix, else wav]",
            show_default=False,
        ),
    ] = None
    metadata: Annotated[
        bool,
        typer.Option(
            "--metadata/--no-metadata", help="Write the record into each file; without it a WAV is bit-exact."
        ),
    ] = True
    sidecar: Annotated[bool, typer.Option("--sidecar", help="Write the record as JSON beside each file.")] = False
    force: options.Force = False

    def check_for_stdout(self) -> None:
        """
        Check that nothing was asked for that only files can have.

        Raises:
            UsageError: Something was.
        """
        from musicgen_cli.actions.library.export import check_format

        if self.name is not None or self.sidecar:
            raise UsageError("--name and --sidecar are for files, and -o - writes to stdout")
        if self.form not in {None, "wav"}:
            check_format(self.form, None)
            raise UsageError(
                f"-o - writes WAV, not {self.form}", hint=f"musicgen export ID -o - | ffmpeg -i - take.{self.form}"
            )


@dataclass(frozen=True)
class LoopFlags(OptionGroup):
    """Whether takes are cut into loops, and how."""

    loop: Annotated[
        bool,
        typer.Option("--loop", help="Cut whole bars that repeat without a seam, or cross-fade a take without a beat."),
    ] = False
    bpm: Annotated[
        float | None,
        typer.Option(help="Tempo of the loop. [the prompt's, or measured]", show_default=False),
    ] = None
    bars: Annotated[
        int | None, typer.Option(help="Length of the loop in bars of four beats. [all that fit]", show_default=False)
    ] = None

    def loop_options(self) -> "LoopOptions | None":
        """
        Return how a take is cut into a loop; None if it isn't.

        Raises:
            UsageError: An option of a loop was given without `--loop`.
            InvalidValueError: A value is out of its range.
        """
        from musicgen_cli.actions.library.loops import LoopOptions

        for option, value in (("--bpm", self.bpm), ("--bars", self.bars)):
            if value is not None and not self.loop:
                raise UsageError(f"{option} needs --loop")
        return LoopOptions(self.bpm, self.bars) if self.loop else None


def command(
    ids: TakeIds,
    files: FileOptions,
    loop: LoopFlags,
    store_path: options.StoreOption = None,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """
    Copy stored takes to files.

    A file that exists is replaced only with --force. Files carry their title, their licence and, as a comment, the
    record of the take, which `musicgen import` reads back from a WAV. A WAV on stdout carries none of this.
    """
    from musicgen_cli.actions.library.export import convert, export, resolve_target
    from musicgen_cli.actions.library.takes import find_takes
    from musicgen_cli.cli.output import Output

    out = Output(as_json=json_, quiet=quiet)
    cut = loop.loop_options()
    store = open_store(store_path, out)
    artifacts = find_takes(ids, store)
    if files.output == "-":
        files.check_for_stdout()
        out.check_sound(many=len(artifacts) > 1)
        out.sound(convert(store.read_blob(artifacts[0]), artifacts[0], loop=cut, metadata=False, note=out.note))
        return
    target = resolve_target(
        files.output,
        name=files.name,
        many=len(artifacts) > 1,
        force=files.force,
        sidecar=files.sidecar,
        format_=files.form,
        loop=cut,
        metadata=files.metadata,
    )
    for text in target.warnings:
        out.warn(text)
    written: set[Path] = set()
    for artifact in artifacts:
        out.exported(artifact, export(artifact, store, target, written, note=out.note))
