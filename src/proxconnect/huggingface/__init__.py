"""Binary networks in Hugging Face's libraries. Import this package to register the method with transformers."""

from proxconnect.export.gguf.container import GgufFileError
from proxconnect.huggingface.gguf import from_gguf
from proxconnect.huggingface.hub import from_pretrained, save_pretrained
from proxconnect.huggingface.quantizer import ProxConnectConfig

__all__ = ["GgufFileError", "ProxConnectConfig", "from_gguf", "from_pretrained", "save_pretrained"]
