"""The parts of `proxconnect check`: the pair asked about, the verdicts on it, and the mended pair."""
