"""Images: the units of pixels, the estimator, what is evaluated."""
