"""Train a network: python train.py model=resunet trainer.devices=2"""

import sys

from lungseg.cli import main

if __name__ == "__main__":  # workers that start by spawning import this file
    sys.exit(main(["train", *sys.argv[1:]]))
