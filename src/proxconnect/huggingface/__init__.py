"""Binary networks in Hugging Face's libraries. Import this package to register the method with transformers."""

from proxconnect.huggingface.hub import from_pretrained, save_pretrained
from proxconnect.huggingface.quantizer import ProxConnectConfig

__all__ = ["ProxConnectConfig", "from_pretrained", "save_pretrained"]
