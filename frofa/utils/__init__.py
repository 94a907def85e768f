"""Files, digests of files, JSON, text, progress: what every part leans on. Nothing here imports torch or timm."""
