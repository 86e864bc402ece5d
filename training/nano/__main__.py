"""`python -m training.nano STEP`: each step reads what the one before left in the run's folder; see NOTES.md."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Each step is imported when it is run: training needs no engine, and evaluation no training.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(prog="python -m training.nano", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)

    codec = steps.add_parser("codec", help="compute the codec and compare it with ideal synthesis; writes nothing")
    codec.add_argument("--pieces", type=int, default=8)

    train = steps.add_parser("train", help="train, or go on; may be killed at any time")
    train.add_argument("--run", type=Path, required=True, help="folder of the state and the log")
    train.add_argument("--steps", type=int, help="in all, with those already made")
    train.add_argument("--processes", type=int, help="one for each core")
    train.add_argument("--seed", type=int)
    train.add_argument("--positions", type=int, help="frames a step")
    train.add_argument("--warm-up", type=int, help="steps of the text encoder alone")

    assemble = steps.add_parser("assemble", help="write the checkpoint's folder")
    assemble.add_argument("--run", type=Path, required=True)
    assemble.add_argument("--out", type=Path, required=True)

    evaluate = steps.add_parser("evaluate", help="measure any checkpoint; several are put side by side")
    evaluate.add_argument("checkpoints", type=Path, nargs="+")
    evaluate.add_argument("--seeds", type=int, default=3)
    evaluate.add_argument("--prompts", type=int, dest="most", help="of each kind; all unless given")
    evaluate.add_argument("--pieces", type=int, default=40, help="from which the classifiers learn each label")
    evaluate.add_argument("--seconds", type=float, default=8.0)
    evaluate.add_argument("--long-seconds", type=float, default=30.0)
    evaluate.add_argument("--cache", type=Path, required=True, help="folder of what was generated; goes on from there")

    sheet = steps.add_parser("sheet", help="draw a spectrogram of each genre")
    sheet.add_argument("checkpoint", type=Path)
    sheet.add_argument("--out", type=Path, required=True, help="a PNG")
    sheet.add_argument("--cache", type=Path, required=True)

    for step, run in ((codec, _codec), (train, _train), (assemble, _assemble), (evaluate, _evaluate), (sheet, _sheet)):
        step.set_defaults(run_step=run)
    chosen = vars(parser.parse_args(arguments))
    del chosen["step"]
    chosen.pop("run_step")(**chosen)


def _codec(pieces: int) -> None:
    from training.nano import codec, fidelity

    fidelity.report(codec.build().half().float(), pieces)


def _train(run: Path, **given: int | None) -> None:
    from training.nano.train import Recipe, train

    train(run, Recipe(**{name: value for name, value in given.items() if value is not None}))


def _assemble(run: Path, out: Path) -> None:
    from training.nano.assemble import assemble

    assemble(run, out)


def _evaluate(checkpoints: list[Path], cache: Path, **extent: Any) -> None:
    from training.nano.evaluate import Extent, evaluate

    evaluate(checkpoints, cache, Extent(**extent))


def _sheet(checkpoint: Path, out: Path, cache: Path) -> None:
    from training.nano.sheet import sheet

    sheet(checkpoint, out, cache)


if __name__ == "__main__":
    main()
