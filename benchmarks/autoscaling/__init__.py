"""Workers that come and go with the queue: the formula of KEDA and of Kubernetes, simulated and for real."""
