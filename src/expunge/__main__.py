"""`python -m expunge`: the command line, for launchers that start modules."""

import sys

from expunge.cli.app import main

sys.exit(main())
