"""Training the embedded model from nothing or without a concept, and measuring it.

Commands run by hand; no other package imports them.
"""
