"""The chapter's model: MNIST data, the perceptron, training, save and restore, SavedModel export.

In: settings.model and image files. Out: a versioned SavedModel with its fixed requests, checkpoints,
Keras files. Never here: serving, images, clusters. TensorFlow is imported only by saver, keras_files
and graph, and only when they are used; slipway itself runs those in a process of their own (tasks).
"""
