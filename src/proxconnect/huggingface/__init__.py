"""Binary networks in Hugging Face's libraries; importing this package is what tells transformers of them."""

from proxconnect.huggingface.hub import from_pretrained, save_pretrained
from proxconnect.huggingface.quantizer import ProxConnectConfig

__all__ = ["ProxConnectConfig", "from_pretrained", "save_pretrained"]
