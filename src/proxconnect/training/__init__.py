"""Training on real data: data sets, models, and runs of recipes by Lightning."""
