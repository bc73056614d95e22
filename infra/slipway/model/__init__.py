"""The model: training and export, and what holds for every SavedModel, checkpoint and Keras file.

In: settings.model and image files, or a SavedModel brought along. Out: a versioned SavedModel with its fixed
requests, checkpoints, Keras files. Never here: serving, images of containers, clusters. What needs
TensorFlow imports it only when it is used, and runs in a process of its own: `python -m slipway.model TASK`.
"""
