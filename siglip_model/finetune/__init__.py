"""Fine-tuning of a checkpoint on pairs of pictures and captions; `siglip train` is its command."""
