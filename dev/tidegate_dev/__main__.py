"""Entry point of `python -m tidegate_dev`."""

import sys

from tidegate_dev.cli import main

sys.exit(main())
