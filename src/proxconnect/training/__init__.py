"""Training on real data: data sets, models. No library module imports this package.

The benches and the command line do.
"""
