"""What a packed file or a checkpoint holds, read without the code of its network."""
