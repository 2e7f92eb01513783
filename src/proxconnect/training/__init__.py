"""Training on real data: data sets, models, and runs by Lightning of what a recipe says.

What makes and packs binary networks knows nothing of it; the bench, the demo, studies and the command line do.
"""
