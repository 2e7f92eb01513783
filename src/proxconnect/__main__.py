"""Run the command: `python -m proxconnect`."""

import sys

from proxconnect.cli.command import main

sys.exit(main())
