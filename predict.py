"""Write lung masks: python predict.py ckpt=RUN/checkpoints/best.ckpt input=FILE_OR_FOLDER output=DIR"""

import sys

from lungseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
