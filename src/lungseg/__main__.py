"""``python -m lungseg``, where no script of that name is found."""

import sys

from lungseg.cli import main

sys.exit(main())
