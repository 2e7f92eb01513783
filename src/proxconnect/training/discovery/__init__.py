"""Discovery: a search for pairs and their paths of μ, over spaces that a file describes."""
