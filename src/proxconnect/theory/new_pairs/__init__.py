"""New legitimate pairs and prox maps, from parts that you choose."""
