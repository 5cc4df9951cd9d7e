"""Drawing images: samples of a model, and what lies between two images."""
