"""SigLIP 2: the Gemma tokenizer of all its checkpoints, and NaFlex, which keeps a picture's shape.

Fixed-resolution checkpoints are models of the first kind, `siglip_model.SiglipModel`; only their
tokenizer lives here.
"""
