"""The doors: the names of the commands."""

import sys
from collections.abc import Sequence

USAGE = """\
lungseg: lung CT segmentation with a residual U-Net

  lungseg train     trains on generated chests, or on your own slices: lungseg train --help
  lungseg check     finds the faults of a data set before a training:  lungseg check --help
  lungseg inspect   says what lies in a folder of scans:               lungseg inspect --help
  lungseg predict   writes lung masks for scans and pictures:          lungseg predict --help
  lungseg evaluate  says how good masks are, whoever made them:        lungseg evaluate --help
  lungseg compare   says whether one run beats another:                lungseg compare --help
  lungseg report    shows what a sweep says of each choice:            lungseg report --help
  lungseg --version"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code: 0 done, 1 done in part, 2 refused with a sentence, 130 interrupted."""
    command, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command == "train":
        from lungseg.commands import train

        return train.main(rest)
    if command == "check":
        from lungseg.commands import check

        return check.main(rest)
    if command == "inspect":
        from lungseg.commands import inspect

        return inspect.main(rest)
    if command == "predict":
        from lungseg.commands import predict

        return predict.main(rest)
    if command == "evaluate":
        from lungseg.commands import evaluate

        return evaluate.main(rest)
    if command == "compare":
        from lungseg.commands import compare

        return compare.main(rest)
    if command == "report":
        from lungseg.commands import report

        return report.main(rest)
    if command in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if command == "--version":
        from lungseg import __version__

        print(__version__)
        return 0
    print(f"lungseg has no command {command!r}.\n\n{USAGE}", file=sys.stderr)
    return 2
