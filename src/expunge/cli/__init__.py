"""The command line, `expunge VERB ...`: one file for each verb, and what verbs share.

Nothing that needs torch is imported before a verb computes. No other package imports this one.
"""

from expunge.cli.app import main
