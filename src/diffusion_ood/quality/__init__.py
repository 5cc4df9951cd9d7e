"""Quality of samples: how far the distribution of their features is from that of real images."""
