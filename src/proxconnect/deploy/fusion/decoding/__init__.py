"""Run the decoder layers of packed language models in one call for each new token."""

from proxconnect.deploy.fusion.decoding.architecture import is_decoder_layer
from proxconnect.deploy.fusion.decoding.token_forward import TokenForward

__all__ = ["TokenForward", "is_decoder_layer"]
