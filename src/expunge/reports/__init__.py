"""Reports: pages made from run folders alone.

Imports no torch and never loads a model.
"""
