"""The information meter: how many nats of a concept a model's weights still hold, estimated without a judge.

Reads predictions alone; images are only written for the report.
"""
