"""The contents of packed files and of checkpoints, read without the code of their networks."""
