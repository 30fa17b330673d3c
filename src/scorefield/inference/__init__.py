"""What is asked of a model: samples, likelihoods, bounds, chains, and what a sampler costs."""
