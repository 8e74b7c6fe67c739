"""Models: inputs as a model sees them, Wide & Deep on TorchRec for training, and its plain torch twin for serving."""
