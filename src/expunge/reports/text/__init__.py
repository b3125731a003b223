"""The sentences of a report: conclusions and verdicts from rows.

Says no more than was measured.
"""
