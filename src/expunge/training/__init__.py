"""The training loop and what it calls: banks of points, batches, the trained state, preconditioning, processes, stopping.

Knows the methods' base class and no single method; writes nothing but checkpoints and logs.
"""
