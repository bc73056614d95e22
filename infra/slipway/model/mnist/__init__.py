"""The chapter's model: MNIST data, the perceptron, its training and its export.

In: settings.model and image files. Out: a versioned SavedModel with its fixed requests.
Never here: what holds for any SavedModel.
"""
