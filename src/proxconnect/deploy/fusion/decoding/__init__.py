"""Run the decoder layers of packed language models in one call for each new token."""
