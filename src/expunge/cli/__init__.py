"""The command line: `expunge VERB ...`, one file for each verb. Nothing heavy is imported before a verb runs."""

from expunge.cli.app import main
