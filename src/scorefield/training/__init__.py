"""From rows to a trained model: objectives, the loop, settings, the closed form that a network corrects."""
