"""Make the checkpoint `nano`: each step reads what the previous one wrote into the run's folder. See NOTES.md."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Each step is imported when it runs, since training needs no engine.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(prog="python -m training.nano", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)

    codec = steps.add_parser(
        "codec", help="compute the codec and compare it with the synthesis in float64; writes nothing"
    )
    codec.add_argument("--pieces", type=int, default=8, help="to compare [8]")

    train = steps.add_parser("train", help="train, or continue a training; may be killed at any time")
    train.add_argument("--run", type=Path, required=True, help="folder for the state and the log")
    train.add_argument("--steps", type=int, help="before the finishing ones, including those of earlier runs [30000]")
    train.add_argument("--finishing", type=int, help="further steps, with more jingles [6000]")
    train.add_argument("--processes", type=int, help="one for each core [2]")
    train.add_argument("--seed", type=int, help="of everything that is drawn [1]")
    train.add_argument("--positions", type=int, help="frames of a step, in all processes together [3000]")
    train.add_argument("--warm-up", type=int, help="steps of the text encoder alone [300]")

    assemble = steps.add_parser("assemble", help="write the folder of the checkpoint")
    assemble.add_argument("--run", type=Path, required=True, help="folder with the state of the training")
    assemble.add_argument("--out", type=Path, required=True, help="folder to write")
    assemble.add_argument(
        "--sharpness",
        type=float,
        nargs=4,
        default=argparse.SUPPRESS,
        help="1 / temperature, in the output heads of the streams [1.5 1.25 1.25 1]",
    )

    evaluate = steps.add_parser("evaluate", help="measure checkpoints and print a table with a column for each")
    evaluate.add_argument("checkpoints", type=Path, nargs="+")
    evaluate.add_argument("--seeds", type=int, default=3, help="clips of each prompt [3]")
    evaluate.add_argument("--prompts", type=int, dest="prompts_per_kind", help="of each kind [all]")
    evaluate.add_argument("--pieces", type=int, default=40, help="of each label, to fit the classifiers [40]")
    evaluate.add_argument("--seconds", type=float, default=8.0, help="duration of a clip [8]")
    evaluate.add_argument("--long-seconds", type=float, default=30.0, help="duration of a long clip [30]")
    evaluate.add_argument("--takes", type=int, default=8, help="of each prompt, for what listeners minded; 0: none [8]")
    evaluate.add_argument(
        "--cache", type=Path, required=True, help="folder for finished clips, which aren't made again"
    )

    listen = steps.add_parser("listen", help="print the second table of evaluate alone; works without a checkpoint")
    listen.add_argument("checkpoints", type=Path, nargs="*")
    listen.add_argument("--takes", type=int, default=8, help="of each prompt [8]")
    listen.add_argument("--cache", type=Path, required=True, help="folder for what was measured in finished takes")

    describe = steps.add_parser("describe", help="print what plays in each bar of takes")
    describe.add_argument("checkpoint", type=Path)
    describe.add_argument("prompts", nargs="+")
    describe.add_argument("--takes", type=int, default=10, help="of each prompt [10]")
    describe.add_argument("--seconds", type=float, default=20.0, help="duration of a take [20]")
    describe.add_argument("--cache", type=Path, required=True, help="folder for the graphs of the engine")

    sheet = steps.add_parser("sheet", help="draw spectrograms and waveforms")
    sheet.add_argument("checkpoint", type=Path)
    sheet.add_argument("prompts", nargs="*", help="one clip of each is drawn [all genres]")
    sheet.add_argument("--out", type=Path, required=True, help="the PNG to write")
    sheet.add_argument("--cache", type=Path, required=True, help="folder for the graphs of the engine")

    for step, run in (
        *((codec, _codec), (train, _train), (assemble, _assemble)),
        *((evaluate, _evaluate), (listen, _listen), (describe, _describe), (sheet, _sheet)),
    ):
        step.set_defaults(run_step=run)
    options = vars(parser.parse_args(arguments))
    del options["step"]
    options.pop("run_step")(**options)


def _codec(pieces: int) -> None:
    from training.nano import codec, fidelity

    fidelity.report(codec.build().half().float(), pieces)


def _train(run: Path, **recipe: int | None) -> None:
    from training.nano.train import Recipe, train

    train(run, Recipe(**{name: value for name, value in recipe.items() if value is not None}))


def _assemble(**options: Any) -> None:
    from training.nano.assemble import assemble

    assemble(**options)


def _evaluate(checkpoints: list[Path], cache: Path, **extent: Any) -> None:
    from training.nano.evaluate import Extent, evaluate

    evaluate(checkpoints, cache, Extent(**extent))


def _listen(checkpoints: list[Path], cache: Path, takes: int) -> None:
    from training.nano.evaluate import listen

    listen(checkpoints, cache, takes)


def _describe(checkpoint: Path, prompts: list[str], cache: Path, takes: int, seconds: float) -> None:
    from training.nano.describe import describe

    describe(checkpoint, prompts, cache, takes=takes, seconds=seconds)


def _sheet(checkpoint: Path, prompts: list[str], out: Path, cache: Path) -> None:
    from training.nano.sheet import sheet

    sheet(checkpoint, out, cache, prompts=prompts)


if __name__ == "__main__":
    main()
