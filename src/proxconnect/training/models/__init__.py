"""Networks that serve full precision, binary weights and binary activations alike."""
