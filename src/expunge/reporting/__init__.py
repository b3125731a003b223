"""The report: a page that is a function of run folders alone. Reads rows and pictures, never a model."""

from expunge.reporting.page import write as write
