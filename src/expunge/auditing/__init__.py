"""The audit: a battery of attacks on an unlearned model and on its controls, under a budget, and what may be said of it."""
