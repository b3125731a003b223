"""Estimates of how much information about a concept a model's weights contain, in nats and without a judge.

They are computed from noise predictions. Images are written only for the report.
"""
