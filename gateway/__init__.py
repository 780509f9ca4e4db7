"""The gRPC front: decodes images, tokenizes texts, queues them for the workers, scores what comes back."""
