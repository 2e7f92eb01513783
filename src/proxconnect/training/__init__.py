"""Training on real data: data sets, models, runs and the demo. No library module imports this package.

The benches and the command line do.
"""
