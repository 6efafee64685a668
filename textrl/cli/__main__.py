"""``python -m textrl.cli``, which is also what torchrun starts: ``torchrun -m textrl.cli run CONFIG``."""

import sys

from textrl.cli.app import main

sys.exit(main())
