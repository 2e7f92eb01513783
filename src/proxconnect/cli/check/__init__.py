"""The parts of `proxconnect check`: the pair asked about, its mended form, and the verdicts as text and JSON."""
